//! What the guard tests share: the source files, and their code without comments and without test modules.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::{Path, PathBuf};

/// A file under `src/`.
pub struct SourceFile {
    /// Path from the repository's root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
    /// The module that declares it does so for tests only.
    pub test_only: bool,
}

impl SourceFile {
    /// The module it belongs to: the first folder or file below `src`; none for `lib.rs` and `main.rs`.
    pub fn module(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let first = below.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (!["lib", "main"].contains(&name)).then_some(name)
    }

    /// It holds only tests.
    pub fn is_test(&self) -> bool {
        self.test_only || self.path.ends_with("/tests.rs") || self.path.ends_with("_tests.rs")
    }

    /// Paths (without `.rs`) of the modules it declares for tests only: `#[cfg(test)] mod crash;`.
    fn test_modules(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let folder = stem.strip_suffix("/mod").or(stem.strip_suffix("/lib")).unwrap_or(stem);
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let declared = lines.windows(2).filter(|pair| pair[0].starts_with("#[cfg(") && pair[0].contains("test"));
        let name = |line: &str| Some(line.strip_suffix(';')?.rsplit_once("mod ")?.1.to_string());
        declared.filter_map(|pair| name(pair[1])).map(|name| format!("{folder}/{name}")).collect()
    }

    /// Its code without comments and without the test module at its end; numbers from 1.
    pub fn shipped_lines(&self) -> Vec<(usize, &str)> {
        if self.is_test() {
            return Vec::new();
        }
        let end = test_module(&self.text);
        code_lines(&self.text).take_while(|(number, _)| *number < end).collect()
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files under `src/`, sorted.
pub fn sources() -> Vec<SourceFile> {
    let mut paths = Vec::new();
    collect(&root().join("src"), &mut paths);
    paths.sort();
    assert!(paths.len() > 50, "the guards found only {} files", paths.len());
    let path_text = |path: &Path| path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("source file");
        SourceFile { path: path_text(path), text, test_only: false }
    };
    let mut files: Vec<SourceFile> = paths.iter().map(read).collect();
    let tests: Vec<String> = files.iter().flat_map(SourceFile::test_modules).collect();
    for file in &mut files {
        let of = |module: &String| file.path == format!("{module}.rs") || file.path.starts_with(&format!("{module}/"));
        file.test_only = tests.iter().any(of);
    }
    files
}

fn collect(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("source folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Lines without comments; a line that is only a comment comes out empty. Numbers from 1.
pub fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| (i + 1, code_of(line)))
}

/// The line up to a `//` that is not inside a string literal (character literals and raw strings are rare enough).
fn code_of(line: &str) -> &str {
    let mut in_string = false;
    let mut previous = ' ';
    for (at, c) in line.char_indices() {
        match c {
            '"' if previous != '\\' && previous != '\'' => in_string = !in_string,
            '/' if !in_string && previous == '/' => return &line[..at - 1],
            _ => {}
        }
        previous = if previous == '\\' && c == '\\' { ' ' } else { c };
    }
    line
}

/// Number of the line where the test module begins; past the end if there is none.
fn test_module(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let begins =
        |i: &usize| lines[*i].trim_end() == "#[cfg(test)]" && lines.get(i + 1).is_some_and(|l| is_inline_module(l));
    (0..lines.len()).find(begins).map_or(usize::MAX, |i| i + 1)
}

fn is_inline_module(line: &str) -> bool {
    (line.starts_with("mod ") || line.contains(" mod ")) && line.trim_end().ends_with('{')
}
