//! Golden tests of the command line: `tests/golden/*.txt` are transcripts, `$ command`, then what it prints (both streams),
//! then `? code` unless the exit code is 0.
//!
//! A first line `# state: <name>` starts it with a copy of `tests/golden/state/<name>`.
//!
//! Each file runs in a state folder of its own, its commands in order through sh with `stapes` and `incus` in PATH and
//! standard input closed. `SNAPSHOTS=overwrite cargo test --test golden` writes the transcripts anew.
#![allow(clippy::disallowed_methods, reason = "tests start programs and read files")]

mod common;

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Copies a prepared state folder, with the modes the program insists on and the empty folders that git cannot keep.
fn prepare(name: &str, folder: &Path) {
    let source = common::root().join("tests/golden/state").join(name);
    copy(&source, &folder.join("state/state"));
    let pool =
        ["containers", "custom", "images", "trash", "virtual-machines"].map(|p| format!("pools/default/data/{p}"));
    for part in pool.iter().map(String::as_str).chain(["images", "locks", "ops"]) {
        let part = folder.join("state/state").join(part);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(part).expect("folder");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to).expect("folder");
    for entry in std::fs::read_dir(from).expect("prepared state") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::write(target, std::fs::read(entry.path()).expect("file")).expect("file");
        }
    }
}

fn transcript(commands: &str, folder: &Path) -> String {
    if let Some(name) = commands.lines().next().and_then(|line| line.strip_prefix("# state: ")) {
        prepare(name, folder);
    }
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).expect("folder");
    for name in ["stapes", "incus"] {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_stapes"), bin.join(name)).expect("link");
    }
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let mut out = String::new();
    for line in commands.lines() {
        if line.starts_with('#') || line.is_empty() && out.is_empty() {
            out.push_str(&format!("{line}\n"));
        }
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1\n{command}")])
            .env_clear()
            .env("PATH", &path)
            .env("TZ", "UTC")
            .env("STAPES_DIR", folder.join("state"))
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .expect("sh runs");
        let text = String::from_utf8_lossy(&output.stdout).replace(&folder.display().to_string(), "[FOLDER]");
        out.push_str(&format!("$ {command}\n{text}"));
        if !text.is_empty() && !text.ends_with('\n') {
            out.push_str("\\ no newline\n");
        }
        if let Some(code) = output.status.code().filter(|code| *code != 0) {
            out.push_str(&format!("? {code}\n"));
        }
    }
    out
}

#[test]
fn transcripts() {
    let folder = common::root().join("tests/golden");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("golden folder").map(|e| e.expect("entry").path()).collect();
    files.sort();
    files.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    assert!(!files.is_empty());
    for file in files {
        let place = tempfile::tempdir().expect("temporary folder");
        let commands = std::fs::read_to_string(&file).expect("transcript");
        let actual = transcript(&commands, place.path());
        let check = snapbox::Assert::new().action_env("SNAPSHOTS");
        check.eq(snapbox::Data::text(actual).raw(), snapbox::Data::read_from(&file, None).raw());
    }
}
