//! Guards on the source text: file sizes, the border of `unsafe`, key strings, banned calls, headers, placeholders.
//! Each guard is also run on a bad sample, so that it is known to be able to fail.

mod common;

use common::{SourceFile, sources};
use std::collections::BTreeSet;
use std::sync::LazyLock;

const MOST_LINES: usize = 600;

/// Files that may be longer, and why.
const LONG: &[(&str, &str)] = &[];

/// A pattern, the files that may hold it (prefixes), and what to use instead.
const BANNED: &[(&str, &[&str], &str)] = &[
    // In cli::app it is clap's.
    ("Command::new(", &["src/host/command.rs", "src/cli/edit.rs", "src/cli/app.rs"], "host::command"),
    ("thread::sleep(", &[], "wait on a descriptor"),
    ("fs::write(", &["src/store/atomic.rs", "src/cli/edit.rs", "src/cli/generate.rs"], "store::atomic or sys::path"),
    ("File::create(", &["src/store/atomic.rs"], "store::atomic or sys::path"),
    ("env::var", &["src/cli/env.rs", "src/sys/backtrace.rs"], "cli::env"),
    ("env::set_", &["src/sys/backtrace.rs"], "hand the value down"),
    ("set_current_dir", &[], "a directory descriptor"),
    ("println!", &[], "cli::Context::line"),
    ("eprint!", &[], "cli::report"),
    ("process::exit(", &["src/sys/"], "return an ExitCode"),
    ("fs2::", &["src/store/lock", "src/sys/flock.rs"], "store::lock"),
    ("netlink_", &["src/sys/netlink/", "src/host/links/"], "host::links"),
    ("to_socket_addrs", &[], "our resolver"),
    ("User::from_", &[], "/etc/passwd read by ourselves"),
    ("Group::from_", &[], "/etc/group read by ourselves"),
    ("todo!(", &[], "the code"),
    ("unimplemented!(", &[], "the code"),
    ("allow(clippy::disallowed_methods", &["src/lib.rs", "src/cli/env.rs"], "expect, on the smallest item"),
];

/// A guard: what is wrong with a file.
type Guard = fn(&SourceFile) -> Vec<String>;

fn run(guard: Guard) {
    let found: Vec<String> = sources().iter().flat_map(guard).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The guard finds something in `bad` and nothing in `good`.
fn can_fail(guard: Guard, path: &str, bad: &str, good: &str) {
    let file = |text: &str| SourceFile { path: path.to_string(), text: text.to_string(), test_only: false };
    assert!(!guard(&file(bad)).is_empty(), "the guard let this through: {bad}");
    assert_eq!(guard(&file(good)), Vec::<String>::new());
}

fn size(file: &SourceFile) -> Vec<String> {
    let lines = file.text.lines().count();
    let excused = LONG.iter().any(|(path, _)| *path == file.path);
    match lines > MOST_LINES && !excused {
        true => vec![format!("{}: {lines} lines, at most {MOST_LINES}: split it by subject", file.path)],
        false => Vec::new(),
    }
}

#[test]
fn files_are_short() {
    run(size);
    can_fail(size, "src/x.rs", &"x\n".repeat(MOST_LINES + 1), &"x\n".repeat(MOST_LINES));
    for (path, reason) in LONG {
        assert!(reason.len() > 20, "{path} needs a reason");
        let file = sources().into_iter().find(|f| f.path == *path);
        assert!(file.is_some_and(|f| f.text.lines().count() > MOST_LINES), "{path} is short: take it off the list");
    }
}

fn unsafe_border(file: &SourceFile) -> Vec<String> {
    if file.path.starts_with("src/sys/") {
        return Vec::new();
    }
    let marks = [
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
        "unsafe extern",
        "unsafe trait",
        "allow(unsafe_code",
        "expect(unsafe_code",
    ];
    let hits = file.shipped_lines().into_iter().filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)));
    hits.map(|(number, _)| format!("{}:{number}: unsafe belongs in src/sys", file.path)).collect()
}

#[test]
fn unsafe_code_is_in_sys() {
    run(unsafe_border);
    can_fail(unsafe_border, "src/base/x.rs", "fn f() { unsafe { g() } }", "// unsafe { }\nlet unsafe_word = \"x\";");
    can_fail(unsafe_border, "src/base/x.rs", "#[allow(unsafe_code)]", "#[cfg(test)]\nmod tests {\n unsafe { g() }\n}");
}

/// Names of all instance keys: the literals in the registry that look like one. Options of devices are no keys.
static KEYS: LazyLock<BTreeSet<String>> = LazyLock::new(keys);

fn keys() -> BTreeSet<String> {
    let of_keys = |path: &str| path.starts_with("src/model/keys/") && !path.starts_with("src/model/keys/device");
    let registry = sources().into_iter().filter(|f| of_keys(&f.path) && !f.is_test());
    let literals: Vec<String> = registry
        .flat_map(|f| f.shipped_lines().into_iter().flat_map(|(_, l)| literals(l)).collect::<Vec<_>>())
        .collect();
    literals.into_iter().filter(|text| is_key(text)).collect()
}

fn is_key(text: &str) -> bool {
    let spaces = [
        "boot.",
        "cloud-init.",
        "limits.",
        "linux.",
        "migration.",
        "nvidia.",
        "oci.",
        "raw.",
        "security.",
        "snapshots.",
    ];
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)) && !text.ends_with('.');
    plain && spaces.iter().any(|space| text.starts_with(space))
}

fn literals(line: &str) -> Vec<String> {
    line.split('"').skip(1).step_by(2).map(String::from).collect()
}

fn key_strings(file: &SourceFile) -> Vec<String> {
    if file.path.starts_with("src/model/keys/") {
        return Vec::new();
    }
    let hits = file
        .shipped_lines()
        .into_iter()
        .flat_map(|(number, line)| literals(line).into_iter().map(move |l| (number, l)));
    hits.filter(|(_, literal)| KEYS.contains(literal))
        .map(|(number, literal)| format!("{}:{number}: \"{literal}\": use the constant of model::keys", file.path))
        .collect()
}

#[test]
fn key_strings_are_in_the_registry() {
    assert!(KEYS.len() > 40 && KEYS.contains("security.privileged"), "{} keys found", KEYS.len());
    run(key_strings);
    can_fail(
        key_strings,
        "src/ops/x.rs",
        "config.get(\"security.privileged\")",
        "format!(\"see security.privileged\")",
    );
}

fn banned(file: &SourceFile) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in file.shipped_lines() {
        for (pattern, excused, instead) in BANNED {
            if line.contains(pattern) && !excused.iter().any(|path| file.path.starts_with(path)) {
                found.push(format!("{}:{number}: {pattern} is banned: use {instead}", file.path));
            }
        }
    }
    found
}

#[test]
fn banned_calls_are_absent() {
    run(banned);
    can_fail(
        banned,
        "src/ops/x.rs",
        "std::process::Command::new(\"sh\")",
        "// Command::new(\nlet x = host::command(\"sh\");",
    );
    can_fail(banned, "src/base/x.rs", "std::env::var_os(\"HOME\")", "");
}

fn header(file: &SourceFile) -> Vec<String> {
    let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if file.is_test() || first.starts_with("//!") {
        Vec::new()
    } else {
        vec![format!("{}: begins without a //! header", file.path)]
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    run(header);
    can_fail(header, "src/x.rs", "use std::fs;", "//! Purpose.\nuse std::fs;");
}

fn placeholders(file: &SourceFile) -> Vec<String> {
    let marks = ["TODO", "FIXME", "XXX", "HACK"];
    let is_mark = |word: &str| marks.contains(&word);
    let hits = file
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.split(|c: char| !c.is_ascii_alphanumeric()).any(is_mark) && line.contains("//"));
    hits.map(|(i, _)| format!("{}:{}: a placeholder", file.path, i + 1)).collect()
}

#[test]
fn no_placeholders() {
    run(placeholders);
    can_fail(placeholders, "src/x.rs", "let a = 1; // TODO later", "let todo = \"TODOS\";");
}
