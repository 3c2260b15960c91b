//! Guard: which module may use which. Reads every `crate::…` path under `src/` and compares it with the table below; a new
//! edge is an edit of the table, seen in review.

mod common;

use common::{SourceFile, code_lines, sources};
use std::collections::BTreeSet;

/// Lowest layer first. A module may use the modules of lower layers named in its row and nothing else.
const EDGES: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("fault", &["error"]),
    ("sys", &["error", "fault"]),
    ("base", &["error", "fault"]),
    ("model", &["error", "fault", "base"]),
    // The machine; store asks it for the boot id and for processes, so it stands below store.
    ("host", &["error", "fault", "sys", "base", "model"]),
    ("store", &["error", "fault", "sys", "base", "model", "host"]),
    ("image", L4),
    ("storage", L4),
    ("network", L4),
    ("device", L4),
    ("container", L4),
    ("vm", L4),
    ("guest", L4),
    ("backup", L4),
    ("remote", L4),
    ("ops", L5),
    ("monitor", L6),
    ("nameserver", L6),
    ("proxy", L6),
    ("agent", L6),
    ("api", L6),
    ("cli", L6),
];

/// The L4 modules do not use each other: they meet in `model::attach` and `ops::wiring`.
const L4: &[&str] = &["error", "fault", "sys", "base", "model", "host", "store"];

const L5: &[&str] = &[
    "error",
    "fault",
    "sys",
    "base",
    "model",
    "host",
    "store",
    "image",
    "storage",
    "network",
    "device",
    "container",
    "vm",
    "guest",
    "backup",
    "remote",
];

/// The fronts do not use each other.
const L6: &[&str] = &[
    "error",
    "fault",
    "sys",
    "base",
    "model",
    "host",
    "store",
    "image",
    "storage",
    "network",
    "device",
    "container",
    "vm",
    "guest",
    "backup",
    "remote",
    "ops",
];

fn allowed(from: &str) -> Option<&'static [&'static str]> {
    EDGES.iter().find(|(module, _)| *module == from).map(|(_, to)| *to)
}

/// The first components of all `crate::` paths in `text`, groups (`use crate::{a, b::c}`) included.
fn used(text: &str) -> BTreeSet<String> {
    let code: String = code_lines(text).map(|(_, line)| line.to_string() + "\n").collect();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let joined = code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$');
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            _ if joined => {}
            Some(group) => found.extend(group_heads(group)),
            None => found.extend(identifier(rest)),
        }
    }
    found
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    // Upper case: an item re-exported at the root, which is not a module.
    (!name.is_empty() && !name.starts_with(char::is_uppercase)).then_some(name)
}

/// The first components of a use group; `text` begins behind its opening brace.
fn group_heads(text: &str) -> Vec<String> {
    let mut depth = 1;
    let mut heads = vec![String::new()];
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => heads.push(String::new()),
            _ if depth == 1 => heads.last_mut().expect("never empty").push(c),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads.iter().filter_map(|head| identifier(head.trim())).collect()
}

/// Edges of `file` that the table does not have.
fn violations(file: &SourceFile) -> Vec<String> {
    let Some(module) = file.module() else { return Vec::new() };
    let Some(allowed) = allowed(module) else {
        return vec![format!("{}: module \"{module}\" is not in the table", file.path)];
    };
    used(&file.text)
        .into_iter()
        .filter(|to| to != module && !allowed.contains(&to.as_str()))
        .map(|to| format!("{}: {module} must not use {to}", file.path))
        .collect()
}

#[test]
fn modules_use_lower_layers_only() {
    let found: Vec<String> = sources().iter().flat_map(violations).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn table_goes_downwards() {
    for (at, (module, uses)) in EDGES.iter().enumerate() {
        for used in *uses {
            let below = EDGES[..at].iter().any(|(m, _)| m == used);
            assert!(below, "{module} uses {used}, which does not stand above it in the table");
        }
    }
}

#[test]
fn the_guard_can_fail() {
    let file = |path: &str, text: &str| SourceFile { path: path.to_string(), text: text.to_string(), test_only: false };
    let bad = file("src/storage/dir.rs", "use crate::{\n    error::Error,\n    container::plan::{Plan, cli},\n};");
    assert_eq!(violations(&bad), ["src/storage/dir.rs: storage must not use container"]);
    assert_eq!(violations(&file("src/cli/x.rs", "fn f() { crate::monitor::run() }")).len(), 1);
    assert_eq!(violations(&file("src/newcomer.rs", "")).len(), 1);
    let good =
        "// crate::cli::x\n/// [`crate::cli`]\nuse crate::error::Result;\nuse my_crate::cli;\npub(crate) fn f() {}";
    assert_eq!(violations(&file("src/sys/mod.rs", good)), [""; 0]);
}
