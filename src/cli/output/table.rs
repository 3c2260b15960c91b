//! The three column layouts: `table`, `compact`, `markdown`, to the byte as Incus prints them.
//!
//! Every cell is trimmed and tabs become spaces; a column is as wide as its widest line plus one space at each side; the
//! header is centred with the odd space at the right; cells may have several lines. Own code because the crates that draw
//! tables differ in one of these.

use std::borrow::Cow;
use unicode_width::UnicodeWidthStr;

/// A header and rows of cells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Column names.
    pub header: Vec<String>,
    /// Rows; a cell may hold line feeds.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of `header` and `rows`.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>, rows: Vec<Vec<String>>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows }
    }
}

#[derive(Clone, Copy)]
enum Align {
    Left,
    Centre,
}

/// A logical row: its lines, each with one string a column.
type Lines<'a> = Vec<Vec<Cow<'a, str>>>;

struct Grid<'a> {
    header: Option<Lines<'a>>,
    rows: Vec<Lines<'a>>,
    /// Width of each column, its two padding spaces included.
    widths: Vec<usize>,
}

impl<'a> Grid<'a> {
    fn new(header: &'a [String], rows: &'a [Vec<String>]) -> Self {
        let columns = rows.iter().map(Vec::len).chain([header.len()]).max().unwrap_or(0);
        let header = (!header.is_empty()).then(|| lines(header, columns));
        let rows: Vec<Lines> = rows.iter().map(|r| lines(r, columns)).collect();
        let mut widths = vec![0; columns];
        for line in header.iter().chain(&rows).flatten() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.width() + 2);
            }
        }
        Self { header, rows, widths }
    }

    /// Adds one line of text: `edge` at both ends, `between` between cells.
    fn line(&self, out: &mut String, cells: &[Cow<'_, str>], align: Align, (edge, between): (&str, &str)) {
        out.push_str(edge);
        for (at, (cell, width)) in cells.iter().zip(&self.widths).enumerate() {
            if at > 0 {
                out.push_str(between);
            }
            pad(out, cell, *width, align);
        }
        out.push_str(edge);
        out.push('\n');
    }

    fn rule(&self) -> String {
        let dashes: Vec<String> = self.widths.iter().map(|w| "-".repeat(*w)).collect();
        format!("+{}+\n", dashes.join("+"))
    }
}

/// Splits the cells of a row into lines; a line after the first that is blank in every cell is left out.
fn lines(row: &[String], columns: usize) -> Lines<'_> {
    if row.iter().all(|cell| !cell.contains(['\t', '\n'])) {
        let missing = std::iter::repeat_n(Cow::Borrowed(""), columns - row.len());
        return vec![row.iter().map(|cell| Cow::Borrowed(cell.trim())).chain(missing).collect()];
    }
    let cells: Vec<Vec<String>> =
        row.iter().map(|c| c.trim().replace('\t', "    ").split('\n').map(String::from).collect()).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(1);
    let cell = |column: usize, line: usize| {
        Cow::Owned(cells.get(column).and_then(|cell| cell.get(line)).cloned().unwrap_or_default())
    };
    (0..height)
        .map(|i| (0..columns).map(|c| cell(c, i)).collect())
        .enumerate()
        .filter(|(i, line): &(usize, Vec<Cow<str>>)| *i == 0 || line.iter().any(|cell| !cell.trim().is_empty()))
        .map(|(_, line)| line)
        .collect()
}

fn pad(out: &mut String, cell: &str, width: usize, align: Align) {
    let room = width.saturating_sub(cell.width());
    let left = match align {
        Align::Left => 1,
        Align::Centre => room / 2,
    };
    out.extend(std::iter::repeat_n(' ', left));
    out.push_str(cell);
    out.extend(std::iter::repeat_n(' ', room.saturating_sub(left)));
}

/// A bordered table with a rule between every two rows. No header when `header` is empty; nothing at all for no columns.
pub fn ascii(header: &[String], rows: &[Vec<String>]) -> String {
    let grid = Grid::new(header, rows);
    if grid.header.is_none() && grid.rows.is_empty() {
        return String::new();
    }
    let rule = grid.rule();
    let mut out = rule.clone();
    for (lines, align) in
        grid.header.iter().map(|h| (h, Align::Centre)).chain(grid.rows.iter().map(|r| (r, Align::Left)))
    {
        for line in lines {
            grid.line(&mut out, line, align, ("|", "|"));
        }
        out.push_str(&rule);
    }
    out
}

/// The cells of [`ascii`] without borders and rules.
pub fn compact(header: &[String], rows: &[Vec<String>]) -> String {
    let grid = Grid::new(header, rows);
    let mut out = String::new();
    for line in grid.header.iter().flatten() {
        grid.line(&mut out, line, Align::Centre, ("", ""));
    }
    for line in grid.rows.iter().flatten() {
        grid.line(&mut out, line, Align::Left, ("", ""));
    }
    out
}

/// A Markdown table; each line of a cell becomes a line of its own. With a header everything is centred, else left.
pub fn markdown(header: &[String], rows: &[Vec<String>]) -> String {
    let mut grid = Grid::new(header, rows);
    grid.widths.iter_mut().for_each(|w| *w = (*w).max(3));
    let mut out = String::new();
    let mut align = Align::Left;
    if let Some(header) = &grid.header {
        align = Align::Centre;
        // A header of several lines does not exist in Markdown.
        grid.line(&mut out, &header[0], align, ("|", "|"));
        let marks: Vec<String> = grid.widths.iter().map(|w| format!(":{}:", "-".repeat(w - 2))).collect();
        out.push_str(&format!("|{}|\n", marks.join("|")));
    }
    for line in grid.rows.iter().flatten() {
        grid.line(&mut out, line, align, ("|", "|"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
        cells.map(String::from).to_vec()
    }

    #[test]
    fn list_with_two_instances() {
        let header = row(["NAME", "STATE", "IPV4", "IPV6", "TYPE", "SNAPSHOTS"]);
        let rows = vec![
            row(["c1", "RUNNING", "10.0.0.2 (eth0)\n10.1.0.2 (eth1)", "", "CONTAINER", "0"]),
            row(["web", "STOPPED", "", "", "CONTAINER (EPHEMERAL)", "12"]),
        ];
        let expected = "\
+------+---------+-----------------+------+-----------------------+-----------+
| NAME |  STATE  |      IPV4       | IPV6 |         TYPE          | SNAPSHOTS |
+------+---------+-----------------+------+-----------------------+-----------+
| c1   | RUNNING | 10.0.0.2 (eth0) |      | CONTAINER             | 0         |
|      |         | 10.1.0.2 (eth1) |      |                       |           |
+------+---------+-----------------+------+-----------------------+-----------+
| web  | STOPPED |                 |      | CONTAINER (EPHEMERAL) | 12        |
+------+---------+-----------------+------+-----------------------+-----------+
";
        assert_eq!(ascii(&header, &rows), expected);
    }

    #[test]
    fn empty_list_is_a_framed_header() {
        let header = row(["NAME", "STATE"]);
        assert_eq!(ascii(&header, &[]), "+------+-------+\n| NAME | STATE |\n+------+-------+\n");
        assert_eq!(compact(&header, &[]), " NAME  STATE \n");
        assert_eq!(markdown(&header, &[]), "| NAME | STATE |\n|:----:|:-----:|\n");
        assert_eq!(ascii(&[], &[]) + &compact(&[], &[]) + &markdown(&[], &[]), "");
    }

    #[test]
    fn width_is_display_width_and_cells_are_trimmed() {
        let rows = vec![row(["张三", " x\t"]), row(["a", "\n"])];
        assert_eq!(ascii(&[], &rows), "+------+---+\n| 张三 | x |\n+------+---+\n| a    |   |\n+------+---+\n");
        assert_eq!(markdown(&[], &rows), "| 张三 | x |\n| a    |   |\n");
        // An odd space goes to the right of a centred header.
        assert_eq!(ascii(&row(["AB"]), &[row(["abc"])]), "+-----+\n| AB  |\n+-----+\n| abc |\n+-----+\n");
    }
}
