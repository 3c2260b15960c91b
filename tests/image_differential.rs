//! Thousands of made-up archives, unpacked by us and by GNU tar or bsdtar (rows RUSTSEC-2018-0002, -2026-0067, CVE-2025-62518 and
//! their like): well-formed ones give equal trees, damaged ones equal trees or a refusal, and none is written outside. So are
//! differences between images, by us and by xdelta3, and squashfs file systems, by us and by unsquashfs.
//!
//! `STAPES_DIFFERENTIAL` is the number of archives (10,000); `STAPES_DIFFERENTIAL_SEED` the first seed, for a failure's.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests write files, start programs and name what they skip"
)]

#[path = "image_differential/deltas.rs"]
mod deltas;
#[path = "image_differential/generate.rs"]
mod generate;
mod image_common;
#[path = "image_differential/squashfs.rs"]
mod squashfs;

use generate::Archive;
use image_common::{describe, is_root};
use stapes::image::unpack::{self, Options};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// In memory where that is possible.
fn scratch() -> tempfile::TempDir {
    let magic = |f: std::fs::File| stapes::sys::mount::fs_magic(f.as_fd()).unwrap_or_default();
    let in_memory = std::fs::File::open("/dev/shm").is_ok_and(|f| magic(f) == 0x0102_1994);
    let base = if in_memory { Path::new("/dev/shm") } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
    tempfile::tempdir_in(base).expect("temporary directory")
}

/// A folder `root` to unpack into, with nothing but a canary beside it.
struct Jail {
    dir: PathBuf,
}

impl Jail {
    fn new(parent: &Path, name: &str) -> Self {
        let dir = parent.join(name);
        std::fs::create_dir_all(dir.join("root")).expect("mkdir");
        std::fs::write(dir.join("canary"), "host").expect("write");
        Self { dir }
    }

    /// GNU tar makes links that lead upwards at the very end, and so changes the dates of their folders (`dates`: not so).
    fn tree(&self, dates: bool) -> BTreeMap<String, String> {
        // Folders that the archive does not mention are as their maker likes them.
        let implied = |v: &str| v.starts_with("40755 0:0");
        let plain = |v: String| match v.starts_with('4') {
            true if implied(&v) => "a folder".to_string(),
            true if !dates => v.split(' ').take(2).collect::<Vec<_>>().join(" "),
            _ => v,
        };
        describe(&self.dir.join("root")).into_iter().map(|(k, v)| (k, plain(v))).collect()
    }

    fn has_bytes_as_names(&self) -> bool {
        describe(&self.dir.join("root")).iter().any(|(k, v)| k.contains('\u{fffd}') || v.contains('\u{fffd}'))
    }

    fn assert_contained(&self, seed: u64) {
        let mut names: Vec<_> =
            std::fs::read_dir(&self.dir).expect("list").map(|e| e.expect("entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["canary", "root"], "seed {seed}: something was written outside");
        let canary = std::fs::symlink_metadata(self.dir.join("canary")).expect("canary");
        let same = std::os::unix::fs::MetadataExt::nlink(&canary) == 1 && canary.is_file();
        assert!(same && std::fs::read(self.dir.join("canary")).expect("canary") == b"host", "seed {seed}: the canary");
    }
}

fn ours(bytes: &[u8], jail: &Jail) -> stapes::error::Result<unpack::Stats> {
    let root = stapes::sys::path::open_root(&jail.dir.join("root")).expect("root");
    unpack::archive(bytes, root, &Options::default())
}

fn theirs(program: &str, bytes: &[u8], jail: &Jail) -> Result<(), String> {
    let mut command = Command::new(program);
    command.arg("-C").arg(jail.dir.join("root")).args(["--numeric-owner", "-xpf", "-"]).env("LC_ALL", "C.UTF-8");
    if program == "tar" {
        command.args(["--xattrs", "--xattrs-include=user.*", "--delay-directory-restore"]);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect(program);
    // One that has had enough closes the pipe.
    let _ = std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), bytes);
    let out = child.wait_with_output().expect(program);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() { Ok(()) } else { Err(said) }
}

#[derive(Debug, Default)]
struct Count {
    equal: u64,
    refused: u64,
    contained: u64,
}

/// One archive through both; what differs.
fn compare(seed: u64, program: &str, dir: &Path, count: &mut Count) -> Result<(), String> {
    let archive = Archive::well_formed(seed);
    let (good, climbs) = (seed % 10 <= 5, seed % 10 == 9);
    let bytes = match (good, climbs) {
        (true, _) => archive.bytes,
        (_, false) => archive.damage(),
        (_, true) => archive.climbing(),
    };
    let (mine, other) = (Jail::new(dir, "ours"), Jail::new(dir, "theirs"));
    let done = ours(&bytes, &mine);
    mine.assert_contained(seed);
    let found = match done {
        _ if climbs => {
            count.contained += 1;
            Ok(())
        }
        Err(e) if good => Err(format!("we refuse a good one: {e}")),
        Err(_) => {
            count.refused += 1;
            Ok(())
        }
        Ok(_) if mine.has_bytes_as_names() => {
            // bsdtar wants characters.
            count.contained += 1;
            Ok(())
        }
        Ok(_) => match theirs(program, &bytes, &other) {
            // It asks more of the first header than of the others, to tell archives from other things.
            Err(e) if !good && e.contains("Unrecognized archive format") => {
                count.contained += 1;
                Ok(())
            }
            Err(e) => Err(format!("it refuses what we take: {e}")),
            Ok(()) => {
                count.equal += 1;
                differences(&mine.tree(program != "tar"), &other.tree(program != "tar"))
            }
        },
    };
    for jail in [mine, other] {
        std::fs::remove_dir_all(jail.dir).expect("remove");
    }
    found.map_err(|what| {
        let file = std::env::temp_dir().join(format!("differential-{seed}.tar"));
        std::fs::write(&file, &bytes).expect("write");
        format!("seed {seed}, {program}, kept as {}: {what}", file.display())
    })
}

fn differences(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> Result<(), String> {
    let mut names: Vec<_> = ours.keys().chain(theirs.keys()).filter(|k| ours.get(*k) != theirs.get(*k)).collect();
    names.dedup();
    let lines: Vec<String> = names.iter().map(|n| format!("{n:?}: {:?} {:?}", ours.get(*n), theirs.get(*n))).collect();
    if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
}

fn run(test: &str, program: &str, package: &str) {
    if !is_root() {
        return eprintln!("SKIP {test}: not root");
    }
    if !have(program) {
        return eprintln!("SKIP {test}: no {program} (apt-get install {package})");
    }
    let (first, all) = (number("STAPES_DIFFERENTIAL_SEED", 0), number("STAPES_DIFFERENTIAL", 10_000) / 2);
    let dir = scratch();
    let mut count = Count::default();
    let found: Vec<String> =
        (first..first + all).filter_map(|seed| compare(seed, program, dir.path(), &mut count).err()).collect();
    eprintln!("{program}: {count:?}");
    assert!(found.is_empty(), "{} differ: {}", found.len(), found[..found.len().min(5)].join("\n\n"));
    assert!(all < 100 || count.equal > all / 2 && count.refused > 0 && count.contained > 0, "{count:?}");
}

#[test]
fn rustsec_2018_0002_like_bsdtar() {
    run("rustsec_2018_0002_like_bsdtar", "bsdtar", "libarchive-tools");
}

#[test]
fn rustsec_2018_0002_like_gnu_tar() {
    run("rustsec_2018_0002_like_gnu_tar", "tar", "tar");
}
