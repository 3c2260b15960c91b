//! The committed manual pages and completion scripts equal fresh output, and the scripts' way to ask works.
#![allow(clippy::disallowed_methods, reason = "tests start programs and read files")]

mod common;

use std::collections::BTreeMap;
use std::process::Command;

fn committed(folder: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(common::root().join(folder)).expect("generated folder");
    let path = |e: std::io::Result<std::fs::DirEntry>| e.expect("entry").path();
    let file = |p: std::path::PathBuf| {
        (p.file_name().expect("name").to_string_lossy().into_owned(), std::fs::read(p).expect("file"))
    };
    entries.map(path).map(file).collect()
}

fn compare(folder: &str, command: &str, fresh: Vec<(String, Vec<u8>)>) {
    let fresh: BTreeMap<String, Vec<u8>> = fresh.into_iter().collect();
    let old = committed(folder);
    let names = old.keys().chain(fresh.keys());
    let stale: Vec<&String> = names.filter(|name| old.get(*name) != fresh.get(*name)).collect();
    assert!(
        stale.is_empty(),
        "stale under {folder}/: {stale:?}\nrm -r {folder} && cargo run -- generate {command} {folder}"
    );
}

#[test]
fn manual_is_fresh() {
    compare("man", "man", stapes::cli::generate::man_pages().expect("pages"));
}

#[test]
fn completions_are_fresh() {
    compare("completions", "completions", stapes::cli::generate::completion_scripts().expect("scripts"));
}

/// Asks as the bash script does; `words` end with the word under the cursor.
fn complete(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_stapes"))
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "true")
        .env("_CLAP_IFS", "\n")
        .env("STAPES_DIR", common::root().join("target/no-such-state"))
        .arg("--")
        .args(words)
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_program_completes_itself() {
    assert_eq!(complete(&["stapes", "lau"]).trim(), "launch");
    assert!(complete(&["stapes", "config", "device", "a"]).contains("add"));
    assert!(complete(&["stapes", "list", "--fo"]).contains("--format"));
    assert!(complete(&["stapes", "config", "device", "add", "c1", "d", "unix-c"]).contains("unix-char"));
    // By their names, and by the others where there is no name.
    let offered = complete(&["stapes", "remote", ""]);
    let words: Vec<&str> = offered.lines().collect();
    assert!(words.contains(&"rename") && words.contains(&"switch") && words.contains(&"remove"), "{offered}");
    assert!(!words.contains(&"mv") && !words.contains(&"set-default"), "{offered}");
    assert_eq!(complete(&["stapes", "remote", "set-d"]).trim(), "set-default");
    assert!(complete(&["stapes", "network", "rm", "--exp"]).contains("--explain"));
    let offered = complete(&["stapes", "generate", ""]);
    assert!(offered.contains("systemd") && !offered.contains("completions"), "hidden commands stay hidden");
}
