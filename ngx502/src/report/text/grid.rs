//! Tables of the text: columns aligned by their widest cell, folded where a line is too narrow for all of them.

use std::fmt::Write as _;
use std::ops::Range;

use crate::escape;
use crate::wrap::{columns, cut, wrap};

/// Columns that the text of a cell may take, folded or not.
const LONGEST_CELL: usize = 120;
/// The fewest columns that a folded cell is worth showing in.
const NARROWEST: usize = 16;

/// Appends a table, of which the first row is the head, in lines of at most `width` columns, as far as folding can do
/// that. Columns in `numbers` are aligned to the right; those in `folding` may be folded, the first of them first.
/// Hostile text becomes harmless.
pub(super) fn print<const N: usize>(
    page: &mut String,
    width: usize,
    rows: Vec<[String; N]>,
    numbers: Range<usize>,
    folding: &[usize],
) {
    let safe = |cell: String| cut(&escape::terminal(cell.as_bytes()), LONGEST_CELL);
    let rows: Vec<_> = rows.into_iter().map(|row| row.map(safe)).collect();
    let widths = widths(&rows, width, folding);
    for row in &rows {
        let cells: [Vec<String>; N] = std::array::from_fn(|column| wrap(&row[column], widths[column]));
        for number in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let mut line = String::new();
            for (column, cell) in cells.iter().enumerate() {
                let text = cell.get(number).map_or("", String::as_str);
                let gap = " ".repeat(widths[column].saturating_sub(columns(text)));
                let _ = match numbers.contains(&column) {
                    true => write!(line, "  {gap}{text}"),
                    false => write!(line, "  {text}{gap}"),
                };
            }
            let _ = writeln!(page, "{}", line.trim_end());
        }
    }
}

/// The widest cell of each column; where they are too wide together, the foldable ones give way.
fn widths<const N: usize>(rows: &[[String; N]], width: usize, folding: &[usize]) -> [usize; N] {
    let widest = |column: usize| rows.iter().map(|row| columns(&row[column])).max().unwrap_or(0);
    let mut widths: [usize; N] = std::array::from_fn(widest);
    for &column in folding {
        let excess = (widths.iter().sum::<usize>() + 2 * N).saturating_sub(width);
        widths[column] = widths[column].saturating_sub(excess).max(NARROWEST.min(widths[column]));
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: usize) -> String {
        let rows = [
            ["upstream", "failed", "causes"],
            ["unix:/run/php/php8.2-fpm.sock", "1,200", "oom-killed 1,100, queue-full 100"],
            ["10.0.0.1:80\x1b[2J", "7", "dns 7"],
        ];
        let mut page = String::new();
        print(&mut page, width, rows.map(|row| row.map(str::to_owned)).to_vec(), 1..2, &[2, 0]);
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
}
