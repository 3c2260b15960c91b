//! CSV as Go's encoding/csv writes it (RFC 4180 with line feeds): a field is quoted when it is needed, and only then.

/// The rows, `header` first if it is not empty.
pub fn render(header: &[String], rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    for row in std::iter::once(header).filter(|h| !h.is_empty()).chain(rows.iter().map(Vec::as_slice)) {
        for (i, field) in row.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            push_field(&mut out, field);
        }
        out.push('\n');
    }
    out
}

fn push_field(out: &mut String, field: &str) {
    if !needs_quotes(field) {
        out.push_str(field);
        return;
    }
    out.push('"');
    for c in field.chars() {
        if c == '"' {
            out.push('"');
        }
        out.push(c);
    }
    out.push('"');
}

/// Go quotes `\.` (a marker of PostgreSQL's COPY), fields with a separator, a quote or a line break, and those that begin
/// with white space; the empty field stays bare.
fn needs_quotes(field: &str) -> bool {
    field == "\\." || field.contains(['"', ',', '\n', '\r']) || field.chars().next().is_some_and(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_like_go() {
        let row: Vec<String> = ["a,b", "x\ny", "say \"hi\"", "", " ", "plain", "\\."].map(String::from).to_vec();
        assert_eq!(render(&[], &[row]), "\"a,b\",\"x\ny\",\"say \"\"hi\"\"\",,\" \",plain,\"\\.\"\n");
        assert_eq!(render(&["A".into()], &[]), "A\n");
        assert_eq!(render(&[], &[]), "");
    }
}
