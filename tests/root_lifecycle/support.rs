//! What the tests of running containers and the security tests share: an image whose init is a small script, a state with
//! an instance from it, commands on a terminal of the test's own.

use crate::common_root::{self, Out, State, binary, brief, can_run, have, skip};
use std::fs::File;
use std::io::Read;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ends at once on SIGPWR, halts and restarts at once; keeps reaping meanwhile.
pub const INIT: &str = "#!/bin/sh
trap 'exit 0' PWR
echo booted
while :; do sleep 3600 & wait $!; done
";

/// The folder of an image under construction: `rootfs` and `metadata.yaml`.
pub struct Tree {
    pub dir: PathBuf,
}

impl Tree {
    /// With busybox and [`INIT`].
    pub fn new(state: &State) -> Self {
        let tree = Self { dir: state.path("tree") };
        for sub in ["bin", "sbin", "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "var"] {
            std::fs::create_dir_all(tree.rootfs().join(sub)).unwrap();
        }
        std::fs::set_permissions(tree.rootfs().join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        tree.copy("/bin/busybox", "bin/busybox");
        let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for name in String::from_utf8(applets.stdout).unwrap().lines().filter(|n| !["busybox", "init"].contains(n)) {
            let _ = std::os::unix::fs::symlink("busybox", tree.rootfs().join("bin").join(name));
        }
        tree.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n", 0o644);
        tree.file("etc/group", "root:x:0:\ntty:x:5:\nuser:x:1000:\n", 0o644);
        tree.file("sbin/init", INIT, 0o755);
        let arch = std::env::consts::ARCH;
        let metadata = format!("architecture: {arch}\ncreation_date: 1700000000\nproperties:\n  description: Test\n");
        std::fs::write(tree.dir.join("metadata.yaml"), metadata).unwrap();
        tree
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    pub fn file(&self, path: &str, text: &str, mode: u32) {
        let path = self.rootfs().join(path);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    pub fn copy(&self, from: impl AsRef<Path>, to: &str) {
        let to = self.rootfs().join(to.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }

    /// Imports it under `alias`.
    pub fn import(self, state: &State, alias: &str) -> Out {
        let archive = state.path("image.tar");
        let mut tar = Command::new("tar");
        tar.args(["--owner=0", "--group=0", "--numeric-owner", "--exclude=rootfs/dev/?*", "-cf"]).arg(&archive);
        let templates = self.dir.join("templates").exists().then_some("templates");
        tar.arg("-C").arg(&self.dir).args(["metadata.yaml", "rootfs"]).args(templates);
        assert!(tar.status().unwrap().success(), "tar");
        std::fs::remove_dir_all(&self.dir).unwrap();
        let out = state.run(&["image", "import", &archive.to_string_lossy(), "--alias", alias, "--reuse"]);
        std::fs::remove_file(archive).unwrap();
        out
    }
}

/// A state with the image `test`; none if the test cannot run here.
pub fn state(test: &str) -> Option<State> {
    if brief() { copied(test) } else { state_with(test, |_| {}) }
}

/// A copy of one that was made once for all programs: where programs start slowly, that takes longer than many a test.
fn copied(test: &str) -> Option<State> {
    static MAKING: Mutex<()> = Mutex::new(());
    let made = std::env::temp_dir().join("stapes-test-prepared");
    let making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if !made.is_dir() {
        std::fs::rename(&state_with(test, |_| {})?.dir, &made).unwrap();
    }
    drop(making);
    // It stays: the machine does not.
    let made = ManuallyDrop::new(State { dir: made, bin: binary() });
    can_run(test).then(|| State::copy_of(&made))
}

/// The same; `change` adds to the image.
pub fn state_with(test: &str, change: impl FnOnce(&Tree)) -> Option<State> {
    if !can_run(test) {
        return None;
    }
    for program in ["busybox", "tar", "setsid"] {
        if !have(program) {
            skip(test, &format!("no {program}"));
            return None;
        }
    }
    let state = State::new(&binary());
    let tree = Tree::new(&state);
    change(&tree);
    tree.import(&state, "test").good().unwrap();
    Some(state)
}

/// What tests ask of a state beyond the basics.
pub trait Ask {
    /// Launches `name` from the image `test`.
    fn launch(&self, name: &str, options: &[&str]) -> Out;
    /// Output of a shell command in `name`, trimmed.
    fn sh(&self, name: &str, script: &str) -> String;
    /// Runs a shell command in `name`.
    fn try_sh(&self, name: &str, script: &str) -> Out;
    /// State of `name` in the words of `list`; none: there is no such instance.
    fn status(&self, name: &str) -> Option<String>;
    /// Waits until `list` says so.
    fn wait_status(&self, name: &str, wanted: Option<&str>);
    /// Waits until the instance runs with another process 1 than `before`: until then the record is still that of the old one.
    fn wait_rebooted(&self, name: &str, before: i32);
    /// The run record.
    fn run_record(&self, name: &str) -> toml::Table;
    /// Process 1 on the host.
    fn init(&self, name: &str) -> i32;
    /// Everything deleted, `doctor` content, nothing left.
    fn finish(self);
}

impl Ask for State {
    fn launch(&self, name: &str, options: &[&str]) -> Out {
        self.run(&[&["launch", "test", name], options].concat())
    }

    fn sh(&self, name: &str, script: &str) -> String {
        self.try_sh(name, script).good().unwrap().trim().to_string()
    }

    fn try_sh(&self, name: &str, script: &str) -> Out {
        self.run(&["exec", name, "--", "sh", "-c", script])
    }

    fn status(&self, name: &str) -> Option<String> {
        let all = self.instances().unwrap();
        all.into_iter().find(|(n, _)| n == name).map(|(_, status)| status)
    }

    fn wait_status(&self, name: &str, wanted: Option<&str>) {
        until(&format!("{name} to be {wanted:?}"), || self.status(name).as_deref() == wanted);
    }

    fn wait_rebooted(&self, name: &str, before: i32) {
        let path =
            self.layout().run_file(&Default::default(), &stapes::base::names::InstanceName::parse(name).unwrap());
        let init = || {
            let table: toml::Table = std::fs::read_to_string(&path).ok()?.parse().ok()?;
            table["init_pid"].as_integer()
        };
        until("the reboot", || init().is_some_and(|now| now != i64::from(before)));
        self.wait_status(name, Some("RUNNING"));
    }

    fn run_record(&self, name: &str) -> toml::Table {
        let path =
            self.layout().run_file(&Default::default(), &stapes::base::names::InstanceName::parse(name).unwrap());
        std::fs::read_to_string(path).unwrap().parse().unwrap()
    }

    fn init(&self, name: &str) -> i32 {
        self.run_record(name)["init_pid"].as_integer().unwrap() as i32
    }

    fn finish(self) {
        self.doctor().unwrap();
        self.delete_all().unwrap();
        let left = common_root::leftovers::find(&self);
        assert!(left.is_empty(), "left behind: {left:#?}");
        self.doctor().unwrap();
    }
}

/// Waits until `done` says so, at most half a minute.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Ends a process.
pub fn kill(pid: i32, signal: &str) {
    let done = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap();
    assert!(done.success(), "kill -{signal} {pid}");
}

/// Whether a process is there and is no zombie.
pub fn lives(pid: i32) -> bool {
    stapes::host::proc::stat(pid).unwrap().is_some_and(|s| !s.gone())
}

/// A command on a terminal of the test's own.
pub struct Terminal {
    pub child: Child,
    master: File,
    /// Kept open, so that the master can be read after the command has ended.
    pub slave: OwnedFd,
    /// All it has shown so far.
    pub shown: String,
}

impl Terminal {
    pub fn spawn(state: &State, args: &[&str], (columns, rows): (u16, u16)) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).unwrap();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(&state.bin).args(args).env_clear();
        command.env("STAPES_DIR", &state.dir).env("TERM", "xterm").env("PATH", std::env::var_os("PATH").unwrap());
        let copy = || Stdio::from(slave.try_clone().unwrap());
        let child = {
            resize(master.as_fd(), columns, rows);
            command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap()
        };
        Self { child, master: File::from(master), slave, shown: String::new() }
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        resize(self.master.as_fd(), columns, rows);
    }

    pub fn send(&self, keys: &str) {
        let mut left = keys.as_bytes();
        while !left.is_empty() {
            let n = rustix::io::write(&self.master, left).unwrap();
            left = &left[n..];
        }
    }

    /// Reads until `text` is shown; what came before and with it is taken out.
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            assert!(Instant::now() < end && self.read(Duration::from_millis(500)), "no {text:?} in {:?}", self.shown);
        }
    }

    /// Reads what is there; false at the end.
    fn read(&mut self, patience: Duration) -> bool {
        let timeout = rustix::event::Timespec::try_from(patience).unwrap();
        let mut fds = [rustix::event::PollFd::new(&self.master, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut fds, Some(&timeout)).unwrap() == 0 {
            return true;
        }
        let mut buffer = [0u8; 4096];
        let Ok(n) = self.master.read(&mut buffer) else { return false };
        self.shown.push_str(&String::from_utf8_lossy(&buffer[..n]));
        true
    }

    /// Waits for its end; the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            self.read(Duration::from_millis(20));
            if let Some(status) = self.child.try_wait().unwrap() {
                self.read(Duration::from_millis(20));
                return ExitStatus::code(&status);
            }
            assert!(Instant::now() < end, "it does not end: {:?}", self.shown);
        }
    }

    /// True if the line discipline is at work: not raw.
    pub fn is_cooked(&self) -> bool {
        let mode = rustix::termios::tcgetattr(&self.slave).unwrap().local_modes;
        mode.contains(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(master: std::os::fd::BorrowedFd<'_>, columns: u16, rows: u16) {
    let size = rustix::termios::Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master, size).unwrap();
}
