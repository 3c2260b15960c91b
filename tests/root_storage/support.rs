//! A state with an image, pools in it, and file systems in files.

use super::common_root::{self, Out, State, leftovers};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A state with a pool and the image `img`; none if the test cannot run. With `btrfs`, its tools must be there.
pub fn state(test: &str, btrfs: bool) -> Option<State> {
    if !common_root::can_run(test) {
        return None;
    }
    if !common_root::have("busybox") {
        common_root::skip(test, "no busybox (apt-get install busybox-static)");
        return None;
    }
    if btrfs && !(common_root::have("mkfs.btrfs") && Path::new("/dev/loop-control").exists()) {
        common_root::skip(test, "no mkfs.btrfs (apt-get install btrfs-progs) or no loop devices");
        return None;
    }
    let state = State::new(&common_root::binary());
    common_root::make_images(&state.dir);
    state.good(&["image", "import", "image.tar", "--alias", "img"]);
    Some(state)
}

pub trait More {
    /// Runs words with blanks between them.
    fn words(&self, words: &str) -> Out;
    /// The same, and wants success.
    fn ok(&self, words: &str) -> String;
    /// The same, and wants this error.
    fn refuses(&self, words: &str, error: &str);
    /// With a document on standard input.
    fn given(&self, words: &str, input: &str) -> Out;
    /// Runs a shell script in an instance.
    fn sh(&self, name: &str, script: &str) -> Out;
    /// Deletes all but the default pool; nothing is left, and `doctor` is content.
    fn finish(self, pools: &[&str]);
}

impl More for State {
    fn words(&self, words: &str) -> Out {
        self.run(&words.split(' ').collect::<Vec<_>>())
    }

    fn ok(&self, words: &str) -> String {
        self.words(words).good().unwrap()
    }

    fn refuses(&self, words: &str, error: &str) {
        let out = self.words(words);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(error), "{words}: {}", out.stderr);
    }

    fn given(&self, words: &str, input: &str) -> Out {
        common_root::run(self.command(&words.split(' ').collect::<Vec<_>>()), Some(input), common_root::PATIENCE)
    }

    fn sh(&self, name: &str, script: &str) -> Out {
        self.run(&["exec", name, "--", "/bin/sh", "-c", script])
    }

    fn finish(self, pools: &[&str]) {
        self.delete_all().unwrap();
        for pool in pools {
            self.good(&["storage", "delete", pool]);
        }
        self.doctor().unwrap();
        let left = leftovers::find(&self);
        assert!(left.is_empty(), "left behind: {}", left.join("; "));
        let disks = std::fs::read_dir(self.path("state/disks")).map_or(0, Iterator::count);
        assert_eq!(disks, 0, "disks");
    }
}

/// Names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The file system in a file or device is whole.
pub fn check(disk: &Path) {
    let out = Command::new("btrfs").args(["check", "--readonly"]).arg(disk).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("no error found"), "{}: {said}", disk.display());
}

/// A block device over a file beside the state.
pub struct Device {
    pub path: PathBuf,
}

impl Device {
    pub fn new(state: &State, name: &str) -> Self {
        let file = state.path(name);
        std::fs::File::create(&file).unwrap().set_len(512 << 20).unwrap();
        let out = Command::new("losetup").args(["--find", "--show"]).arg(&file).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        Self { path: String::from_utf8(out.stdout).unwrap().trim().into() }
    }

    pub fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Makes a file system on it.
    pub fn mkfs(&self, kind: &str) {
        let out = Command::new(format!("mkfs.{kind}")).arg("-q").arg(&self.path).output().unwrap();
        assert!(out.status.success(), "{out:?}");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}
