//! JSON as Go's encoding/json writes it: one line, `<`, `>`, `&` and the two Unicode line separators escaped.

use crate::error::{Context as _, Result};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io;

struct GoEscapes;

impl Formatter for GoEscapes {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            out.write_all(&rest.as_bytes()[..at])?;
            let special = rest[at..].chars().next().unwrap_or_default();
            write!(out, "\\u{:04x}", u32::from(special))?;
            rest = &rest[at + special.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

/// `value` on one line, with a newline at the end.
///
/// # Errors
/// The value does not serialise.
pub fn line<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let mut out = Vec::with_capacity(256);
    value
        .serialize(&mut Serializer::with_formatter(&mut out, GoEscapes))
        .map_err(io::Error::from)
        .context("Failed writing JSON")?;
    out.push(b'\n');
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_like_go() {
        let text = "a<b>&c\u{2028}\u{2029}é\"\\\n\u{1}\u{7f}";
        assert_eq!(line(text).unwrap(), "\"a\\u003cb\\u003e\\u0026c\\u2028\\u2029é\\\"\\\\\\n\\u0001\u{7f}\"\n");
        assert_eq!(
            line(&serde_json::json!({"a":[1,true,null],"<":{}})).unwrap(),
            "{\"\\u003c\":{},\"a\":[1,true,null]}\n"
        );
    }
}
