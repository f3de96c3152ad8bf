//! Matrix products over slices with arbitrary strides, on the calling thread. The only unsafe code of the differentiable forward.
#![expect(
    unsafe_code,
    reason = "the gemm crate takes raw pointers; the views below prove that they stay inside their slices"
)]

use super::real::Real;

/// A read-only view of `rows × columns` values.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A view whose rows are `row_stride` values apart and begin at the start of `data`.
    pub(super) fn new(data: &'a [T], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(columns <= row_stride || rows <= 1, "rows of a matrix overlap");
        assert!(needed(rows, columns, row_stride) <= data.len(), "a matrix reaches beyond its slice");
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The same values with rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// A writable view of `rows × columns` values, rows `row_stride` apart.
pub(super) struct MatrixMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a, T> MatrixMut<'a, T> {
    /// See [`Matrix::new`].
    pub(super) fn new(data: &'a mut [T], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(columns <= row_stride || rows <= 1, "rows of a matrix overlap");
        assert!(needed(rows, columns, row_stride) <= data.len(), "a matrix reaches beyond its slice");
        Self { data, rows, columns, row_stride }
    }
}

/// Whether a product replaces what the destination holds or adds to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    Replace,
    Add,
}

/// `destination = scale · left × right`, or `+=`.
pub(super) fn multiply<T: Real>(
    destination: MatrixMut<'_, T>,
    write: Write,
    left: Matrix<'_, T>,
    right: Matrix<'_, T>,
    scale: T,
) {
    let MatrixMut { data, rows: m, columns: n, row_stride } = destination;
    let k = left.columns;
    assert!(left.rows == m && right.columns == n && right.rows == k, "shapes of a matrix product do not fit");
    if m == 0 || n == 0 || (k == 0 && write == Write::Add) {
        return;
    }
    // SAFETY: the constructors checked that every index row · row_stride + column · column_stride of the three views lies in
    // its slice; the destination is exclusively borrowed, so it overlaps neither operand; its rows do not overlap.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            data.as_mut_ptr(),
            1,
            row_stride.cast_signed(),
            write == Write::Add,
            left.data.as_ptr(),
            left.column_stride.cast_signed(),
            left.row_stride.cast_signed(),
            right.data.as_ptr(),
            right.column_stride.cast_signed(),
            right.row_stride.cast_signed(),
            T::one(),
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

fn needed(rows: usize, columns: usize, row_stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + columns }
}
