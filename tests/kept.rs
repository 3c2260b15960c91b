//! What `tests/run` spares itself (`tests/lib/kept.sh`), tried in a checkout of its own: what passed does not run again, and
//! does as soon as something that decides about it is different; what failed always does.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// What a step runs: it counts its runs outside of the checkout, and fails, or changes a source, if a file there says so.
const STEP: &str =
    "echo run >>../runs; echo \"test result: ok$1\"; [ ! -e ../edits ] || echo edited >src; [ ! -e ../fails ]";

/// A folder with a checkout `tree` in it.
struct Checkout(tempfile::TempDir);

impl Checkout {
    fn new() -> Self {
        let new = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(new.0.path().join("tree")).unwrap();
        for (file, text) in [("src", "one"), ("README.md", "text"), (".gitignore", "/target\n")] {
            new.write(file, text);
        }
        new.shell("git init -q . && git add . && git -c user.name=x -c user.email=x@x commit -q -m x");
        new
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join("tree").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Runs it in the checkout: whether it went well.
    fn shell(&self, script: &str) -> bool {
        let mut bash = Command::new("bash");
        bash.args(["-uc", script]).current_dir(self.path("")).env("STEP", STEP);
        bash.env("LIB", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lib/kept.sh"));
        bash.status().unwrap().success()
    }

    /// A run of the step: whether it passed, and whether it really ran. Its log must be there in any case.
    fn step(&self, words: &str, again: &str) -> (bool, bool) {
        let found = self.step_that_says(words, again, "");
        assert_eq!(std::fs::read_to_string(self.path("../log")).unwrap(), "test result: ok\n");
        found
    }

    fn step_that_says(&self, words: &str, again: &str, said: &str) -> (bool, bool) {
        let before = self.runs();
        let _ = std::fs::remove_file(self.path("../log"));
        let script = format!(
            ". \"$LIB\"; kept_begin {words}; kept_again={again}; kept_run 'a step' ../log sh -c \"$STEP\" sh '{said}'; code=$?
            echo \"${{kept:-ran}}\" >../said; exit $code"
        );
        let passed = self.shell(&script);
        let ran = self.runs() > before;
        let said = std::fs::read_to_string(self.path("../said")).unwrap();
        assert_eq!(said.trim(), if ran { "ran" } else { "kept" });
        (passed, ran)
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.path("../runs")).map_or(0, |text| text.lines().count())
    }

    /// The step ran once more and passed; from now on it is kept.
    fn runs_once(&self, why: &str) {
        assert_eq!(self.step("", ""), (true, true), "{why}: it must run");
        assert_eq!(self.step("", ""), (true, false), "{why}: it must run once only");
    }
}

#[test]
fn what_passed_is_kept_until_something_changes() {
    let checkout = Checkout::new();
    checkout.runs_once("the first time");
    checkout.write("README.md", "another text");
    assert_eq!(checkout.step("", ""), (true, false), "a text decides about nothing");
    checkout.write("src", "two");
    checkout.runs_once("a source");
    checkout.write("new", "one");
    checkout.runs_once("a new file that git does not know");
    checkout.write("new", "two");
    checkout.runs_once("its content");
    assert!(checkout.shell("chmod +x src"));
    checkout.runs_once("a mode");
    std::fs::remove_file(checkout.path("src")).unwrap();
    checkout.runs_once("a file that went");
    assert_eq!(checkout.step("word", ""), (true, true), "a word");
    assert_eq!(checkout.step("word", ""), (true, false));
    assert_eq!(checkout.step("word", "1"), (true, true), "it was asked to run");
    assert_eq!(std::fs::read_dir(checkout.path("target/passed")).unwrap().count(), 1, "older results go");
}

#[test]
fn what_failed_is_not_kept() {
    let checkout = Checkout::new();
    checkout.write("../fails", "");
    assert_eq!(checkout.step("", ""), (false, true));
    assert_eq!(checkout.step("", ""), (false, true));
    std::fs::remove_file(checkout.path("../fails")).unwrap();
    checkout.runs_once("it passes now");
    checkout.write("../fails", "");
    checkout.write("src", "two");
    assert_eq!(checkout.step("", ""), (false, true), "what passed before says nothing of another source");
    assert_eq!(checkout.step("", ""), (false, true));
}

#[test]
fn what_passed_is_kept_for_a_week() {
    let checkout = Checkout::new();
    checkout.runs_once("the first time");
    let kept = std::fs::read_dir(checkout.path("target/passed")).unwrap().next().unwrap().unwrap().path();
    let age = |days: u64| {
        let file = std::fs::File::options().write(true).open(&kept).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
    };
    age(6);
    assert_eq!(checkout.step("", ""), (true, false));
    age(8);
    checkout.runs_once("too old");
}

#[test]
fn what_passed_while_a_source_changed_is_not_kept() {
    let checkout = Checkout::new();
    checkout.write("../edits", "");
    assert_eq!(checkout.step("", ""), (true, true));
    checkout.write("src", "one");
    std::fs::remove_file(checkout.path("../edits")).unwrap();
    checkout.runs_once("the source of before");
}

#[test]
fn what_wanted_for_something_is_not_kept() {
    let checkout = Checkout::new();
    let skip = "SKIP crash_matrix: no binary with fault points: run tests/build --faults";
    assert_eq!(checkout.step_that_says("", "", skip), (true, true));
    assert_eq!(checkout.step_that_says("", "", "SKIP x: the host has it"), (true, true));
    assert_eq!(checkout.step_that_says("", "", ""), (true, false));
}

#[test]
fn nothing_is_kept_outside_of_git() {
    let checkout = Checkout::new();
    std::fs::remove_dir_all(checkout.path(".git")).unwrap();
    assert_eq!(checkout.step("", ""), (true, true));
    assert_eq!(checkout.step("", ""), (true, true));
}

/// Stands for a test program: `flaky` fails the first time, `broken` always.
const PROGRAM: &str = r#"#!/bin/sh
case "$*" in
*--exact*flaky) echo 'test flaky ... ok'; echo; echo 'test result: ok. 1 passed; 0 failed; 0 ignored; 9 filtered out' ;;
*--exact*) echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored; 9 filtered out'; exit 101 ;;
fine) echo 'test result: ok. 3 passed; 0 failed; 0 ignored; 0 filtered out' ;;
*) printf 'test %s ... FAILED\n\nfailures:\n\n---- %s stdout ----\n    failures:\n    it\n\nfailures:\n    %s\n\n' $1 $1 $1
   echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 filtered out'; exit 101 ;;
esac
"#;

#[test]
fn what_fails_runs_once_more_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    std::fs::write(&program, PROGRAM).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = |word: &str| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lib/once-more");
        let out = Command::new(script).arg(&program).arg(word).output().unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        let results: Vec<String> = said.lines().filter(|l| l.starts_with("test result")).map(str::to_string).collect();
        (out.status.success(), said.contains("FLAKY flaky"), results)
    };
    assert_eq!(run("fine").2.len(), 1);
    let (ok, told, results) = run("flaky");
    assert!(ok && told, "{results:?}");
    assert!(results.iter().any(|r| r.contains(" 1 passed; 0 failed")), "{results:?}");
    assert!(results.iter().any(|r| r.contains(" 2 passed; 0 failed")) && results.len() == 2, "{results:?}");
    let (ok, told, results) = run("broken");
    assert!(!ok && !told, "{results:?}");
    assert!(results.iter().any(|r| r.contains(" 2 passed; 1 failed")), "{results:?}");
}
