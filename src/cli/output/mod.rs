//! What commands print: tables and objects in the six formats of Incus.
//!
//! Called by the handlers of `list`-like commands. A handler parses `--format` with [`Format::parse`] before it does
//! anything else, makes a [`Table`] of cells and the list of view objects, and calls [`print`]. The objects go to `json` and
//! `yaml`, the cells to everything else. Nothing here reads state or knows a command.

pub mod columns;
mod csv;
mod format;
pub mod json;
mod table;
pub mod yaml;

pub use format::{Format, Kind};
pub use table::{Table, ascii, compact, markdown};

use crate::error::Result;
use serde::Serialize;
use std::io::Write;

/// Sorts rows of cells in natural order of their columns from left to right; an empty cell comes last.
pub fn sort_rows(rows: &mut [Vec<String>]) {
    rows.sort_by(|a, b| crate::base::natural::compare_rows(a, b));
}

/// Writes `table` or `objects` to `out` in `format`, ending with a newline.
///
/// Rows are printed in the order given: sort them with [`sort_rows`] first, `objects` stay in store order.
///
/// # Errors
/// Writing failed, or an object does not serialise.
pub fn print<T: Serialize + ?Sized>(out: &mut dyn Write, format: &Format, table: &Table, objects: &T) -> Result<()> {
    let header = if format.noheader { &[][..] } else { &table.header };
    let text = match format.kind {
        Kind::Table => ascii(header, &table.rows),
        Kind::Compact => compact(header, &table.rows),
        Kind::Markdown => markdown(header, &table.rows),
        Kind::Csv => csv::render(if format.header { header } else { &[] }, &table.rows),
        Kind::Json => json::line(objects)?,
        Kind::Yaml => yaml::document(objects)?,
    };
    out.write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn table() -> Table {
        Table::new(["NAME", "STATE"], vec![vec!["c1".into(), "RUNNING".into()], vec!["c10".into(), "STOPPED".into()]])
    }

    fn show(format: &str) -> String {
        let mut out = Vec::new();
        let objects = vec![BTreeMap::from([("name", "c<1>&")])];
        print(&mut out, &Format::parse(format).unwrap(), &table(), &objects).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn formats_to_the_byte() {
        assert_eq!(
            show("table"),
            "+------+---------+\n\
             | NAME |  STATE  |\n\
             +------+---------+\n\
             | c1   | RUNNING |\n\
             +------+---------+\n\
             | c10  | STOPPED |\n\
             +------+---------+\n"
        );
        assert_eq!(
            show("table,noheader"),
            "+-----+---------+\n\
             | c1  | RUNNING |\n\
             +-----+---------+\n\
             | c10 | STOPPED |\n\
             +-----+---------+\n"
        );
        assert_eq!(show("compact"), " NAME   STATE  \n c1    RUNNING \n c10   STOPPED \n");
        assert_eq!(show("compact,noheader"), " c1   RUNNING \n c10  STOPPED \n");
        assert_eq!(show("csv"), "c1,RUNNING\nc10,STOPPED\n");
        assert_eq!(show("csv,header"), "NAME,STATE\nc1,RUNNING\nc10,STOPPED\n");
        assert_eq!(
            show("markdown"),
            "| NAME |  STATE  |\n|:----:|:-------:|\n|  c1  | RUNNING |\n| c10  | STOPPED |\n"
        );
        assert_eq!(show("json"), "[{\"name\":\"c\\u003c1\\u003e\\u0026\"}]\n");
        assert_eq!(show("yaml"), "- name: c<1>&\n");
    }
}
