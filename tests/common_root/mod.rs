//! What the tests of running containers share: a state folder of their own, the program run on it with a deadline, and the
//! search for whatever a command may have left behind.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

pub mod debian;
pub mod leftovers;

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a command may take unless a test says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Says that a test did not run, and why.
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIP {test}: {reason}");
}

/// True if the test can run: root, and the cgroup2 tree can be written.
pub fn can_run(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        skip(test, "not root");
        return false;
    }
    let Ok(mount) = stapes::host::cgroup::mount_point() else {
        skip(test, "cgroup2 is not mounted");
        return false;
    };
    if rustix::fs::access(&mount, rustix::fs::Access::WRITE_OK).is_err() {
        skip(test, "the cgroup2 tree is read-only");
        return false;
    }
    leave_the_network();
    true
}

/// The network of whoever runs the tests.
static OUTSIDE: OnceLock<File> = OnceLock::new();

/// Puts this thread, what it starts and the commands of both into a network of their own, with nothing but a loopback: the
/// machine's interfaces, routes and rules are not for tests.
pub fn leave_the_network() {
    thread_local! {
        static LEFT: Cell<bool> = const { Cell::new(false) };
    }
    if !LEFT.replace(true) {
        OUTSIDE.get_or_init(|| File::open("/proc/thread-self/ns/net").unwrap());
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success(), "ip link set lo up");
    }
}

/// Does something where a distribution's packages can be reached.
pub fn with_the_network<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    let outside = || nix::sched::setns(OUTSIDE.get()?, nix::sched::CloneFlags::CLONE_NEWNET).ok();
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            outside();
            what()
        });
        there.join().unwrap()
    })
}

/// A socket call that goes on when something interrupts it: with a time limit on the socket a stop of the whole process does,
/// without any handler (signal(7)).
pub fn on<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// A program that some tests need.
pub fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The program under test: the release binary of `tests/run`, else the debug one.
pub fn binary() -> PathBuf {
    std::env::var_os("STAPES_BIN").map_or_else(|| env!("CARGO_BIN_EXE_stapes").into(), PathBuf::from)
}

/// True where programs start slowly (software emulation): long rows of like cases are then cut short.
pub fn brief() -> bool {
    std::env::var_os("STAPES_TEST_BRIEF").is_some()
}

/// The program with fault points.
pub fn faults_binary(test: &str) -> Option<PathBuf> {
    let given = std::env::var_os("STAPES_FAULTS_BIN").map(PathBuf::from);
    let path = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/faults/stapes"));
    if let Ok(path) = path.canonicalize() {
        return Some(path);
    }
    skip(test, "no binary with fault points: run tests/build --faults");
    None
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Out {
    /// Its words, for messages.
    pub words: String,
    /// How it ended; none: it was killed after its time was over.
    pub status: Option<ExitStatus>,
    pub stdout: String,
    pub stderr: String,
}

impl Out {
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|s| s.code())
    }

    pub fn ok(&self) -> bool {
        self.code() == Some(0)
    }

    /// Its output, or what went wrong in words.
    pub fn good(self) -> Result<String, String> {
        if self.ok() { Ok(self.stdout) } else { Err(self.to_string()) }
    }

    /// Fails as every command should: exit 1 with one line `Error: …`, and perhaps hints below.
    pub fn clean_failure(&self) -> Result<(), String> {
        let errors = self.stderr.lines().filter(|l| l.starts_with("Error: ")).count();
        let words = !self.stderr.contains("panicked") && !self.stderr.contains("Internal error");
        if self.code() == Some(1) && errors == 1 && words { Ok(()) } else { Err(format!("no clean failure: {self}")) }
    }
}

impl std::fmt::Display for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = self.status.map_or_else(|| "out of time".to_string(), |s| s.to_string());
        write!(f, "`{}`: {status}: {}{}", self.words, self.stdout.trim(), self.stderr.trim())
    }
}

/// A pool, and the default profile with a root on it.
const PRESEED: &str = "storage_pools: [{name: default}]
profiles: [{name: default, devices: {root: {type: disk, path: /, pool: default}}}]
";

/// A state folder of its own with the program that works on it. Dropping it ends what still runs there and removes it.
#[derive(Debug)]
pub struct State {
    pub dir: PathBuf,
    pub bin: PathBuf,
}

impl State {
    /// One with a pool and no network: what first use would make takes time, and is not what most tests are about.
    pub fn new(bin: &Path) -> Self {
        let state = Self::bare(bin);
        state.preseed();
        state
    }

    /// Makes a pool, and no network.
    pub fn preseed(&self) {
        run(self.command(&["admin", "init", "--preseed"]), Some(PRESEED), PATIENCE).good().unwrap();
    }

    /// An empty one.
    pub fn bare(bin: &Path) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let base = std::env::var_os("STAPES_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let free = |dir: &PathBuf| match std::fs::create_dir(dir) {
            Ok(()) => true,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && brief() => false,
            Err(e) => panic!("{}: {e}", dir.display()),
        };
        let own = |_| base.join(format!("stapes-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst)));
        // Few names, used again: the profiles of instances are named after the folder, and not compiled anew for each test.
        let again = |n| base.join(format!("stapes-test-{n}"));
        let dir = (0..1000).map(|n| if brief() { again(n) } else { own(n) }).find(free).unwrap();
        Self { dir, bin: bin.to_path_buf() }
    }

    /// One with the content of `other`, in which nothing runs. Files beside the state, such as those of images, are the same
    /// ones: nobody writes to them.
    pub fn copy_of(other: &Self) -> Self {
        let new = Self::bare(&other.bin);
        let parts = std::fs::read_dir(&other.dir).unwrap().map(|part| part.unwrap());
        let (folders, files): (Vec<_>, Vec<_>) = parts.partition(|part| part.file_type().unwrap().is_dir());
        for file in files {
            std::fs::hard_link(file.path(), new.dir.join(file.file_name())).unwrap();
        }
        if !folders.is_empty() {
            let mut copy = Command::new("cp");
            copy.arg("-a").args(folders.iter().map(std::fs::DirEntry::path)).arg(&new.dir);
            assert!(copy.status().unwrap().success(), "cp -a of {}", other.dir.display());
        }
        new
    }

    /// A path in the state folder's own folder, beside the state.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn layout(&self) -> stapes::store::layout::Layout {
        stapes::store::layout::Layout::under(&self.dir)
    }

    /// The program with `args`, in an environment of its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.bin);
        command.args(args).env_clear().env("STAPES_DIR", &self.dir).env("HOME", "/root").env("TERM", "dumb");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(&self.dir);
        command.env("STAPES_CONF", self.dir.join("conf")).env("STAPES_GLOBAL_CONF", self.dir.join("conf-global"));
        let authority = self.dir.join("ca.crt");
        if authority.exists() {
            command.env("SSL_CERT_FILE", authority);
        }
        command
    }

    /// Runs it.
    pub fn run(&self, args: &[&str]) -> Out {
        run(self.command(args), None, PATIENCE)
    }

    /// Runs it and wants success.
    pub fn good(&self, args: &[&str]) -> String {
        self.run(args).good().unwrap()
    }

    /// Names and states of all instances, as `list` has them.
    pub fn instances(&self) -> Result<Vec<(String, String)>, String> {
        let text = self.run(&["list", "-f", "csv", "-c", "ns"]).good()?;
        let pair = |l: &str| l.split_once(',').map(|(n, s)| (n.to_string(), s.to_string()));
        Ok(text.lines().filter_map(pair).collect())
    }

    /// Fingerprints of all images.
    pub fn images(&self) -> Result<Vec<String>, String> {
        let text = self.run(&["image", "list", "-f", "csv", "-c", "F"]).good()?;
        Ok(text.lines().map(str::to_string).collect())
    }

    /// Deletes all instances, images, networks and what belongs to these.
    pub fn delete_all(&self) -> Result<(), String> {
        for (name, _) in self.instances()? {
            self.run(&["delete", "-f", &name]).good()?;
        }
        let projects = self.run(&["project", "list", "-f", "csv", "-c", "n"]).good()?;
        for name in projects.lines().filter(|l| !l.ends_with("(current)")) {
            self.run(&["project", "delete", "-f", name]).good()?;
        }
        // The one of first use, if there is one.
        self.run(&["profile", "device", "remove", "default", "eth0"]);
        for image in self.images()? {
            self.run(&["image", "delete", &image]).good()?;
        }
        let networks = self.run(&["network", "list", "-f", "csv", "-c", "nm"]).good()?;
        for name in networks.lines().filter_map(|l| l.strip_suffix(",YES")) {
            self.run(&["network", "delete", name]).good()?;
        }
        for kind in ["acl", "address-set"] {
            let all = self.run(&["network", kind, "list", "-f", "csv"]).good()?;
            for name in all.lines().filter_map(|l| l.split(',').next()).filter(|name| !name.ends_with('"')) {
                self.run(&["network", kind, "delete", name]).good()?;
            }
        }
        Ok(())
    }

    /// `doctor` finds nothing wrong; nothing is mended by that.
    pub fn doctor(&self) -> Result<(), String> {
        let out = self.run(&["doctor", "-f", "csv"]);
        let bad: Vec<&str> = out.stdout.lines().filter(|l| l.contains(",ERROR,")).collect();
        if out.ok() { Ok(()) } else { Err(format!("doctor: {} {}", bad.join("; "), out.stderr.trim())) }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        leftovers::end(self);
        if std::env::var_os("STAPES_TEST_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.dir);
            // What a failed test has left in the kernel goes by the name: the next one is to have another.
            if std::thread::panicking() && brief() {
                let _ = std::fs::create_dir(&self.dir);
            }
        }
    }
}

/// Runs a command to its end, with `input` on its standard input, and kills it when its time is over. Its output goes
/// through files: a process it leaves behind cannot keep us waiting.
pub fn run(mut command: Command, input: Option<&str>, patience: Duration) -> Out {
    let args: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
    let words = format!("{} {}", Path::new(command.get_program()).file_name().unwrap().display(), args.join(" "));
    let (mut out, mut err, mut given) = (file(), file(), file());
    given.write_all(input.unwrap_or_default().as_bytes()).unwrap();
    rewind(&mut given);
    command.stdin(Stdio::from(given));
    command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let status = wait(&mut child, patience);
    Out { words, status, stdout: text(&mut out), stderr: text(&mut err) }
}

/// Waits for a child; kills it after `patience`.
pub fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let pid = rustix::process::Pid::from_child(child);
    let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec::try_from(left).unwrap();
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd.as_fd(), rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            Ok(_) => return Some(child.wait().unwrap()),
            Err(_) => {}
        }
    }
}

/// A file without a name.
fn file() -> File {
    File::from(rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap())
}

fn rewind(file: &mut File) {
    std::io::Seek::rewind(file).unwrap();
}

fn text(file: &mut File) -> String {
    rewind(file);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(file, &mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An image archive whose init is a shell script that ends at once when asked: busybox's own takes seconds. A signal that
/// comes just before it begins to read is seen when it looks up, every other second.
/// `dir` gets `image.tar`, and the same split: `meta.tar` and `rootfs.tar`, `rootfs.squashfs` where mksquashfs is there.
pub fn make_images(dir: &Path) {
    let tree = dir.join("tree");
    let rootfs = tree.join("rootfs");
    for sub in ["bin", "sbin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"] {
        std::fs::create_dir_all(rootfs.join(sub)).unwrap();
    }
    std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    for name in ["sh", "true", "false", "cat", "sleep", "mkfifo", "rm"] {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(name)).unwrap();
    }
    std::fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    std::fs::write(rootfs.join("etc/group"), "root:x:0:\n").unwrap();
    let init = rootfs.join("sbin/init");
    std::fs::write(
        &init,
        "#!/bin/sh\n[ -z \"$QUIT\" ] || exit 0\ntrap 'exit 0' PWR\nrm -f /run/f\nmkfifo /run/f\nexec 9<>/run/f\nwhile :; do read -t 2 -r x <&9; done\n",
    )
    .unwrap();
    std::fs::set_permissions(&init, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let arch = std::env::consts::ARCH;
    let metadata =
        format!("architecture: {arch}\ncreation_date: 1700000000\nproperties:\n  os: test\n  description: Test\n");
    std::fs::write(tree.join("metadata.yaml"), metadata).unwrap();
    let tar = |name: &str, at: &Path, what: &[&str]| {
        let mut tar = Command::new("tar");
        tar.args(["--owner=0", "--group=0", "--numeric-owner", "-cf"]).arg(dir.join(name)).arg("-C").arg(at).args(what);
        assert!(tar.status().unwrap().success(), "tar");
    };
    tar("image.tar", &tree, &["metadata.yaml", "rootfs"]);
    tar("meta.tar", &tree, &["metadata.yaml"]);
    tar("rootfs.tar", &rootfs, &["."]);
    if have("mksquashfs") {
        let squash = dir.join("rootfs.squashfs");
        let mut make = Command::new("mksquashfs");
        make.arg(&rootfs).arg(squash).args(["-noappend", "-quiet", "-no-progress", "-all-root"]);
        assert!(make.stdout(Stdio::null()).status().unwrap().success(), "mksquashfs");
    }
    std::fs::remove_dir_all(&tree).unwrap();
}
