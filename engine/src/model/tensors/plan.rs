//! What is the same for all layers of a forward: rotations, and which keys the rows of each piece see.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use crate::differentiable::composed::Rotations;
use crate::differentiable::{Dimensions, RopeTable};
use crate::model::Segment;

/// Rows whose scores are held at a time, so that a long prompt needs no square matrix.
const PIECE_ROWS: usize = 256;

/// Made once for a forward.
pub(super) struct Plan {
    /// Of all rows, one segment after the other.
    pub(super) rotations: Rotations,
    /// For each window that a layer has, the pieces of each segment.
    windows: Vec<(Option<usize>, Vec<Vec<Piece>>)>,
}

/// Consecutive rows of a segment and the keys that some of them see.
pub(super) struct Piece {
    /// Counted from the first row of the segment.
    pub(super) rows: Range<usize>,
    /// Positions.
    pub(super) keys: Range<usize>,
    /// `[rows, keys]` of f32: 0 where a row sees a key, −∞ elsewhere; none where all see all.
    pub(super) mask: Option<Tensor>,
}

impl Plan {
    pub(super) fn new(d: &Dimensions, segments: &[Segment<'_>], dtype: DType, device: &Device) -> Result<Self> {
        let positions = |segment: &Segment<'_>| segment.cache.len()..segment.cache.len() + segment.tokens.len();
        let all: Vec<u32> = segments.iter().flat_map(positions).map(|position| position as u32).collect();
        let rotations = Rotations::new(&RopeTable::new(&all, &d.rope_frequencies), dtype, device)?;
        let mut windows: Vec<(Option<usize>, Vec<Vec<Piece>>)> = Vec::new();
        for layer in &d.layers {
            if windows.iter().all(|(window, _)| *window != layer.window) {
                let pieces = segments.iter().map(|segment| pieces(positions(segment), layer.window, device));
                windows.push((layer.window, pieces.collect::<Result<_>>()?));
            }
        }
        Ok(Self { rotations, windows })
    }

    /// Pieces of each segment in a layer with this window.
    pub(super) fn pieces(&self, window: Option<usize>) -> &[Vec<Piece>] {
        self.windows.iter().find(|(known, _)| *known == window).map_or(&[], |(_, pieces)| pieces)
    }
}

fn pieces(positions: Range<usize>, window: Option<usize>, device: &Device) -> Result<Vec<Piece>> {
    let starts = positions.clone().step_by(PIECE_ROWS);
    let piece = |start: usize| {
        let rows = start..positions.end.min(start + PIECE_ROWS);
        let keys = first_seen(start, window)..rows.end;
        // of a single row the first and the last key are the first and the last of all
        let mask = (rows.len() > 1).then(|| mask(&rows, &keys, window, device)).transpose()?;
        Ok(Piece { rows: rows.start - positions.start..rows.end - positions.start, keys, mask })
    };
    starts.map(piece).collect()
}

/// The first position that a row sees.
fn first_seen(position: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

/// Compared on the device: the mask of a long context is larger than its positions. Whole numbers are exact in f32 up to 2^24, which no
/// context exceeds.
fn mask(rows: &Range<usize>, keys: &Range<usize>, window: Option<usize>, device: &Device) -> Result<Tensor> {
    let column = |values: Vec<f32>| Tensor::from_vec(values, (rows.len(), 1), device);
    let last = column(rows.clone().map(|row| row as f32).collect())?;
    let first = column(rows.clone().map(|row| first_seen(row, window) as f32).collect())?;
    let keys = Tensor::from_vec(keys.clone().map(|key| key as f32).collect::<Vec<_>>(), (1, keys.len()), device)?;
    let seen = (keys.broadcast_le(&last)? * keys.broadcast_ge(&first)?)?;
    let shape = seen.shape().clone();
    let zero = Tensor::zeros(&shape, DType::F32, device)?;
    let hidden = Tensor::full(f32::NEG_INFINITY, shape, device)?;
    seen.where_cond(&zero, &hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_rows_and_masks_hide_what_comes_after_and_what_is_too_far() {
        for (positions, window) in
            [(0..1, None), (7..8, Some(3)), (0..600, None), (250..300, Some(20)), (5..700, Some(300)), (9..12, Some(1))]
        {
            let mut covered = 0;
            for Piece { rows, keys, mask } in pieces(positions.clone(), window, &Device::Cpu).unwrap() {
                assert_eq!(rows.start, covered);
                assert!(rows.len() <= PIECE_ROWS);
                covered = rows.end;
                let mask = mask.map(|mask| mask.to_vec2::<f32>().unwrap());
                for row in rows.clone() {
                    let position = positions.start + row;
                    for key in 0..positions.end {
                        let near = window.is_none_or(|window| position < key + window);
                        let seen = keys.contains(&key)
                            && mask.as_ref().is_none_or(|mask| mask[row - rows.start][key - keys.start] == 0.0);
                        assert_eq!(seen, key <= position && near, "{positions:?}, {window:?}: {position} at {key}");
                    }
                }
            }
            assert_eq!(covered, positions.len());
        }
    }
}
