//! The machine: a kernel, a small initramfs with what it is to do, and disks. Software emulation unless told otherwise.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What boots, as `tests/guest/build` has made it.
pub struct Guest {
    pub dir: PathBuf,
    /// Arguments for the accelerator and the processor.
    pub accel: Vec<String>,
}

/// A file of the payload: its name, its content, whether it is a program.
pub type Payload<'a> = (&'a str, Vec<u8>, bool);

impl Guest {
    /// What the caller's environment names; none if it names nothing.
    pub fn given() -> Option<Self> {
        let dir = PathBuf::from(std::env::var_os("STAPES_POWER_GUEST")?);
        let accel = std::env::var("STAPES_POWER_ACCEL").unwrap_or_else(|_| "-accel tcg,thread=multi -cpu max".into());
        Some(Self { dir, accel: accel.split_whitespace().map(String::from).collect() })
    }

    /// An initramfs in `dir` that runs `/payload/begin`: two archives, one after the other (the kernel reads all there are).
    pub fn initramfs(&self, dir: &Path, payload: &[Payload<'_>]) -> PathBuf {
        let tree = dir.join("tree");
        std::fs::create_dir_all(tree.join("payload")).unwrap();
        for (name, content, program) in payload {
            let path = tree.join("payload").join(name);
            std::fs::write(&path, content).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(if *program { 0o755 } else { 0o644 });
            std::fs::set_permissions(path, mode).unwrap();
        }
        let path = dir.join("initrd");
        let mut bytes = std::fs::read(self.dir.join("initrd-small")).unwrap();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        std::fs::write(&path, bytes).unwrap();
        let out = File::options().append(true).open(&path).unwrap();
        let script = "find . | busybox cpio -o -H newc";
        let mut cpio = Command::new("sh");
        cpio.args(["-c", script]).current_dir(&tree).stdout(out).stderr(Stdio::null());
        assert!(cpio.status().unwrap().success(), "cpio");
        std::fs::remove_dir_all(tree).unwrap();
        path
    }

    /// Starts it; what it says on its port `results` goes to `dir/results`.
    pub fn start(&self, dir: &Path, initramfs: &Path, disks: &[String]) -> Machine {
        let results = dir.join("results");
        File::create(&results).unwrap();
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args("-nodefaults -no-user-config -no-reboot -nographic -machine q35 -m 1024 -smp 2".split(' '));
        qemu.args(&self.accel).arg("-kernel").arg(self.dir.join("vmlinuz")).arg("-initrd").arg(initramfs);
        qemu.args(["-append", "console=ttyS0 quiet no_timer_check panic=-1 mitigations=off apparmor=0"]);
        qemu.arg("-serial").arg(format!("file:{}", dir.join("console").display()));
        qemu.args(["-device", "virtio-serial", "-device", "virtserialport,chardev=results,name=results"]);
        qemu.arg("-chardev").arg(format!("file,id=results,path={}", results.display()));
        qemu.args(disks).stdin(Stdio::null());
        Machine { qemu: qemu.spawn().expect("qemu-system-x86_64"), dir: dir.to_path_buf() }
    }
}

/// One that runs. Dropping it takes its power away.
pub struct Machine {
    qemu: Child,
    dir: PathBuf,
}

impl Machine {
    /// All it has said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.join("results")).unwrap()).into_owned()
    }

    /// Waits until it says the line `word`, or ends; what it said until then. It may be silent for `patience`.
    pub fn wait(&mut self, word: &str, patience: Duration) -> Result<String, String> {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let ended = self.qemu.try_wait().unwrap().is_some();
            let said = self.said();
            if said.lines().any(|line| line == word) {
                return Ok(said);
            }
            if said.len() > last {
                (last, since) = (said.len(), Instant::now());
            }
            if ended || since.elapsed() > patience {
                let console = std::fs::read(self.dir.join("console")).unwrap_or_default();
                let console = String::from_utf8_lossy(&console);
                let tail: Vec<&str> = console.lines().rev().take(15).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                return Err(format!("no {word:?} from the guest; it said:\n{said}\nconsole:\n{}", tail.join("\n")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SIGKILL: nothing is flushed by QEMU on the way.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// A new disk with a file system of `size` bytes on a file of `whole`.
pub fn format(path: &Path, fs: &str, size: u64, whole: u64) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    let options: &[&str] = match fs {
        "ext4" | "xfs" => &["-q"],
        _ => &["-q", "-f"],
    };
    let made = Command::new(format!("mkfs.{fs}")).args(options).arg(path).stderr(Stdio::null()).status().unwrap();
    assert!(made.success(), "mkfs.{fs}");
    file.set_len(whole).unwrap();
}

/// A copy of `base` with these sectors in place of its own.
pub fn disk(path: &Path, base: &Path, sectors: &std::collections::BTreeMap<u64, &[u8]>) {
    let copied = Command::new("cp").arg("--sparse=always").arg(base).arg(path).status().unwrap();
    assert!(copied.success(), "cp");
    let mut file = File::options().write(true).open(path).unwrap();
    for (number, sector) in sectors {
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(number * super::log::SECTOR as u64)).unwrap();
        file.write_all(sector).unwrap();
    }
}
