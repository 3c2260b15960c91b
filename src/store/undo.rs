//! What a journal can hold: a closed set of actions as data, each idempotent, run alike by a failing command and by
//! recovery after a kill (design, section 6).
//!
//! The store runs those about files and cgroups itself; the rest goes to the [`Undoer`] that `ops` gives it, because what
//! a volume or a link is, this layer does not know. Paths outside our four folders are refused, however they got in.

use super::Store;
use super::atomic::{self, Durability};
use super::dir::{self, Dir};
use super::lock::InstanceKey;
use super::trash;
use crate::base::names::{Fingerprint, InstanceName, ProfileName, ProjectName, SnapshotName};
use crate::error::{Context, Error, Result};
use crate::host::cgroup::Group;
use crate::host::lsm::apparmor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// One idempotent action: done twice, or to what is not there, it succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Removes a file of ours.
    RemoveFile {
        /// Absolute, in one of our folders.
        path: PathBuf,
    },
    /// Removes a folder of ours if it is empty.
    RemoveDir {
        /// Absolute, in one of our folders.
        path: PathBuf,
    },
    /// Removes a folder of ours with all below it: in a pool by way of its trash, else at once.
    RemoveTree {
        /// Absolute, in one of our folders.
        path: PathBuf,
    },
    /// Puts a file's old content back. Not done for a journal of an earlier boot; see `journal`.
    RestoreFile {
        /// Absolute, in one of our folders.
        path: PathBuf,
        /// The content.
        content: String,
    },
    /// Renames `from` to `to`, if `from` is there and `to` is not.
    Move {
        /// Absolute, in one of our folders.
        from: PathBuf,
        /// Likewise, in the same one.
        to: PathBuf,
    },
    /// Removes the records of an instance, wherever they lie.
    ForgetInstance {
        /// Project.
        project: String,
        /// Instance.
        name: String,
    },
    /// Gives the records of an instance another name, if they have the old one.
    RenameInstance {
        /// Project.
        project: String,
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// Makes aliases name an image, whatever they named before.
    SetAliases {
        /// Project.
        #[serde(default = "default_project")]
        project: String,
        /// Fingerprint.
        image: String,
        /// The aliases.
        names: Vec<String>,
    },
    /// Removes the aliases of an image.
    ForgetAliases {
        /// Project.
        #[serde(default = "default_project")]
        project: String,
        /// Fingerprint.
        image: String,
    },
    /// Gives a profile another name, and the instances that have it that name.
    RenameProfile {
        /// Project.
        project: String,
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// Removes the record of a snapshot, wherever it lies.
    ForgetSnapshot {
        /// Project.
        project: String,
        /// Instance.
        name: String,
        /// Snapshot.
        snapshot: String,
    },
    /// Gives the record of a snapshot another name, if it has the old one.
    RenameSnapshot {
        /// Project.
        project: String,
        /// Instance.
        name: String,
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// Thaws a cgroup (version 2) that was frozen for the time of an operation.
    ThawCgroup {
        /// Absolute.
        path: PathBuf,
    },
    /// Kills all in a cgroup (version 2) and waits until it is empty.
    KillCgroup {
        /// Absolute.
        path: PathBuf,
    },
    /// Removes a cgroup and those below it; they must be empty.
    RemoveCgroup {
        /// Absolute.
        path: PathBuf,
    },
    /// Removes an AppArmor profile of ours and its namespace, unless a process is left in the cgroup it was for.
    RemoveProfile {
        /// Its name.
        name: String,
        /// Absolute.
        cgroup: PathBuf,
    },
    /// Detaches a mount.
    Unmount {
        /// Absolute.
        path: PathBuf,
    },
    /// Removes a network interface of ours. For the [`Undoer`].
    RemoveLink {
        /// Its name.
        name: String,
    },
    /// Deletes a volume. For the [`Undoer`].
    RemoveVolume(Volume),
    /// Has what was prepared beside a volume take its place. For the [`Undoer`].
    FinishRestore(Volume),
    /// Throws away what was prepared beside a volume. For the [`Undoer`].
    AbortRestore(Volume),
    /// Gives a volume another name, if it has the old one. For the [`Undoer`].
    RenameVolume {
        /// The volume under its old name.
        volume: Volume,
        /// The new name.
        to: String,
    },
    /// Takes away what a pool without a record has: its mount, its file, what is its in a folder of the user's. For the
    /// [`Undoer`].
    ReleasePool {
        /// Pool.
        pool: String,
        /// Folder or block device of the user's; empty if there is none.
        source: PathBuf,
        /// Its identity.
        id: String,
        /// Of a pool in a volume group, what of its configuration tells which; else empty.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        group: BTreeMap<String, String>,
    },
    /// Makes the file of a pool as long as its record says. For the [`Undoer`].
    GrowPool {
        /// Pool.
        pool: String,
    },
    /// Gives the volume group of a pool and its thin pool other names, if they have the old ones. For the [`Undoer`].
    RenameGroup {
        /// Pool.
        pool: String,
        /// What of the pool's configuration tells which, with the old names.
        from: BTreeMap<String, String>,
        /// The same with the new ones.
        to: BTreeMap<String, String>,
    },
    /// Removes an unpacked image from a pool unless volumes need it; its record and files stay. For the [`Undoer`].
    EvictImage {
        /// Pool.
        pool: String,
        /// Fingerprint.
        image: String,
    },
    /// Has the size of a volume be what its record says: of a custom one, or of the root of an instance, which says its pool
    /// itself. For the [`Undoer`].
    RenewSize(Volume),
    /// Takes the devices of an instance that is not running off the host. For the [`Undoer`].
    StopDevices {
        /// Project.
        project: String,
        /// Instance.
        name: String,
    },
    /// Gives the CPUs of an instance that is not running to the others. For the [`Undoer`].
    FreeCpus {
        /// Project.
        project: String,
        /// Instance.
        name: String,
    },
    /// Has the limits that an instance's record says count for what runs of it. For the [`Undoer`].
    RenewLimits {
        /// Project.
        project: String,
        /// Instance.
        name: String,
    },
    /// Has network interfaces of what runs of an instance be what its record says. For the [`Undoer`].
    RenewNics {
        /// Project.
        project: String,
        /// Instance.
        name: String,
        /// Their devices.
        devices: Vec<String>,
    },
    /// Has disks of what runs of an instance be what its record says. For the [`Undoer`].
    RenewDisks {
        /// Project.
        project: String,
        /// Instance.
        name: String,
        /// Their devices.
        devices: Vec<String>,
    },
    /// Has proxies of what runs of an instance be what its record says. For the [`Undoer`].
    RenewProxies {
        /// Project.
        project: String,
        /// Instance.
        name: String,
        /// Their devices.
        devices: Vec<String>,
    },
    /// Has what the records of a project's ACLs and address sets say count for its networks and interfaces. For the
    /// [`Undoer`].
    RenewAcls {
        /// Project.
        project: String,
    },
    /// Has the DNS server of zones say what the records say. For the [`Undoer`].
    RenewZones,
    /// Has the forwards of a network that is up be those its records say. For the [`Undoer`].
    RenewForwards {
        /// Project.
        project: String,
        /// Network.
        name: String,
    },
    /// Takes down a network that has no ports. For the [`Undoer`].
    StopNetwork {
        /// Project.
        project: String,
        /// Network.
        name: String,
    },
}

/// The project of what names none: only the default one had images once.
fn default_project() -> String {
    ProjectName::default().to_string()
}

/// A volume by its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Pool.
    pub pool: String,
    /// What it is.
    pub kind: VolumeKind,
    /// Project; `default` for images.
    pub project: String,
    /// Instance, fingerprint or volume name; of a snapshot `<volume>@<snapshot>`.
    pub name: String,
}

/// The kinds of volumes, as the folders of a pool are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeKind {
    /// Root volume of a container.
    Container,
    /// Root volume of a virtual machine.
    VirtualMachine,
    /// An unpacked image.
    Image,
    /// A custom volume.
    Custom,
    /// A snapshot of a container's root volume.
    ContainerSnapshot,
    /// A snapshot of a custom volume.
    CustomSnapshot,
}

/// Runs the actions this layer cannot. It must be idempotent, and must take no lock of the store: what an action touches
/// is locked or ownerless already, and settling holds up all other commands. (An allocator's it may: it is held for microseconds.)
pub trait Undoer: Sync + std::fmt::Debug {
    /// Runs `action`, one of those marked "for the Undoer".
    ///
    /// # Errors
    /// It did not work; the journal is kept for `doctor`.
    fn perform(&self, store: &Store, action: &Action) -> Result<()>;
}

/// Can do nothing: for readers and tests.
#[derive(Debug, Clone, Copy)]
pub struct NoUndoer;

impl Undoer for NoUndoer {
    fn perform(&self, _store: &Store, action: &Action) -> Result<()> {
        Err(Error::internal(format!("Nobody here can undo {action:?}")))
    }
}

impl Store {
    /// Runs one action.
    pub(super) fn perform(&self, action: &Action) -> Result<()> {
        match action {
            Action::RemoveFile { path } => self.at(path, |dir, rel| dir.unlink(rel).map(drop)),
            Action::RemoveDir { path } => self.at(path, |dir, rel| match dir.rmdir(rel) {
                Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
                other => other.map(drop),
            }),
            Action::RemoveTree { path } => self.remove_tree(path),
            Action::RestoreFile { path, content } => {
                let (dir, rel) = self.locate(path)?;
                let (parent, name) = dir.parent(&rel).with_context(|| failed(path))?;
                atomic::write(&parent, name, content.as_bytes(), 0o600, Durability::Durable, true)
            }
            Action::Move { from, to } => self.move_back(from, to),
            Action::ForgetInstance { project, name } => {
                self.forget_instance(&ProjectName::parse(project)?, &InstanceName::parse(name)?)
            }
            Action::RenameInstance { project, from, to } => {
                let project = ProjectName::parse(project)?;
                let key = |n: &str| InstanceName::parse(n).map(|name| InstanceKey { project: project.clone(), name });
                let (from, to) = (key(from)?, key(to)?);
                if self.instance_exists(&project, &from.name)? && !self.instance_exists(&project, &to.name)? {
                    self.move_records(&from, &to)?;
                }
                Ok(())
            }
            Action::SetAliases { project, image, names } => {
                self.set_aliases_at(&ProjectName::parse(project)?, &Fingerprint::parse(image)?, names)
            }
            Action::ForgetAliases { project, image } => {
                self.forget_aliases(&ProjectName::parse(project)?, &Fingerprint::parse(image)?)
            }
            Action::RenameProfile { project, from, to } => {
                self.move_profile(&ProjectName::parse(project)?, &ProfileName::parse(from)?, &ProfileName::parse(to)?)
            }
            Action::ForgetSnapshot { project, name, snapshot } => self.forget_snapshot(
                &ProjectName::parse(project)?,
                &InstanceName::parse(name)?,
                &SnapshotName::parse(snapshot)?,
            ),
            Action::RenameSnapshot { project, name, from, to } => self.move_snapshot(
                (&ProjectName::parse(project)?, &InstanceName::parse(name)?),
                &SnapshotName::parse(from)?,
                &SnapshotName::parse(to)?,
            ),
            Action::ThawCgroup { path } => cgroup(path)?.map_or(Ok(()), |group| group.freeze(false, KILL_WAIT)),
            Action::KillCgroup { path } => match cgroup(path)? {
                Some(group) => group.kill(KILL_WAIT),
                None => Ok(()),
            },
            Action::RemoveCgroup { path } => cgroup(path)?.map_or(Ok(()), |group| group.remove()),
            Action::RemoveProfile { name, cgroup } => remove_profile(name, cgroup),
            Action::Unmount { path } => unmount(path),
            // The rest takes storage, devices or networks.
            other => self.undoer.perform(self, other),
        }
    }

    /// The folder of ours that `path` lies in, open, and the rest of the path. Inside a pool that is its data folder.
    fn locate(&self, path: &Path) -> Result<(Dir, PathBuf)> {
        let l = self.layout();
        let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        for root in [&l.state, &l.run, &l.cache, &l.log] {
            let Ok(rest) = path.strip_prefix(root) else { continue };
            if !plain || rest.as_os_str().is_empty() {
                break;
            }
            let mut parts = rest.components();
            if root == &l.state && parts.next() == Some(Component::Normal("pools".as_ref())) {
                let pool = parts.next();
                let data = parts.next() == Some(Component::Normal("data".as_ref()));
                if let (Some(pool), true, false) = (pool, data, parts.as_path().as_os_str().is_empty()) {
                    let data = l.pools_dir().join(pool).join("data");
                    return Ok((trash::open_following(&data).with_context(|| failed(path))?, parts.as_path().into()));
                }
            }
            return Ok((Dir::open(root).with_context(|| failed(path))?, rest.into()));
        }
        Err(Error::internal(format!("A journal names \"{}\", which is not ours", path.display())))
    }

    /// Runs `f` on a place of ours; its folder missing is fine.
    fn at(&self, path: &Path, f: impl FnOnce(&Dir, &Path) -> std::io::Result<()>) -> Result<()> {
        match self.locate(path) {
            Ok((dir, rel)) => f(&dir, &rel).with_context(|| failed(path)),
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn remove_tree(&self, path: &Path) -> Result<()> {
        let in_pool = path.starts_with(self.layout().pools_dir());
        self.at(path, |dir, rel| match dir.parent(rel) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            // The trash lies on the pool's own file system; where that fails nevertheless, removing is all that is left.
            Ok(_) if in_pool && trash::discard_at(dir, rel).is_ok() => Ok(()),
            Ok((parent, name)) => trash::remove_tree(&parent, name).map(drop),
        })
    }

    fn move_back(&self, from: &Path, to: &Path) -> Result<()> {
        let (a, a_rel) = match self.locate(from) {
            // After a boot, say, that found the logs' file system empty.
            Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(()),
            other => other?,
        };
        let (b, b_rel) = self.locate(to)?;
        if !a.exists(&a_rel).with_context(|| failed(from))? || b.exists(&b_rel).with_context(|| failed(to))? {
            return Ok(());
        }
        let (source, name) = a.parent(&a_rel).with_context(|| failed(from))?;
        let (target, new) = b.parent(&b_rel).with_context(|| failed(to))?;
        dir::rename(&source, name, &target, new, false).with_context(|| failed(from))
    }
}

fn failed(path: &Path) -> String {
    format!("Failed undoing at \"{}\"", path.display())
}

/// How long killed processes may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// A cgroup; `None` if it is not there. Anything that is no version 2 cgroup is refused.
fn cgroup(path: &Path) -> Result<Option<Group>> {
    const CGROUP2: u32 = 0x6367_7270;
    let fail = || format!("Failed opening cgroup \"{}\"", path.display());
    let dir = match Dir::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(fail)?,
    };
    let fs = rustix::fs::fstatfs(&dir).map_err(std::io::Error::from).with_context(fail)?;
    if fs.f_type as u32 != CGROUP2 {
        return Err(Error::internal(format!("\"{}\" is no version 2 cgroup", path.display())));
    }
    Ok(Some(Group::at(path.to_path_buf())))
}

/// Processes whose profile goes would live on unconfined.
fn remove_profile(name: &str, group: &Path) -> Result<()> {
    if !name.starts_with("stapes") || name.contains('/') {
        return Err(Error::internal(format!("A journal names the profile \"{name}\", which is not ours")));
    }
    if cgroup(group)?.is_some_and(|g| g.populated()) {
        return Err(Error::failed(format!("Processes are left in cgroup \"{}\"", group.display())));
    }
    apparmor::remove_all_of(name)
}

fn unmount(path: &Path) -> Result<()> {
    use nix::errno::Errno;
    use nix::mount::{MntFlags, umount2};
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("Failed unmounting \"{}\"", path.display())),
    }
}
