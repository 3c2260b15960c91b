//! Names of what lies in a pool.
//!
//! Used by every driver; `ops` makes a [`Volume`] from checked names, and journals keep a volume or a trash entry as text.

use crate::base::names::{Fingerprint, InstanceName, ProjectName, SnapshotName, VolumeName};
use crate::error::{Error, Result};
use std::fmt;

/// The kinds of volumes, each in its own folder of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VolumeKind {
    /// Root file system of a container.
    Container,
    /// Disk of a virtual machine.
    VirtualMachine,
    /// A custom volume.
    Custom,
    /// A snapshot of a container's.
    ContainerSnapshot,
    /// A snapshot of a custom volume.
    CustomSnapshot,
}

/// Between the name of a volume and that of its snapshot. No instance's name has one, so the first one counts.
const AT: char = '@';
/// Longest name in bytes: with what stands around it in the trash it is a file name.
const LONGEST: usize = 196;

impl VolumeKind {
    /// The folder in the pool.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Container => "containers",
            Self::VirtualMachine => "virtual-machines",
            Self::Custom => "custom",
            Self::ContainerSnapshot => "containers-snapshots",
            Self::CustomSnapshot => "custom-snapshots",
        }
    }

    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::Container, Self::VirtualMachine, Self::Custom, Self::ContainerSnapshot, Self::CustomSnapshot];

    /// It is the user's data and nothing else: all that lies in it is under the control of who uses it.
    pub fn is_custom(self) -> bool {
        matches!(self, Self::Custom | Self::CustomSnapshot)
    }

    /// What a snapshot of it is.
    fn snapshot(self) -> Option<Self> {
        match self {
            Self::Container => Some(Self::ContainerSnapshot),
            Self::Custom => Some(Self::CustomSnapshot),
            _ => None,
        }
    }
}

/// A volume's kind and name. The name is one path component, has no leading dot and no control character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Volume {
    kind: VolumeKind,
    name: String,
}

impl Volume {
    /// Takes a name as it is in the pool's folder.
    ///
    /// # Errors
    /// Invalid.
    pub fn new(kind: VolumeKind, name: &str) -> Result<Self> {
        let fits = !name.is_empty() && name.len() <= LONGEST && !name.starts_with('.');
        if !fits || name.contains('/') || name.chars().any(char::is_control) {
            return Err(Error::invalid(format!("Invalid volume name {name:?}")));
        }
        Ok(Self { kind, name: name.to_string() })
    }

    /// The volume of a container: its name, with `<project>_` in front outside the default project (Incus's layout).
    ///
    /// # Errors
    /// The two names together are too long for one.
    pub fn container(project: &ProjectName, name: &InstanceName) -> Result<Self> {
        match project.as_str() {
            "default" => Self::new(VolumeKind::Container, name),
            project => Self::new(VolumeKind::Container, &format!("{project}_{name}")),
        }
    }

    /// A custom volume: always `<project>_<name>` (Incus's layout); no project's name has an underscore.
    ///
    /// # Errors
    /// The two names together are too long for one.
    pub fn custom(project: &ProjectName, name: &VolumeName) -> Result<Self> {
        Self::new(VolumeKind::Custom, &format!("{project}_{name}"))
    }

    /// The volume of a snapshot of this one: `<volume>@<snapshot>` in a folder of its own.
    ///
    /// # Errors
    /// Volumes of this kind have no snapshots; the two names together are too long for one.
    pub fn snapshot(&self, name: &SnapshotName) -> Result<Self> {
        let kind = self.kind.snapshot().ok_or_else(|| Error::unsupported("Volumes of this kind have no snapshots"))?;
        Self::new(kind, &format!("{}{AT}{name}", self.name))
            .map_err(|_| Error::invalid(format!("The snapshot name {:?} is too long", name.as_str())))
    }

    /// The names of the volume and of the snapshot, of a snapshot's volume.
    pub fn snapshot_of(&self) -> Option<(&str, &str)> {
        let snapshot = matches!(self.kind, VolumeKind::ContainerSnapshot | VolumeKind::CustomSnapshot);
        snapshot.then(|| self.name.split_once(AT)).flatten()
    }

    /// Its kind.
    pub fn kind(&self) -> VolumeKind {
        self.kind
    }

    /// Its name in the pool.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Path in the pool.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.kind.folder(), self.name)
    }

    /// Where it is put together before it appears. No volume's name begins with a dot.
    pub(super) fn staged(&self) -> String {
        format!("{}/.new-{}", self.kind.folder(), self.name)
    }

    /// As one path component: `<folder>:<name>`.
    pub(super) fn token(&self) -> String {
        self.to_string()
    }

    /// Reads [`Volume::token`] and the text form.
    ///
    /// # Errors
    /// Invalid.
    pub fn parse(text: &str) -> Result<Self> {
        let found = text.split_once(':').and_then(|(folder, name)| Self::in_folder(folder, name).ok());
        found.ok_or_else(|| Error::invalid(format!("Invalid volume {text:?}")))
    }

    /// By the folder of its kind.
    ///
    /// # Errors
    /// Invalid.
    pub(super) fn in_folder(folder: &str, name: &str) -> Result<Self> {
        let kind = VolumeKind::ALL.into_iter().find(|k| k.folder() == folder);
        Self::new(kind.ok_or_else(|| Error::invalid(format!("Invalid volume kind {folder:?}")))?, name)
    }
}

/// `containers:<name>`; [`Volume::parse`] reads it.
impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.folder(), self.name)
    }
}

/// The name under which an image is unpacked: its fingerprint is known only at the end. 32 hexadecimal digits; whoever made
/// it up is the only one who knows it, until a journal tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Staging(String);

impl Staging {
    /// A new one.
    pub fn fresh() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string())
    }

    /// Reads it again, from a journal.
    ///
    /// # Errors
    /// Invalid.
    pub fn parse(text: &str) -> Result<Self> {
        let good = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match good {
            true => Ok(Self(text.to_string())),
            false => Err(Error::invalid(format!("Invalid name of an unpacked image {text:?}"))),
        }
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Path in the pool.
    pub(super) fn path(&self) -> String {
        format!("images/.new-{}", self.0)
    }

    /// From the name in the pool's folder of images.
    pub(super) fn of_path(name: &str) -> Option<Self> {
        Self::parse(name.strip_prefix(".new-")?).ok()
    }
}

/// Something in a pool's trash, waiting for [`super::Driver::empty`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trash(String);

impl Trash {
    /// Takes a name in the trash folder; journals keep it.
    ///
    /// # Errors
    /// Not one path component.
    pub fn parse(name: &str) -> Result<Self> {
        if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '\0']) {
            return Err(Error::invalid(format!("Invalid trash entry {name:?}")));
        }
        Ok(Self(name.to_string()))
    }

    /// A fresh name for `what`.
    pub(super) fn fresh(what: &str) -> Self {
        Self(format!("{}.{}", what.replace('/', ":"), uuid::Uuid::new_v4().simple()))
    }

    /// It was this volume.
    pub fn was_volume(&self, volume: &Volume) -> bool {
        self.was(&volume.path()) || self.was(&volume.staged())
    }

    /// It was this unpacked image.
    pub fn was_image(&self, image: &Fingerprint) -> bool {
        self.was(&super::pool::Pool::image(image))
    }

    /// It was an image being unpacked under this name.
    pub fn was_staging(&self, staging: &Staging) -> bool {
        self.was(&staging.path())
    }

    fn was(&self, what: &str) -> bool {
        self.0.rsplit_once('.').is_some_and(|(from, _)| from == what.replace('/', ":"))
    }

    /// Name in the trash folder.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Path in the pool.
    pub(super) fn path(&self) -> String {
        format!("trash/{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_component() {
        for bad in ["", ".", "..", ".new-x", "a/b", "../x", "a\n", "a\0", &"x".repeat(201)] {
            assert!(Volume::new(VolumeKind::Container, bad).is_err(), "{bad:?}");
        }
        for bad in ["", ".", "..", "a/b", "\0"] {
            assert!(Trash::parse(bad).is_err(), "{bad:?}");
        }
        let project = ProjectName::parse("web").expect("valid");
        let name = InstanceName::parse("c1").expect("valid");
        let volume = Volume::container(&project, &name).expect("valid");
        assert_eq!(volume.path(), "containers/web_c1");
        assert_eq!(Volume::container(&ProjectName::default(), &name).expect("valid").name(), "c1");
        assert_eq!(Volume::parse(&volume.to_string()).expect("valid"), volume);
        let snapshot = volume.snapshot(&SnapshotName::parse("a@b").expect("valid")).expect("fits");
        assert_eq!(snapshot.path(), "containers-snapshots/web_c1@a@b");
        assert_eq!(snapshot.snapshot_of(), Some(("web_c1", "a@b")));
        assert!(
            volume.snapshot_of().is_none() && snapshot.snapshot(&SnapshotName::parse("x").expect("valid")).is_err()
        );
        assert!(volume.snapshot(&SnapshotName::parse(&"x".repeat(195)).expect("valid")).is_err());
        assert!(Volume::parse("images:x").is_err());
        assert!(Trash::parse(Trash::fresh("images/.new-x").as_str()).is_ok());
        let staging = Staging::fresh();
        assert_eq!(staging.path().strip_prefix("images/").and_then(Staging::of_path), Some(staging));
        assert!(Staging::parse("../x").is_err() && Staging::of_path("x").is_none());
    }
}
