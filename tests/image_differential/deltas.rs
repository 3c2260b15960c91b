//! Differences as xdelta3 writes them, whole and damaged, through its decoder and ours.

use super::{have, number, scratch};
use stapes::image::vcdiff;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

/// Options of the writer: its defaults pack sections with lzma and add checksums.
const OPTIONS: [&[&str]; 8] = [
    &[],
    &["-n"],
    &["-S", "none", "-n"],
    &["-S", "none", "-W", "16384", "-n"],
    &["-9", "-W", "16384"],
    &["-0", "-A", "some/text"],
    &["-1", "-N", "-I", "0"],
    &["-9", "-S", "lzma", "-B", "524288"],
];

/// Numbers that look random.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        // Some that pack well, some that do not.
        let letters = [2, 20, 256][self.below(3)];
        (0..n).map(|_| self.below(letters) as u8).collect()
    }
}

/// An older file, and a newer one of pieces of it, of itself, and of new ones.
fn pair(random: &mut Random) -> [Vec<u8>; 2] {
    let length = [0, 50, 5000, 300_000][random.below(4)];
    let old = random.bytes(length);
    let mut new = Vec::new();
    for _ in 0..random.below(60) {
        let from = if random.below(4) == 0 { new.clone() } else { old.clone() };
        let most = [20, 300, 40_000][random.below(3)];
        let length = random.below(most);
        match random.below(4) {
            0 => new.extend(random.bytes(length)),
            1 => new.resize(new.len() + length, length as u8),
            _ if from.is_empty() => {}
            _ => {
                let at = random.below(from.len());
                new.extend(&from[at..from.len().min(at + length)]);
            }
        }
    }
    [old, new]
}

fn xdelta(dir: &Path, options: &[&str], files: [&str; 3]) -> bool {
    let [old, from, to] = files;
    let mut command = Command::new("xdelta3");
    command.args(["-q", "-f"]).args(options).args(["-s", old, from, to]).current_dir(dir);
    command.stderr(Stdio::null()).status().expect("xdelta3").success()
}

fn ours(dir: &Path, size: usize) -> stapes::error::Result<Vec<u8>> {
    let delta = std::fs::read(dir.join("delta")).expect("read");
    let old = File::open(dir.join("old")).expect("open");
    let made = dir.join("ours");
    let new = File::options().read(true).write(true).create(true).truncate(true).open(&made).expect("open");
    let done = vcdiff::apply(&old, &mut &delta[..], &new, size as u64, &mut |_| Ok(()));
    let data = std::fs::read(made).expect("read");
    assert!(data.len() <= size, "more than was announced");
    done.map(|()| data)
}

#[test]
fn differences_like_xdelta3() {
    if !have("xdelta3") {
        return eprintln!("SKIP differences_like_xdelta3: no xdelta3 (apt-get install xdelta3)");
    }
    let (first, all) = (number("STAPES_DIFFERENTIAL_SEED", 0), number("STAPES_DIFFERENTIAL", 10_000) / 20);
    let dir = scratch();
    let dir = dir.path();
    let (mut equal, mut refused, mut more) = (0, 0, 0);
    for seed in first..first + all {
        let mut random = Random::new(seed);
        let [old, new] = pair(&mut random);
        std::fs::write(dir.join("old"), &old).expect("write");
        std::fs::write(dir.join("new"), &new).expect("write");
        let options = OPTIONS[seed as usize % OPTIONS.len()];
        assert!(xdelta(dir, &[&["-e"], options].concat(), ["old", "new", "delta"]), "seed {seed}");
        let made = ours(dir, new.len()).unwrap_or_else(|e| panic!("seed {seed}, {options:?}: {e}"));
        assert!(made == new, "seed {seed}, {options:?}");
        // Damaged: refused, or what xdelta3 makes of it.
        let mut delta = std::fs::read(dir.join("delta")).expect("read");
        for _ in 0..4 {
            let at = random.below(delta.len());
            match random.below(8) {
                0 => delta.truncate(at.max(5)),
                1 => delta.insert(at, [0, 0x7f, 0x80, 0xff][random.below(4)]),
                _ => delta[at] ^= 1 << random.below(8),
            }
            std::fs::write(dir.join("delta"), &delta).expect("write");
            let theirs = xdelta(dir, &["-d", "-D", "-R"], ["old", "delta", "theirs"]);
            let theirs = theirs.then(|| std::fs::read(dir.join("theirs")).expect("read"));
            match (ours(dir, new.len()), theirs) {
                (Ok(made), Some(theirs)) => {
                    assert!(made == theirs, "seed {seed}, {options:?}: damaged, and read otherwise");
                    equal += 1;
                }
                // It knows no copies out of the new file, say.
                (Ok(_), None) => more += 1,
                (Err(e), Some(theirs)) if theirs.len() == new.len() => panic!("seed {seed}, {options:?}: {e}"),
                (Err(_), _) => refused += 1,
            }
        }
    }
    eprintln!("xdelta3: of the damaged ones {equal} read alike, {refused} refused, {more} read by us only");
    assert!(all < 100 || equal > 10 && refused > all);
}

/// djw and fgk are asked for by nobody; they are told apart from damage.
#[test]
fn other_packings_are_named() {
    if !have("xdelta3") {
        return eprintln!("SKIP other_packings_are_named: no xdelta3 (apt-get install xdelta3)");
    }
    let dir = scratch();
    let dir = dir.path();
    let mut random = Random::new(7);
    std::fs::write(dir.join("old"), random.bytes(1000)).expect("write");
    std::fs::write(dir.join("new"), random.bytes(100_000)).expect("write");
    for packing in ["djw", "fgk"] {
        assert!(xdelta(dir, &["-e", "-S", packing], ["old", "new", "delta"]));
        let e = ours(dir, 100_000).expect_err("not known");
        assert!(e.to_string().contains(packing) && e.kind() == stapes::error::Kind::Unsupported, "{e}");
    }
}

/// Larger than any window, and than what is remembered.
#[test]
fn a_large_difference() {
    if !have("xdelta3") {
        return eprintln!("SKIP a_large_difference: no xdelta3 (apt-get install xdelta3)");
    }
    let dir = scratch();
    let dir = dir.path();
    let mut random = Random::new(11);
    let old: Vec<u8> = (0..40 << 20).map(|_| random.below(256) as u8).collect();
    let mut new = [&old[30 << 20..], &old[..25 << 20], &vec![0; 20 << 20], &old[10 << 20..]].concat();
    for _ in 0..2000 {
        let at = random.below(new.len());
        new[at] ^= 0x55;
    }
    std::fs::write(dir.join("old"), &old).expect("write");
    std::fs::write(dir.join("new"), &new).expect("write");
    for options in [&["-e"][..], &["-e", "-9", "-B", "67108864"], &["-e", "-W", "16777216", "-S", "none"]] {
        assert!(xdelta(dir, options, ["old", "new", "delta"]));
        assert!(ours(dir, new.len()).expect("good") == new, "{options:?}");
    }
}
