//! What the tests of images and of files share over `common_root`: output as bytes, errors to the letter, and the tree of a
//! state to compare.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

use crate::common_root;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// False, and said so, if the host has no such program.
pub fn program(test: &str, name: &str) -> bool {
    let there = common_root::have(name);
    if !there {
        common_root::skip(test, &format!("the program \"{name}\" is missing"));
    }
    there
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
    /// Standard output as it was.
    pub bytes: Vec<u8>,
}

impl Said {
    fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            bytes: output.stdout,
        }
    }
}

/// A state folder of its own.
#[derive(Debug)]
pub struct State(common_root::State);

impl State {
    pub fn new() -> Self {
        Self(common_root::State::new(&common_root::binary()))
    }

    /// One without a pool.
    pub fn bare() -> Self {
        Self(common_root::State::bare(&common_root::binary()))
    }

    /// The folder it is in; the test's own files lie there too.
    pub fn path(&self) -> &Path {
        &self.0.dir
    }

    pub fn images(&self) -> PathBuf {
        self.path().join("state/images")
    }

    pub fn pool(&self) -> PathBuf {
        self.path().join("state/pools/default/data")
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.0.command(words);
        command.env("TZ", "UTC").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, words: &[&str]) -> Said {
        Said::of(self.command(words).output().expect("the program runs"))
    }

    pub fn run_with_input(&self, words: &[&str], input: &[u8]) -> Said {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().expect("the program runs");
        let mut stdin = child.stdin.take().expect("stdin");
        std::thread::scope(|scope| {
            // A command that fails early closes it.
            scope.spawn(move || drop(stdin.write_all(input)));
            Said::of(child.wait_with_output().expect("the program ends"))
        })
    }

    /// Runs a command that must succeed; what it prints.
    #[track_caller]
    pub fn good(&self, words: &[&str]) -> String {
        let said = self.run(words);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{words:?}: {said:?}");
        said.out
    }

    /// Runs a command that must fail with exactly one error; the error.
    #[track_caller]
    pub fn bad(&self, words: &[&str]) -> String {
        one_error(&self.run(words), words)
    }

    /// Imports a file and gives back the fingerprint.
    #[track_caller]
    pub fn import(&self, words: &[&str]) -> String {
        let said = self.good(&[&["image", "import"], words].concat());
        let (text, fingerprint) = said.trim_end().rsplit_once(' ').expect("a message");
        assert_eq!(text, "Image imported with fingerprint:");
        fingerprint.to_string()
    }

    /// Records, disk and kernel agree.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.0.doctor().unwrap();
    }

    /// Writes a file of the test; its path.
    pub fn file(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, data).expect("write");
        path
    }

    /// All that is in the state, to compare: kind, mode, size by path. Lock files stay by design.
    pub fn listing(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for part in ["state", "run", "cache"] {
            walk(self.path(), &self.path().join(part), &mut all);
        }
        all.retain(|path, _| !path.starts_with("state/locks/"));
        all
    }
}

#[track_caller]
pub fn one_error(said: &Said, words: &[&str]) -> String {
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{words:?}: {said:?}");
    let errors: Vec<&str> = said.err.lines().filter(|line| line.starts_with("Error: ")).collect();
    assert_eq!(errors.len(), 1, "{words:?}: {said:?}");
    assert!(said.err.starts_with("Error: ") && !said.err.contains("panicked"), "{words:?}: {said:?}");
    errors[0]["Error: ".len()..].to_string()
}

fn walk(base: &Path, dir: &Path, all: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let meta = std::fs::symlink_metadata(&path).expect("stat");
        let size = if meta.is_file() { meta.size() } else { 0 };
        let name = path.strip_prefix(base).expect("below").to_string_lossy().into_owned();
        all.insert(name, format!("{:o} {size}", meta.mode()));
        if meta.is_dir() {
            walk(base, &path, all);
        }
    }
}

/// sha256 of the files, joined.
pub fn sha256(files: &[&Path]) -> String {
    use sha2::{Digest, Sha256};
    let mut hasher = Sha256::new();
    files.iter().for_each(|file| hasher.update(std::fs::read(file).expect("file")));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
