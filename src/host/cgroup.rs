//! cgroup v2, wherever it is mounted. Groups are named after the state folder, the project and the instance, so that they
//! are found without records and two state folders never share one.
//!
//! On a systemd host our part is a delegated scope, which systemd makes ([`super::scope`]); a service that runs one instance
//! has it in its own group. On a hybrid host the version 2 tree may have no controllers: running, freezing, killing and
//! accounting work all the same; asking for a limit is refused ([`Tree::require`]). Source: the kernel's
//! admin-guide/cgroup-v2.rst.

use super::scope;
use crate::error::{Context, Error, Result};
use crate::sys::mount::fs_magic;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `CGROUP2_SUPER_MAGIC`.
const MAGIC: i64 = 0x6367_7270;

/// The version 2 hierarchy with our part of it.
#[derive(Debug, Clone)]
pub struct Tree {
    mount: PathBuf,
    base: PathBuf,
    /// The systemd scope whose group `base` is.
    scope: Option<String>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    path: PathBuf,
}

/// Where cgroup2 is mounted.
///
/// # Errors
/// [`crate::error::Kind::Unsupported`] if it is not mounted.
pub fn mount_point() -> Result<PathBuf> {
    for usual in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        if is_cgroup2(Path::new(usual)) {
            return Ok(usual.into());
        }
    }
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("Failed reading the mount table")?;
    table.lines().find_map(cgroup2_line).ok_or_else(|| {
        Error::unsupported("cgroup version 2 is not mounted")
            .hint("mount it: mount -t cgroup2 none /sys/fs/cgroup/unified")
    })
}

fn is_cgroup2(path: &Path) -> bool {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .is_ok_and(|fd| fs_magic(fd.as_fd()).is_ok_and(|m| m == MAGIC))
}

/// `36 35 0:29 / /where options - cgroup2 …` (proc_pid_mountinfo(5)).
fn cgroup2_line(line: &str) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ');
    let (root, at) = (fields.nth(3)?, fields.next()?);
    (right.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(at))
}

impl Tree {
    /// Our part of the hierarchy: `<mount>/<base>`, under systemd `<mount>/machine.slice/<base>.scope`. It need not exist.
    ///
    /// # Errors
    /// As [`mount_point`].
    pub fn open(base: &str) -> Result<Self> {
        let mount = mount_point()?;
        if !scope::is_systemds(&mount) {
            return Ok(Self { base: mount.join(base), mount, scope: None });
        }
        let unit = format!("{base}.scope");
        Ok(Self { base: mount.join(scope::SLICE).join(&unit), mount, scope: Some(unit) })
    }

    /// A group that is ours already: that of a service with `Delegate=yes`.
    ///
    /// # Errors
    /// As [`mount_point`].
    pub fn at(base: PathBuf) -> Result<Self> {
        Ok(Self { mount: mount_point()?, base, scope: None })
    }

    /// Its folder.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The name of the systemd scope that it is.
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// The group of an instance; it need not exist.
    pub fn instance(&self, name: &str) -> Group {
        Group { path: self.base.join(name) }
    }

    /// The group in which all monitors live; it exists while a [`super::scope::Keeper`] or a monitor lives.
    pub fn monitors(&self) -> Group {
        Group { path: self.base.join("monitors") }
    }

    /// Controllers that can be used in it.
    pub fn controllers(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.mount.join("cgroup.controllers")).unwrap_or_default();
        text.split_whitespace().map(str::to_string).collect()
    }

    /// Refuses when `controller` is not in the version 2 hierarchy.
    ///
    /// # Errors
    /// [`crate::error::Kind::Unsupported`], naming the key that needs it.
    pub fn require(&self, controller: &str, key: &str) -> Result<()> {
        if self.controllers().iter().any(|c| c == controller) {
            return Ok(());
        }
        Err(Error::unsupported(format!(
            "Cannot apply \"{key}\": the cgroup2 controller \"{controller}\" is not available on this host"
        ))
        .hint("boot with a pure cgroup v2 hierarchy (systemd.unified_cgroup_hierarchy=1), or unset the key"))
    }

    /// Removes our part if nothing lives in it, unless it is systemd's to do. Nothing may be starting in it: no lock here says so.
    ///
    /// # Errors
    /// As rmdir(2); what is in use is none.
    pub fn leave(&self) -> Result<()> {
        if self.scope.is_some() || !self.base.is_dir() || Group::at(self.base.clone()).populated() {
            return Ok(());
        }
        for folder in [&self.base.join("monitors"), &self.base] {
            match rustix::fs::unlinkat(CWD, folder, AtFlags::REMOVEDIR) {
                // A group of somebody's who ended without a word: "doctor" tells of it.
                Ok(()) | Err(Errno::NOENT | Errno::BUSY | Errno::NOTEMPTY) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Names of the groups that exist below ours, the monitors' aside.
    pub fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.base) else { return Vec::new() };
        entries
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|n| n != "monitors")
            .collect()
    }
}

impl Group {
    /// A group by its folder.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it; its parent is there ([`Tree::hold`]): a folder of systemd's is never made behind its back.
    ///
    /// # Errors
    /// As mkdir(2); an existing one is fine.
    pub fn make(&self) -> Result<()> {
        // Whatever the umask takes: who mounts cgroup2 below must be allowed to search all groups above. Kernels up to 6.15
        // ask with that caller's rights (fs/kernfs/mount.c), and the root of a container in a container owns none of them.
        let mode = Mode::from_raw_mode(0o755);
        match rustix::fs::mkdir(&self.path, mode).and_then(|()| rustix::fs::chmod(&self.path, mode)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(std::io::Error::from(e))
                .with_context(|| format!("Failed creating cgroup \"{}\"", self.path.display())),
        }
    }

    /// Moves process `pid` into it.
    ///
    /// # Errors
    /// As write(2).
    pub fn enter(&self, pid: i32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// A descriptor for clone3(2).
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&self.path, flags, Mode::empty())
            .map_err(std::io::Error::from)
            .with_context(|| format!("Failed opening cgroup \"{}\"", self.path.display()))
    }

    /// Hands the group over to `uid`:`gid`: the folder and the files that /sys/kernel/cgroup/delegate lists. Its limits
    /// stay ours.
    ///
    /// # Errors
    /// As chown(2).
    pub fn delegate(&self, uid: u32, gid: u32) -> Result<()> {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let dir = self.open()?;
        for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            rustix::fs::chownat(dir.as_fd(), file, owner.0, owner.1, AtFlags::EMPTY_PATH)
                .map_err(std::io::Error::from)
                .with_context(|| format!("Failed delegating cgroup \"{}\"", self.path.display()))?;
        }
        Ok(())
    }

    /// Whether the folder exists.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Whether a process lives in it or below.
    pub fn populated(&self) -> bool {
        self.event("populated") == Some(true)
    }

    /// Whether it is frozen, as asked for (`cgroup.freeze`).
    pub fn frozen(&self) -> bool {
        std::fs::read(self.path.join("cgroup.freeze")).is_ok_and(|v| v.first() == Some(&b'1'))
    }

    fn event(&self, name: &str) -> Option<bool> {
        let text = std::fs::read_to_string(self.path.join("cgroup.events")).ok()?;
        text.lines().find_map(|l| Some(l.strip_prefix(name)?.trim() == "1"))
    }

    /// Freezes or thaws all its processes and waits until they are, at most `timeout`.
    ///
    /// # Errors
    /// [`crate::error::Kind::Failed`] when the time is over: it is thawed again.
    pub fn freeze(&self, freeze: bool, timeout: Duration) -> Result<()> {
        self.write("cgroup.freeze", if freeze { "1" } else { "0" })?;
        if self.wait_event("frozen", freeze, timeout)? {
            return Ok(());
        }
        if freeze {
            self.write("cgroup.freeze", "0")?;
        }
        Err(Error::failed("Timed out waiting for the processes to change state"))
    }

    /// Kills every process in it and below, and waits until they are gone, at most `timeout`.
    ///
    /// # Errors
    /// [`crate::error::Kind::Failed`] when the time is over.
    pub fn kill(&self, timeout: Duration) -> Result<()> {
        if !self.exists() || !self.populated() {
            return Ok(());
        }
        self.write("cgroup.kill", "1")?;
        if self.wait_event("populated", false, timeout)? {
            return Ok(());
        }
        Err(Error::failed(format!("Timed out killing the processes of cgroup \"{}\"", self.path.display())))
    }

    /// Sends SIGKILL to all without waiting.
    ///
    /// # Errors
    /// As write(2).
    pub fn kill_now(&self) -> Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// Waits until `name` in `cgroup.events` is `wanted`, woken by the kernel's notification.
    fn wait_event(&self, name: &str, wanted: bool, timeout: Duration) -> Result<bool> {
        let path = self.path.join("cgroup.events");
        let mut file = match std::fs::File::open(&path) {
            Ok(f) => f,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(!wanted),
            Err(e) => return Err(e).with_context(|| format!("Failed opening \"{}\"", path.display())),
        };
        let end = Instant::now() + timeout;
        loop {
            if read_event(&mut file, name)? == Some(wanted) {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let left = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
            let timeout = nix::poll::PollTimeout::try_from(left).unwrap_or(nix::poll::PollTimeout::MAX);
            let mut fds = [nix::poll::PollFd::new(file.as_fd(), nix::poll::PollFlags::POLLPRI)];
            match nix::poll::poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Writes a control file.
    ///
    /// # Errors
    /// As write(2), naming the file.
    pub fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.path.join(file);
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut f| f.write_all(value.as_bytes()))
            .with_context(|| format!("Failed writing \"{value}\" to \"{}\"", path.display()))
    }

    /// A number from a control file: the whole file, or the line `field <n>` of it.
    pub fn number(&self, file: &str, field: Option<&str>) -> Option<u64> {
        let text = std::fs::read_to_string(self.path.join(file)).ok()?;
        match field {
            None => text.trim().parse().ok(),
            Some(f) => text.lines().find_map(|l| l.strip_prefix(f)?.trim().parse().ok()),
        }
    }

    /// Number of processes in it and below.
    pub fn processes(&self) -> u64 {
        let mut count = 0;
        let mut left = vec![self.path.clone()];
        while let Some(dir) = left.pop() {
            let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            count += procs.lines().count() as u64;
            left.extend(subgroups(&dir));
        }
        count
    }

    /// Removes it and all below, which must be without processes. An absent one is fine.
    ///
    /// # Errors
    /// EBUSY if a process is left.
    pub fn remove(&self) -> Result<()> {
        match rustix::fs::unlinkat(CWD, &self.path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(_) => {}
        }
        let removed = open_folder(CWD, &self.path)
            .and_then(remove_below)
            .and_then(|()| rustix::fs::unlinkat(CWD, &self.path, AtFlags::REMOVEDIR));
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::from(e).context(format!("Failed removing cgroup \"{}\"", self.path.display()))),
        }
    }
}

fn open_folder(at: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// Removes the groups below `at`. A guest can nest them deeper than a path may be long and than we may have descriptors open: one
/// folder is open at a time, and the way back is `..`.
fn remove_below(mut at: OwnedFd) -> rustix::io::Result<()> {
    let mut way: Vec<CString> = Vec::new();
    loop {
        if let Some(name) = first_below(&at)? {
            match rustix::fs::unlinkat(&at, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::BUSY | Errno::NOTEMPTY) => {
                    at = open_folder(&at, &name)?;
                    way.push(name);
                }
                Err(e) => return Err(e),
            }
            continue;
        }
        let Some(name) = way.pop() else { return Ok(()) };
        at = open_folder(&at, c"..")?;
        rustix::fs::unlinkat(&at, &name, AtFlags::REMOVEDIR)?;
    }
}

fn first_below(at: &OwnedFd) -> rustix::io::Result<Option<CString>> {
    for entry in rustix::fs::Dir::read_from(at)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == rustix::fs::FileType::Directory && name != c"." && name != c".." {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

fn subgroups(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn read_event(file: &mut std::fs::File, name: &str) -> Result<Option<bool>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text));
    match read {
        // The group was removed: nothing lives in it.
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return Ok(Some(false)),
        other => other.context("Failed reading \"cgroup.events\"")?,
    };
    Ok(text.lines().find_map(|l| Some(l.strip_prefix(name)?.trim() == "1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_nested_deeper_than_a_path_is_long_are_removed() {
        let d = tempfile::tempdir().expect("tempdir");
        let top = open_folder(CWD, d.path()).expect("open");
        for wide in 0..3 {
            let mut at = top.try_clone().expect("dup");
            for deep in 0..60 {
                let name = format!("{wide}{}", "a".repeat(200));
                rustix::fs::mkdirat(&at, &name, Mode::RWXU).expect("mkdir");
                rustix::fs::mkdirat(&at, format!("{wide}-{deep}"), Mode::RWXU).expect("mkdir");
                at = open_folder(&at, name.as_str()).expect("open");
            }
        }
        Group::at(d.path().to_path_buf()).remove().expect("removed");
        assert!(!d.path().exists());
        std::fs::create_dir(d.path()).expect("for the end of the test");
    }

    #[test]
    fn finds_cgroup2_in_a_mount_table() {
        let line = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_line(line), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2_line("40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd"), None);
    }
}
