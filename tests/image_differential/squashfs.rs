//! Made-up trees packed in all the ways of mksquashfs: unsquashfs and we make the same of them.

use super::deltas::Random;
use super::{Jail, differences, have, is_root, number, scratch};
use stapes::image::Limits;
use stapes::image::squashfs;
use stapes::image::unpack::{self, Options};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

const COMPRESSORS: [&str; 6] = ["gzip", "lzma", "lzo", "lz4", "xz", "zstd"];
/// Options of the packer beside the compressor.
const OPTIONS: [&[&str]; 6] = [
    &[],
    &["-b", "4096"],
    &["-b", "1M"],
    &["-always-use-fragments", "-no-duplicates"],
    &["-no-fragments"],
    &["-noI", "-noF"],
];

fn tree(dir: &Path, random: &mut Random) {
    std::fs::create_dir_all(dir.join("a/b")).expect("mkdir");
    for n in 0..random.below(80) {
        let folder = ["", "a", "a/b"][random.below(3)];
        let path = dir.join(folder).join(format!("{n}-{}", "n".repeat(random.below(100))));
        let most = [10, 5000, 400_000][random.below(3)];
        let size = random.below(most);
        match random.below(8) {
            0 => std::os::unix::fs::symlink("t".repeat(1 + size % 300), &path).expect("symlink"),
            1 => std::fs::create_dir(&path).expect("mkdir"),
            2 => {
                let file = File::create(&path).expect("create");
                file.set_len(size as u64 * 4).expect("size");
                file.write_all_at(&random.bytes(size / 9), size as u64).expect("write");
            }
            3 if n > 0 => {
                let first = dir.join("first");
                if first.exists() {
                    std::fs::hard_link(first, &path).expect("link");
                } else {
                    std::fs::write(first, random.bytes(size)).expect("write");
                }
            }
            4 => std::fs::write(&path, "many of the same words ".repeat(size / 20)).expect("write"),
            _ => std::fs::write(&path, random.bytes(size)).expect("write"),
        }
    }
}

fn quiet(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("squashfs-tools").success()
}

#[test]
fn squashfs_like_unsquashfs() {
    if !is_root() || !have("mksquashfs") || !have("unsquashfs") {
        return eprintln!("SKIP squashfs_like_unsquashfs: needs root and squashfs-tools");
    }
    let (first, all) = (number("STAPES_DIFFERENTIAL_SEED", 0), number("STAPES_DIFFERENTIAL", 10_000) / 200);
    let dir = scratch();
    for seed in first..first + all.max(6) {
        let mut random = Random::new(seed);
        let (from, file) = (dir.path().join("from"), dir.path().join("file"));
        tree(&from, &mut random);
        let (comp, options) = (COMPRESSORS[(seed % 6) as usize], OPTIONS[(seed / 6 % 6) as usize]);
        let mut make = Command::new("mksquashfs");
        make.arg(&from).arg(&file).args(["-noappend", "-quiet", "-no-progress", "-comp", comp]).args(options);
        assert!(quiet(&mut make), "seed {seed}");
        let (mine, other) = (Jail::new(dir.path(), "ours"), Jail::new(dir.path(), "theirs"));
        let mut tool = Command::new("unsquashfs");
        tool.args(["-quiet", "-no-progress", "-force", "-dest"]).arg(other.dir.join("root")).arg(&file);
        assert!(quiet(&mut tool), "seed {seed}");
        let root = stapes::sys::path::open_root(&mine.dir.join("root")).expect("root");
        let open = File::open(&file).expect("open");
        let done = squashfs::read(&open, &Limits::default(), &mut |_| Ok(()), |source| {
            unpack::archive(source, root, &Options::default())
        });
        done.unwrap_or_else(|e| panic!("seed {seed}, {comp} {options:?}: {e}"));
        let found = differences(&mine.tree(true), &other.tree(true));
        found.unwrap_or_else(|what| panic!("seed {seed}, {comp} {options:?}: {what}"));
        for used in [from, mine.dir, other.dir] {
            std::fs::remove_dir_all(used).expect("remove");
        }
    }
}
