//! JSON as Go's `encoding/json` writes it: one line, and `<`, `>`, `&`, U+2028 and U+2029 escaped, so that `--format json`
//! equals Incus's byte for byte.

use crate::error::{Context, Error, Result};
use serde::Serialize;
use std::fmt::Write;

/// One line of JSON without a final newline.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let plain =
        serde_json::to_string(value).map_err(|e| Error::internal(e.to_string())).context("Failed writing JSON")?;
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            // Outside strings none of these can occur.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_go() {
        assert_eq!(to_string("<a&b>\u{2028}\"").expect("json"), r#""\u003ca\u0026b\u003e\u2028\"""#);
    }
}
