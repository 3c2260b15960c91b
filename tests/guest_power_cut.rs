//! Power cuts: a machine works, its power goes at a random moment, it boots again, and nothing acknowledged is lost.
//!
//! QEMU logs each write and each flush of the guest's disk. From the log of one run the disk is reconstructed as it may look
//! at any moment: what was flushed is there, and of what was not, a random part – which is what a real disk does and what
//! killing QEMU alone does not, because the host keeps all writes. Then a machine boots with such disks and tells what it
//! finds on them. `tests/guest/power-cut` makes what is needed and runs this; see its variables there.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;
#[path = "guest_power_cut/judge.rs"]
mod judge;
#[path = "guest_power_cut/log.rs"]
mod log;
#[path = "guest_power_cut/machine.rs"]
mod machine;
#[path = "guest_power_cut/model.rs"]
mod model;

use judge::Wanted;
use log::Log;
use machine::{Guest, Payload};
use model::{Command, Dice, IMAGE, IMAGES, WORKERS};
use sha2::Digest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// The file system, and behind it the marks.
const SIZE: u64 = 512 * MIB;
const WHOLE: u64 = SIZE + MIB;
/// How long a guest may be silent.
const PATIENCE: Duration = Duration::from_secs(180);

/// What differs between the runs.
struct Setting {
    name: &'static str,
    fs: &'static str,
    /// Where the disk is mounted, and the state folder if it is not the usual one.
    mount: &'static str,
    state: &'static str,
    modules: &'static str,
    /// Its part of the power cuts.
    share: usize,
}

/// The sum of the parts.
const SHARES: usize = 24;
const USUAL: &str = "/var/lib/stapes";
const SETTINGS: [Setting; 4] = [
    Setting { name: "ext4, overlay", fs: "ext4", mount: USUAL, state: "", modules: "overlay", share: 8 },
    // Without overlayfs the pool's driver is `dir`. Here the run folder is on the disk, too.
    Setting { name: "ext4, dir", fs: "ext4", mount: "/disk", state: "/disk/s", modules: "", share: 4 },
    Setting { name: "xfs, overlay", fs: "xfs", mount: "/disk", state: "/disk/s", modules: "xfs overlay", share: 4 },
    Setting { name: "btrfs, overlay", fs: "btrfs", mount: USUAL, state: "", modules: "btrfs overlay", share: 8 },
];

impl Setting {
    fn variables(&self, more: &str) -> String {
        let Self { fs, mount, state, modules, .. } = self;
        format!("#!/bin/sh\nDISK_FS={fs} MOUNT={mount} STATE={state} MODULES='{modules}' {more}\n")
    }
}

/// The image files by name, with their fingerprints, and the sum of `/data` in the one that instances are made of.
struct Images {
    files: BTreeMap<String, Vec<u8>>,
    fingerprints: BTreeMap<String, String>,
    md5: String,
}

impl Images {
    fn make(dir: &Path) -> Self {
        let mut images = Self { files: BTreeMap::new(), fingerprints: BTreeMap::new(), md5: String::new() };
        common_root::make_images(dir);
        let mut dice = Dice(77);
        let data: Vec<u8> = (0..300_000).map(|_| dice.roll(256) as u8).collect();
        std::fs::write(dir.join("data"), &data).unwrap();
        let run = |program: &str, args: &[&str]| {
            let out = std::process::Command::new(program).args(args).current_dir(dir).output().unwrap();
            assert!(out.status.success(), "{program}: {out:?}");
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        images.md5 = run("md5sum", &["data"])[..32].to_string();
        // The unpacked tree once more, with the data; md5sum is busybox.
        run("mkdir", &["more"]);
        run("tar", &["-xf", "image.tar", "-C", "more"]);
        run("cp", &["data", "more/rootfs/data"]);
        run("ln", &["-s", "busybox", "more/rootfs/bin/md5sum"]);
        let tar = ["--owner=0", "--group=0", "--numeric-owner"];
        run("tar", &[&tar[..], &["-cf", "img", "-C", "more", "metadata.yaml", "rootfs"]].concat());
        images.add(IMAGE, std::fs::read(dir.join("img")).unwrap());
        // The others are never started.
        run("rm", &["-r", "more/rootfs/bin"]);
        for worker in WORKERS {
            for n in 0..IMAGES {
                let name = format!("{worker}{n}");
                std::fs::write(dir.join("more/rootfs/name"), &name).unwrap();
                run("tar", &[&tar[..], &["-cf", "other", "-C", "more", "metadata.yaml", "rootfs"]].concat());
                images.add(&name, std::fs::read(dir.join("other")).unwrap());
            }
        }
        images
    }

    fn add(&mut self, name: &str, file: Vec<u8>) {
        let digest = sha2::Sha256::digest(&file);
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        self.fingerprints.insert(name.to_string(), hex);
        self.files.insert(name.to_string(), file);
    }
}

/// A mark that a worker left in the log.
struct Mark {
    entry: usize,
    worker: char,
    end: bool,
    number: usize,
}

/// One run with all that came of it.
struct Recording {
    base: PathBuf,
    log: Log,
    marks: Vec<Mark>,
    scripts: BTreeMap<char, Vec<Command>>,
}

impl Recording {
    fn make(guest: &Guest, dir: &Path, setting: &Setting, images: &Images, seed: u64) -> Result<Self, String> {
        let base = dir.join("base");
        machine::format(&base, setting.fs, SIZE, WHOLE);
        let disk = dir.join("recorded");
        machine::disk(&disk, &base, &BTreeMap::new());
        let count = number("STAPES_POWER_COMMANDS", 50) as usize;
        let scripts: BTreeMap<char, Vec<Command>> = WORKERS
            .iter()
            .map(|w| (*w, model::script(*w, count, &mut Dice(seed ^ u64::from(*w as u32) << 8))))
            .collect();
        let words: Vec<(String, Vec<u8>)> = scripts
            .iter()
            .map(|(w, all)| {
                (format!("work-{w}"), all.iter().map(|c| c.words() + "\n").collect::<String>().into_bytes())
            })
            .collect();
        let begin = setting.variables(&format!("MARKS={}", SIZE / 4096)) + include_str!("guest_power_cut/record.sh");
        let mut payload = payload(begin);
        payload.extend(words.iter().map(|(n, t)| (n.as_str(), t.clone(), false)));
        let tars: Vec<_> = images.files.iter().map(|(n, f)| (format!("{n}.tar"), f)).collect();
        payload.extend(tars.iter().map(|(n, f)| (n.as_str(), f.to_vec(), false)));
        let initramfs = guest.initramfs(dir, &payload);
        let log = dir.join("log");
        std::fs::File::create(&log).unwrap();
        let drives = [
            "-blockdev".to_string(),
            format!("driver=file,node-name=disk,filename={}", disk.display()),
            "-blockdev".to_string(),
            format!("driver=file,node-name=log,filename={}", log.display()),
            "-blockdev".to_string(),
            "driver=blklogwrites,node-name=both,file=disk,log=log".to_string(),
            "-device".to_string(),
            "virtio-blk-pci,drive=both,discard=off,write-zeroes=off".to_string(),
        ];
        let mut running = guest.start(dir, &initramfs, &drives);
        let said = running.wait("done", PATIENCE)?;
        drop(running);
        for (worker, all) in &scripts {
            if !said.contains(&format!("worker {worker} did {}\n", all.len())) {
                return Err(format!("not all commands worked:\n{said}"));
            }
        }
        let log = Log::parse(std::fs::read(&log).unwrap()).ok_or("QEMU's log is none")?;
        let marks = marks(&log);
        let expected: usize = scripts.values().map(|s| 2 * s.len()).sum();
        // Some may have been written over before they left the guest: they count with the next one of their worker.
        if marks.len() + MARKS_LOST < expected || marks.len() > expected {
            return Err(format!("{} marks in the log, not {expected}", marks.len()));
        }
        Ok(Self { base, log, marks, scripts })
    }

    /// What must hold if the power went just before entry `cut`.
    fn wanted<'a>(&'a self, cut: usize, images: &'a Images) -> Wanted<'a> {
        let count = |worker: char, end: bool| {
            let mine = self.marks.iter().filter(|m| m.entry < cut && m.worker == worker && m.end == end);
            // One that was lost happened before the next.
            mine.map(|m| m.number + 1).max().unwrap_or(0)
        };
        let workers = self.scripts.iter().map(|(w, all)| {
            let (begun, done) = (count(*w, false), count(*w, true));
            (*w, (all.as_slice(), done, begun > done))
        });
        Wanted { workers: workers.collect(), images: &images.fingerprints, md5: &images.md5 }
    }
}

/// What both kinds of machine have.
fn payload(begin: String) -> Vec<Payload<'static>> {
    let program = std::fs::read(common_root::binary()).unwrap();
    vec![("begin", begin.into_bytes(), true), ("stapes", program, true)]
}

/// So many marks of a recording may be missing.
const MARKS_LOST: usize = 6;

fn marks(log: &Log) -> Vec<Mark> {
    let mut all = Vec::new();
    for (n, entry) in log.entries.iter().enumerate().filter(|(_, e)| e.at >= SIZE) {
        let text = String::from_utf8_lossy(log.data(entry)).into_owned();
        let words: Vec<&str> = text.split_whitespace().collect();
        if let ["STAPES", worker, what, number] = words[..] {
            let (worker, end) = (worker.chars().next().unwrap(), what == "end");
            all.push(Mark { entry: n, worker, end, number: number.parse().unwrap() });
        }
    }
    assert!(all.is_sorted_by_key(|m| m.entry));
    // A write may be logged twice; the first one counts.
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|m| seen.insert((m.worker, m.end, m.number)));
    for worker in WORKERS {
        let mine = all.iter().filter(|m| m.worker == worker && m.end).map(|m| m.number);
        let mine: Vec<usize> = mine.collect();
        assert!(mine.is_sorted(), "the marks of worker {worker} are out of order: {mine:?}");
    }
    all
}

/// A moment at which the power goes.
struct Cut {
    /// Just before this entry of the log.
    entry: usize,
    /// How many of eight blocks that were not flushed are on the disk all the same.
    kept: u64,
    /// What is demanded is what would have to hold at this entry.
    judged: usize,
}

/// Every other one just after an acknowledgement, with nothing kept that was not flushed; the others anywhere.
fn cuts(recording: &Recording, count: usize, dice: &mut Dice) -> Vec<Cut> {
    let ends: Vec<usize> = recording.marks.iter().filter(|m| m.end).map(|m| m.entry).collect();
    let first = recording.marks.first().map_or(0, |m| m.entry);
    let one = |n: usize| {
        let entry = match n % 2 {
            0 => ends[dice.roll(ends.len() as u64) as usize] + 1,
            _ => first + dice.roll((recording.log.entries.len() - first) as u64) as usize + 1,
        };
        Cut { entry, kept: if n.is_multiple_of(2) { 0 } else { 1 + dice.roll(7) }, judged: entry }
    };
    (0..count).map(one).collect()
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs one setting: how many power cuts it was and what was wrong.
fn survive(guest: &Guest, dir: &Path, setting: &Setting, count: usize, seed: u64) -> Result<usize, String> {
    let began = Instant::now();
    let made = dir.join("images");
    std::fs::create_dir(&made).unwrap();
    let images = Images::make(&made);
    std::fs::remove_dir_all(made).unwrap();
    let recording = Recording::make(guest, dir, setting, &images, seed)?;
    let recorded = began.elapsed();
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut cuts = cuts(&recording, count, &mut dice);
    // The last one is a lie: the disk of an earlier moment. It must be found out.
    let acknowledged: Vec<usize> = recording.marks.iter().filter(|m| m.end).map(|m| m.entry + 1).collect();
    let (early, late) = (acknowledged[acknowledged.len() / 2], *acknowledged.last().unwrap());
    cuts.push(Cut { entry: early, kept: 0, judged: late });
    let mut drives = Vec::new();
    for (n, cut) in cuts.iter().enumerate() {
        let path = dir.join(format!("disk{n}"));
        let mut dice = Dice(dice.roll(u64::MAX) | 1);
        machine::disk(&path, &recording.base, &recording.log.disk_at(cut.entry, || dice.roll(8) < cut.kept));
        drives.extend(["-drive".to_string(), format!("file={},if=virtio,format=raw,cache=unsafe", path.display())]);
    }
    let letters: Vec<String> = (b'a'..).take(cuts.len()).map(|c| char::from(c).to_string()).collect();
    let begin = setting.variables(&format!("DISKS='{}'", letters.join(" "))) + include_str!("guest_power_cut/look.sh");
    let initramfs = guest.initramfs(dir, &payload(begin));
    let said = guest.start(dir, &initramfs, &drives).wait("done", PATIENCE)?;
    let mut bad = Vec::new();
    let reports: Vec<&str> = said.split("@disk ").skip(1).collect();
    for (n, cut) in cuts.iter().enumerate() {
        let report = judge::parse(reports.get(n).copied().unwrap_or_default());
        let found = recording.wanted(cut.judged, &images).judge(&report);
        let lie = cut.judged != cut.entry;
        match (lie, found.is_empty()) {
            (true, true) => {
                bad.push("the disk of an earlier moment was not found out: this test sees nothing".to_string())
            }
            (false, false) => {
                let unflushed = recording.log.unflushed(cut.entry);
                let at = format!("disk{n}, entry {}, {unflushed} unflushed, {}/8 kept", cut.entry, cut.kept);
                bad.push(format!("{at}:\n  {}", found.join("\n  ")));
            }
            _ => {}
        }
    }
    let (writes, all) = (recording.log.entries.len(), began.elapsed());
    eprintln!(
        "{}: {count} power cuts in a log of {writes} requests; {recorded:.0?} to record, {all:.0?} in all",
        setting.name
    );
    if bad.is_empty() { Ok(count) } else { Err(bad.join("\n")) }
}

#[test]
fn power_cuts() {
    const NAME: &str = "power_cuts";
    let Some(guest) = Guest::given() else {
        common_root::skip(NAME, "no guest: run tests/guest/power-cut");
        return;
    };
    let seed = number("STAPES_POWER_SEED", u64::from(std::process::id()));
    let total = number("STAPES_POWER_CUTS", 24) as usize;
    let chosen = std::env::var("STAPES_POWER_SETTING").unwrap_or_default();
    eprintln!("seed {seed}");
    let dir = tempfile::Builder::new().prefix("power.").tempdir_in(guest.dir.parent().unwrap()).unwrap();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let outcome = std::sync::Mutex::new((0, Vec::new()));
    let settings: Vec<&Setting> = SETTINGS.iter().filter(|s| s.name.contains(&chosen)).collect();
    // Two at a time: a machine has two processors, and most of the time uses one.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(setting) = settings.get(next.fetch_add(1, std::sync::atomic::Ordering::SeqCst)) {
                    let dir = dir.path().join(setting.name.replace(", ", "-"));
                    std::fs::create_dir(&dir).unwrap();
                    let count = (total * setting.share).div_ceil(SHARES);
                    let one = survive(&guest, &dir, setting, count, seed);
                    let mut outcome = outcome.lock().unwrap();
                    match one {
                        Ok(count) => outcome.0 += count,
                        Err(e) => outcome.1.push(format!("{}:\n{e}", setting.name)),
                    }
                }
            });
        }
    });
    let (survived, bad) = outcome.into_inner().unwrap();
    if !bad.is_empty() {
        let kept = dir.keep();
        panic!("seed {seed}, kept in {}:\n{}", kept.display(), bad.join("\n"));
    }
    eprintln!("{survived} power cuts survived");
}
