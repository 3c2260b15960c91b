//! Pools, images and detached mounts for the conformance suite.

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use stapes::base::idmap::IdMap;
use stapes::base::names::Fingerprint;
use stapes::model::attach::Rootfs;
use stapes::model::instance::Config;
use stapes::storage::disk::{self, Disk};
use stapes::storage::{self, Driver, Staging, Volume, VolumeKind, lvm, zfs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// False, and said so, without root.
pub fn root(name: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIP {name}: needs root");
    }
    root
}

pub fn fingerprint(n: u32) -> Fingerprint {
    Fingerprint::parse(&format!("{n:064x}")).unwrap()
}

/// The name an image of these tests is unpacked under.
pub fn staging(image: &Fingerprint) -> Staging {
    Staging::parse(&image[32..]).unwrap()
}

pub fn container(name: &str) -> Volume {
    Volume::new(VolumeKind::Container, name).unwrap()
}

pub struct Pool {
    pub data: PathBuf,
    pub driver: Box<dyn Driver>,
    // Before the folder that it is in.
    _group: Option<Group>,
    _root: Option<Root>,
    _place: Option<Attached>,
    _dir: Option<tempfile::TempDir>,
    _disk: Option<Loop>,
}

/// A volume group in a file, and what is mounted of it, that end with this.
struct Group {
    group: lvm::Group,
    disk: Disk,
    config: Config,
    data: PathBuf,
}

impl Drop for Group {
    fn drop(&mut self) {
        let how = lvm::Settings::of(&self.config).unwrap();
        let done = lvm::unmount_all(&self.data).and_then(|()| self.group.release(Some(&self.disk), &how));
        if let Err(e) = done {
            eprintln!("left behind: {e}");
        }
    }
}

/// A mount in a folder of its own; both end with this. Older kernels take layers of overlays from such alone.
pub struct Attached(tempfile::TempDir);

impl Attached {
    pub fn new(mount: &Mounted) -> Self {
        let dir = tempfile::tempdir().unwrap();
        stapes::sys::mount::attach(mount.fd.as_fd(), dir.path()).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// A ZFS pool in a file, and what is mounted of it, that end with this.
struct Root {
    root: zfs::Root,
    disk: Disk,
    data: PathBuf,
}

impl Drop for Root {
    fn drop(&mut self) {
        let hidden = lvm::unmount_all(&self.data).and_then(|()| disk::unmount(&self.data));
        if let Err(e) = hidden.and_then(|()| self.root.release(Some(&self.disk))) {
            eprintln!("left behind: {e}");
        }
    }
}

impl Pool {
    pub fn new(driver: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut pool = Self::at(&dir.path().join("data"), driver);
        pool._dir = Some(dir);
        pool
    }

    /// On a file system that the driver can do with; None if the host cannot make one.
    pub fn fitting(driver: &str) -> Option<Self> {
        match driver {
            "btrfs" => {}
            "lvm" => return Self::in_group(true),
            "zfs" => return Self::in_zpool(),
            "lvm, not thin" => return Self::in_group(false),
            _ => return Some(Self::new(driver)),
        }
        let disk = Loop::new("btrfs")?;
        // Attached, for other users are to look for a way in.
        let place = Attached::new(&disk.mount);
        let mut pool = Self::at(&place.path().join("data"), driver);
        (pool._place, pool._disk) = (Some(place), Some(disk));
        Some(pool)
    }

    /// In a volume group; None if the kernel or the host has no LVM.
    fn in_group(thin: bool) -> Option<Self> {
        let has = |program: &str| Command::new(program).arg("--help").output().is_ok();
        if !(has("lvm") && has("thin_check") && Path::new("/sys/class/misc/device-mapper").exists()) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::Image(dir.path().join("disks/disk"));
        stapes::storage::disk::create_image(disk.path(), 512 << 20).unwrap();
        let id = uuid::Uuid::new_v4().to_string();
        let name = format!("stapes-test-{}", &id[..8]);
        let pairs = [
            ("lvm.vg_name", name.as_str()),
            ("volatile.id", &id),
            ("volume.size", "64MiB"),
            ("lvm.use_thinpool", if thin { "true" } else { "false" }),
        ];
        let config: Config = pairs.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let group = lvm::Group::of("lvm", &config).unwrap();
        group.make(Some(&disk), &lvm::Settings::of(&config).unwrap(), false).unwrap();
        let data = dir.path().join("data");
        let kept = Group { group, disk, config, data };
        storage::setup(&kept.data).unwrap();
        let driver = storage::open("lvm", &kept.data, &kept.config).unwrap();
        Some(Self {
            data: kept.data.clone(),
            driver,
            _group: Some(kept),
            _root: None,
            _place: None,
            _dir: Some(dir),
            _disk: None,
        })
    }

    /// In a ZFS pool; None if the kernel or the host has none.
    fn in_zpool() -> Option<Self> {
        if !Command::new("modprobe").arg("zfs").output().is_ok_and(|out| out.status.success()) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::Image(dir.path().join("disks/disk"));
        disk::create_image(disk.path(), 512 << 20).unwrap();
        let id = uuid::Uuid::new_v4().to_string();
        let name = format!("stapes-test-{}", &id[..8]);
        let pairs = [("zfs.pool_name", name.as_str()), ("volatile.id", &id)];
        let config: Config = pairs.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let kept = Root { root: zfs::Root::of("zfs", &config).unwrap(), disk, data: dir.path().join("data") };
        kept.root.make(Some(&kept.disk), false, &kept.data).unwrap();
        storage::setup(&kept.data).unwrap();
        let driver = storage::open("zfs", &kept.data, &config).unwrap();
        let mut pool = Self::new("dir");
        (pool.data, pool.driver, pool._root, pool._dir) = (kept.data.clone(), driver, Some(kept), Some(dir));
        Some(pool)
    }

    pub fn at(data: &Path, driver: &str) -> Self {
        storage::setup(data).unwrap();
        storage::setup(data).unwrap();
        let driver = storage::driver(driver, data).unwrap();
        Self { data: data.to_path_buf(), driver, _group: None, _root: None, _place: None, _dir: None, _disk: None }
    }

    /// Puts a plain image into the pool.
    pub fn image(&self, n: u32) -> Fingerprint {
        let fp = fingerprint(n);
        plain_image(&self.driver.begin_image(&staging(&fp)).unwrap());
        self.driver.commit_image(&staging(&fp), &fp).unwrap();
        fp
    }
}

/// A few files as an image has them.
pub fn plain_image(staged: &Path) {
    for dir in ["rootfs/etc", "rootfs/usr/bin", "templates"] {
        std::fs::create_dir_all(staged.join(dir)).unwrap();
    }
    std::fs::set_permissions(staged.join("rootfs"), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(staged.join("metadata.yaml"), "architecture: x86_64\n").unwrap();
    std::fs::write(staged.join("templates/hostname.tpl"), "{{ instance.name }}\n").unwrap();
    std::fs::write(staged.join("rootfs/etc/hostname"), "image\n").unwrap();
    std::fs::write(staged.join("rootfs/etc/os-release"), "ID=test\n").unwrap();
    std::fs::write(staged.join("rootfs/usr/bin/tool"), "#!/bin/sh\n").unwrap();
}

/// A mount that is attached nowhere.
pub struct Mounted {
    pub fd: OwnedFd,
}

impl Mounted {
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/.", self.fd.as_raw_fd()))
    }
}

pub fn detached(fs: &str, options: &[(&str, &str)]) -> Mounted {
    let context = rustix::mount::fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&context, *key, *value).unwrap();
    }
    rustix::mount::fsconfig_create(&context).unwrap();
    let fd = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
    // The root of a fresh tmpfs is open to all; a pool's folder may not be.
    let mounted = Mounted { fd };
    if fs == "tmpfs" || fs == "ramfs" {
        std::fs::set_permissions(mounted.path(), PermissionsExt::from_mode(0o700)).unwrap();
    }
    mounted
}

/// What a starting container would have as its root.
pub fn assemble(rootfs: &Rootfs) -> Mounted {
    match rootfs {
        Rootfs::Dir { path } => Mounted { fd: std::fs::File::open(path).unwrap().into() },
        Rootfs::Overlay { lower, upper, work } => {
            let [lower] = &lower[..] else { panic!("one lower layer") };
            let text = |p: &Path| p.to_str().unwrap().to_string();
            detached("overlay", &[("lowerdir", &text(lower)), ("upperdir", &text(upper)), ("workdir", &text(work))])
        }
    }
}

/// Everything below `dir`, as the host's root sees it.
pub fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), found);
        }
    }
}

/// A file system in a file.
pub struct Loop {
    pub mount: Mounted,
    device: String,
    _dir: tempfile::TempDir,
}

impl Loop {
    /// None if the host has no mkfs for it or no loop device.
    pub fn new(fs: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("disk");
        std::fs::File::create(&file).unwrap().set_len(512 << 20).unwrap();
        let mkfs = Command::new(format!("mkfs.{fs}")).arg("-q").arg(&file).stdout(Stdio::null()).status();
        if !mkfs.is_ok_and(|s| s.success()) {
            return None;
        }
        let losetup = Command::new("losetup").args(["--find", "--show"]).arg(&file).output().ok()?;
        let device = String::from_utf8(losetup.stdout).ok()?.trim().to_string();
        if !losetup.status.success() {
            return None;
        }
        Some(Self { mount: detached(fs, &[("source", &device)]), device, _dir: dir })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Cleared by the kernel when the mount, still open here, is gone.
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

/// A user namespace with maps, kept by a process that waits for its input to end.
pub struct UserNs {
    pub fd: OwnedFd,
    child: std::process::Child,
}

impl UserNs {
    pub fn new(ids: &IdMap) -> Self {
        use std::io::Read;
        let mut child = Command::new("unshare")
            .args(["--user", "sh", "-c", "echo ready; read -r _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        std::fs::write(proc.join("uid_map"), ids.uid_map()).unwrap();
        std::fs::write(proc.join("gid_map"), ids.gid_map()).unwrap();
        Self { fd: std::fs::File::open(proc.join("ns/user")).unwrap().into(), child }
    }
}

impl Drop for UserNs {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
