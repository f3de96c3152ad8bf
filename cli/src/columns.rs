//! Tables for people: names to the left, figures to the right, no lines.

use comfy_table::{Cell, CellAlignment, Table, presets};

/// A table without a line break at its end; all columns after the first `names` are figures.
pub(crate) fn columns(names: usize, heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let aligned = |texts: Vec<String>| -> Vec<Cell> {
        let cells = texts.into_iter().enumerate().map(|(index, text)| {
            let alignment = if index < names { CellAlignment::Left } else { CellAlignment::Right };
            Cell::new(text).set_alignment(alignment)
        });
        cells.collect()
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(aligned(heads.iter().map(|&head| head.to_owned()).collect()));
    for row in rows {
        table.add_row(aligned(row));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
