//! Tables of the text: columns aligned by their widest cell, folded where a line is too narrow for all of them.

use std::fmt::{Display, Write as _};
use std::ops::Range;

use crate::escape;
use crate::wrap::{columns, cut, wrap};

/// Columns that the text of a cell may take, folded or not.
const LONGEST_CELL: usize = 120;
/// The fewest columns that a folded cell is worth showing in.
const NARROWEST: usize = 16;

/// A table of `N` columns.
pub(super) struct Grid<const N: usize> {
    rows: Vec<[String; N]>,
    /// Columns aligned to the right.
    numbers: Range<usize>,
    /// Columns that may be folded, those to be folded first in front.
    folding: &'static [usize],
}

impl<const N: usize> Grid<N> {
    /// A table with nothing but its head.
    pub(super) fn new(head: [&str; N], numbers: Range<usize>, folding: &'static [usize]) -> Self {
        Grid { rows: vec![head.map(str::to_owned)], numbers, folding }
    }

    /// Adds a row; hostile text becomes harmless.
    pub(super) fn row(&mut self, cells: [&dyn Display; N]) {
        let safe = |cell: &dyn Display| cut(&escape::terminal(cell.to_string().as_bytes()), LONGEST_CELL);
        self.rows.push(cells.map(safe));
    }

    /// Appends the table in lines of at most `width` columns, as far as folding can do that; nothing without rows.
    pub(super) fn print(&self, page: &mut String, width: usize) {
        if self.rows.len() < 2 {
            return;
        }
        let widths = self.widths(width);
        for row in &self.rows {
            let cells: [Vec<String>; N] = std::array::from_fn(|column| wrap(&row[column], widths[column]));
            for number in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let mut line = String::new();
                for (column, cell) in cells.iter().enumerate() {
                    let text = cell.get(number).map_or("", String::as_str);
                    let gap = " ".repeat(widths[column].saturating_sub(columns(text)));
                    let _ = match self.numbers.contains(&column) {
                        true => write!(line, "  {gap}{text}"),
                        false => write!(line, "  {text}{gap}"),
                    };
                }
                let _ = writeln!(page, "{}", line.trim_end());
            }
        }
    }

    /// The widest cell of each column; where they are too wide together, the foldable ones give way.
    fn widths(&self, width: usize) -> [usize; N] {
        let widest = |column: usize| self.rows.iter().map(|row| columns(&row[column])).max().unwrap_or(0);
        let mut widths: [usize; N] = std::array::from_fn(widest);
        for &column in self.folding {
            let excess = (widths.iter().sum::<usize>() + 2 * N).saturating_sub(width);
            widths[column] = widths[column].saturating_sub(excess).max(NARROWEST.min(widths[column]));
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: usize) -> String {
        let mut grid = Grid::new(["upstream", "failed", "causes"], 1..2, &[2, 0]);
        grid.row([&"unix:/run/php/php8.2-fpm.sock", &"1,200", &"oom-killed 1,100, queue-full 100"]);
        grid.row([&"10.0.0.1:80\x1b[2J", &7, &"dns 7"]);
        let mut page = String::new();
        grid.print(&mut page, width);
        page
    }

    #[test]
    fn what_fits_is_not_folded() {
        insta::assert_snapshot!(shown(80), @r"
          upstream                       failed  causes
          unix:/run/php/php8.2-fpm.sock   1,200  oom-killed 1,100, queue-full 100
          10.0.0.1:80\x1b[2J                  7  dns 7
        ");
    }

    #[test]
    fn what_does_not_fit_is_folded_in_the_order_told() {
        insta::assert_snapshot!(shown(60), @r"
          upstream                       failed  causes
          unix:/run/php/php8.2-fpm.sock   1,200  oom-killed 1,100,
                                                 queue-full 100
          10.0.0.1:80\x1b[2J                  7  dns 7
        ");
        let narrow = shown(50);
        assert!(narrow.lines().all(|line| columns(line) <= 50), "{narrow}");
        assert_eq!(narrow.split_whitespace().count(), shown(80).split_whitespace().count() + 1, "{narrow}");
    }

    #[test]
    fn a_table_without_rows_is_nothing() {
        let mut page = String::new();
        Grid::new(["a", "b"], 1..2, &[]).print(&mut page, 80);
        assert_eq!(page, "");
    }
}
