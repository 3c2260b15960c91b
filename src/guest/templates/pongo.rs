//! Rewrites what pongo2 spells differently from Jinja, so that templates written for Incus render.
//!
//! Used by `templates` only. Touches nothing outside of `{{ }}` and `{% %}`, nor string literals inside. Covered: filter
//! arguments after a colon, `&&`, `||`, `!`, `forloop`, loops over the pairs of a map, `comment`, `verbatim`,
//! `autoescape on|off`, `ifequal` and `ifnotequal`. What neither knows fails when it is parsed.

/// The template for minijinja.
pub fn to_jinja(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 64);
    let mut rest = source;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min() {
        out.push_str(&rest[..at]);
        let (open, close) = match &rest[at..at + 2] {
            "{{" => ("{{", "}}"),
            "{%" => ("{%", "%}"),
            _ => ("{#", "#}"),
        };
        let body = &rest[at + 2..];
        let Some(end) = (if open == "{#" { body.find(close) } else { end_of(body, close) }) else {
            // Unfinished: the parser says so.
            out.push_str(&rest[at..]);
            return out;
        };
        let inside = &body[..end];
        rest = &body[end + 2..];
        match open {
            "{{" => out.extend(["{{", &expression(inside), "}}"]),
            "{%" => rest = block(inside, rest, &mut out),
            _ => {}
        }
    }
    out.push_str(rest);
    out
}

/// Where `close` is outside of string literals.
fn end_of(body: &str, close: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if body[at..].starts_with(close) => return Some(at),
            None => {}
        }
    }
    None
}

/// Writes the block tag `inside`; returns what is left of `rest` (more is eaten by `comment` and `verbatim`).
fn block<'a>(inside: &str, rest: &'a str, out: &mut String) -> &'a str {
    let words = inside.trim_matches(|c: char| c == '-' || c.is_whitespace());
    let (tag, argument) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
    let argument = argument.trim();
    match tag {
        "comment" => split_at_tag(rest, "endcomment").1,
        "verbatim" => {
            let (raw, after) = split_at_tag(rest, "endverbatim");
            out.extend(["{% raw %}", raw, "{% endraw %}"]);
            after
        }
        "autoescape" => {
            // Never escaped: results are configuration files.
            out.push_str("{% if true %}");
            rest
        }
        "endautoescape" | "endifequal" | "endifnotequal" => {
            out.push_str("{% endif %}");
            rest
        }
        "ifequal" | "ifnotequal" => {
            let sign = if tag == "ifequal" { "==" } else { "!=" };
            let (one, other) = two_operands(argument);
            out.push_str(&format!("{{% if {} {sign} {} %}}", expression(one), expression(other)));
            rest
        }
        "for" => {
            let text = expression(inside);
            out.push_str(&format!("{{%{}%}}", pairs(&text)));
            rest
        }
        _ => {
            out.extend(["{%", &expression(inside), "%}"]);
            rest
        }
    }
}

/// Splits at the block tag `end`, which is dropped; all of it is the first part if the tag is missing.
fn split_at_tag<'a>(text: &'a str, end: &str) -> (&'a str, &'a str) {
    let mut from = 0;
    while let Some(at) = text[from..].find("{%").map(|at| from + at) {
        // Not the sign that is the opening one's: `{%}` closes nothing.
        let Some(close) = text[at + 2..].find("%}").map(|close| at + 2 + close) else { break };
        if text[at + 2..close].trim_matches(|c: char| c == '-' || c.is_whitespace()) == end {
            return (&text[..at], &text[close + 2..]);
        }
        from = at + 2;
    }
    (text, "")
}

/// The two operands of `ifequal`, apart at the first space outside of a literal.
fn two_operands(argument: &str) -> (&str, &str) {
    match end_of(argument, " ") {
        Some(at) => (&argument[..at], argument[at..].trim()),
        None => (argument, ""),
    }
}

/// `for k, v in map` needs the map's pairs asked for in Jinja.
fn pairs(text: &str) -> String {
    let Some((targets, list)) = text.split_once(" in ") else { return text.to_string() };
    if !targets.contains(',') {
        return text.to_string();
    }
    let list = list.trim_end().trim_end_matches('-').trim_end();
    let list = list.strip_suffix(" sorted").unwrap_or(list);
    format!("{targets} in {list}|items ")
}

/// Rewrites an expression, literals untouched.
fn expression(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '"' | '\'' => {
                let len = literal(rest);
                out.push_str(&rest[..len]);
                len
            }
            '&' if rest.starts_with("&&") => push(&mut out, " and ", 2),
            '|' if rest.starts_with("||") => push(&mut out, " or ", 2),
            '|' => filter(rest, &mut out),
            '!' if !rest.starts_with("!=") => push(&mut out, " not ", 1),
            c if c.is_alphabetic() || c == '_' => {
                let len = word(rest);
                out.push_str(&forloop(&rest[..len]));
                len
            }
            c => {
                out.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

fn push(out: &mut String, text: &str, taken: usize) -> usize {
    out.push_str(text);
    taken
}

/// Length of the string literal at the begin of `text`.
fn literal(text: &str) -> usize {
    let quote = &text[..1];
    end_of_literal(&text[1..], quote).map_or(text.len(), |at| at + 2)
}

fn end_of_literal(text: &str, quote: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if quote.starts_with(c) => return Some(at),
            _ => {}
        }
    }
    None
}

/// Length of the dotted name at the begin of `text`.
fn word(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(text.len())
}

fn forloop(name: &str) -> String {
    let Some(field) = name.strip_prefix("forloop.") else { return name.to_string() };
    let field = match field {
        "Counter" => "index",
        "Counter0" => "index0",
        "Revcounter" => "revindex",
        "Revcounter0" => "revindex0",
        "First" => "first",
        "Last" => "last",
        other => other,
    };
    format!("loop.{field}")
}

/// `|name:argument` becomes `|name(argument)`; returns how much was taken.
fn filter(text: &str, out: &mut String) -> usize {
    let skipped = 1 + text[1..].len() - text[1..].trim_start().len();
    let name = word(&text[skipped..]);
    let after = skipped + name;
    out.push('|');
    out.push_str(&text[skipped..after]);
    let Some(argument) = text[after..].strip_prefix(':') else { return after };
    let space = argument.len() - argument.trim_start().len();
    let argument = &argument[space..];
    let len = match argument.chars().next() {
        Some('"' | '\'') => literal(argument),
        _ => argument.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))).unwrap_or(argument.len()),
    };
    out.push_str(&format!("({})", forloop(&argument[..len])));
    after + 1 + space + len
}
