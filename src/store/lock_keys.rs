//! What can be locked: one type per rank, so that a proof says of what it is one.
//!
//! Used by `store::lock` and by everybody who takes a lock. Data only.

use super::layout::{INSTANCE_FILE, rel};
use super::lock::Rank;
pub use super::lock_end::KeptBy;
use crate::base::names::{Fingerprint, InstanceName, NetworkName, PoolName, ProjectName, VolumeName};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// A lockable object.
pub trait Key: Clone + Debug {
    /// Its place in the order.
    const RANK: Rank;
    /// The part of the lock file's name after the rank; no slash.
    fn file_key(&self) -> String;
    /// For a busy message, capital first: `Storage pool "x"`.
    fn busy_subject(&self) -> String;
    /// For a journal: `instance default/c1`.
    fn subject(&self) -> String;
    /// KeptBy whose existence keeps the lock file, below the state folder and below the run folder; none of either: it
    /// stays.
    fn records(&self) -> KeptBy {
        [None, None]
    }
}

/// The server's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerKey;
/// What runs at most once at a time: `admin maintain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceKey;
/// A project, its profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectKey(pub ProjectName);
/// A network of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkKey {
    /// Its project.
    pub project: ProjectName,
    /// Its name.
    pub name: NetworkName,
}
/// The ACLs and address sets of a project, all of them: rules name sets, and networks and interfaces name ACLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclsKey(pub ProjectName);
/// What runs of a network: its bridge, its rules, dnsmasq, the list of its ports. Held while these change, a moment as a
/// rule, and by whoever holds an instance already: it comes last, and nothing is locked after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRunKey(pub NetworkName);
/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolKey(pub PoolName);
/// The mount of a storage pool that has a file system of its own. Held while that is mounted, by whoever needs the pool and may
/// hold anything up to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolMountKey(pub PoolName);
/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageKey(pub Fingerprint);
/// An image somewhere else that is being fetched or built: several commands may want it at once. Its lock comes before those
/// of the local images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceKey {
    /// `bootstrap`, …
    pub protocol: String,
    /// What was asked for there.
    pub alias: String,
}
/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceKey {
    /// Its project.
    pub project: ProjectName,
    /// Its name.
    pub name: InstanceName,
}
/// A custom volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeKey {
    /// Its project.
    pub project: ProjectName,
    /// Its pool.
    pub pool: PoolName,
    /// Its name.
    pub name: VolumeName,
}
/// Small shared tables, held for microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocator {
    /// Image aliases (one record for all).
    Aliases,
    /// CPUs of running instances.
    Cpu,
    /// Rules of ACLs and of filters in the kernel, with what is noted of them in the run folders of networks. Comes after
    /// what runs of a network, and is held while nft runs.
    Firewall,
    /// Host id ranges.
    Ids,
    /// IP addresses.
    Ip,
    /// MAC addresses.
    Mac,
    /// Ports.
    Port,
    /// vsock context ids.
    Vsock,
    /// The DNS server of zones.
    Zones,
}

impl Allocator {
    fn name(self) -> &'static str {
        match self {
            Self::Aliases => "aliases",
            Self::Cpu => "cpu",
            // Sorts behind `network_…`.
            Self::Firewall => "nft",
            Self::Ids => "ids",
            Self::Ip => "ip",
            Self::Mac => "mac",
            Self::Port => "port",
            Self::Vsock => "vsock",
            Self::Zones => "zones",
        }
    }
}

/// A file name's worth of free text: a slash cannot get through, and two names stay two.
fn plain(text: &str) -> String {
    text.replace('%', "%25").replace('/', "%2f").replace('\0', "%00")
}

impl Key for ServerKey {
    const RANK: Rank = Rank::Server;
    fn file_key(&self) -> String {
        "server".into()
    }
    fn busy_subject(&self) -> String {
        "Server configuration".into()
    }
    fn subject(&self) -> String {
        "server".into()
    }
}

impl Key for MaintenanceKey {
    const RANK: Rank = Rank::Server;
    fn file_key(&self) -> String {
        "maintenance".into()
    }
    fn busy_subject(&self) -> String {
        "Maintenance".into()
    }
    fn subject(&self) -> String {
        "maintenance".into()
    }
}

impl Key for ProjectKey {
    const RANK: Rank = Rank::Project;
    fn file_key(&self) -> String {
        self.0.to_string()
    }
    fn busy_subject(&self) -> String {
        format!("Project \"{}\"", self.0)
    }
    fn subject(&self) -> String {
        format!("project {}", self.0)
    }
}

impl Key for NetworkKey {
    const RANK: Rank = Rank::Network;
    fn file_key(&self) -> String {
        format!("{}_{}", self.project, self.name)
    }
    fn busy_subject(&self) -> String {
        format!("Network \"{}\"", self.name)
    }
    fn subject(&self) -> String {
        format!("network {}/{}", self.project, self.name)
    }
    fn records(&self) -> KeptBy {
        [Some(rel::network(&self.project, &self.name)), None]
    }
}

/// `+` sorts before the names of networks.
impl Key for AclsKey {
    const RANK: Rank = Rank::Network;
    fn file_key(&self) -> String {
        format!("+acls:{}", self.0)
    }
    fn busy_subject(&self) -> String {
        format!("The set of network ACLs of project \"{}\"", self.0)
    }
    fn subject(&self) -> String {
        format!("network ACLs {}", self.0)
    }
}

impl Key for NetworkRunKey {
    const RANK: Rank = Rank::Allocator;
    fn file_key(&self) -> String {
        format!("network_{}", self.0)
    }
    fn busy_subject(&self) -> String {
        format!("Network \"{}\"", self.0)
    }
    fn subject(&self) -> String {
        format!("network {}", self.0)
    }
    fn records(&self) -> KeptBy {
        [None, Some(rel::network_run(&self.0))]
    }
}

impl Key for PoolKey {
    const RANK: Rank = Rank::Pool;
    fn file_key(&self) -> String {
        self.0.to_string()
    }
    fn busy_subject(&self) -> String {
        format!("Storage pool \"{}\"", self.0)
    }
    fn subject(&self) -> String {
        format!("pool {}", self.0)
    }
}

impl Key for PoolMountKey {
    const RANK: Rank = Rank::Allocator;
    fn file_key(&self) -> String {
        format!("pool_{}", self.0)
    }
    fn busy_subject(&self) -> String {
        format!("Storage pool \"{}\"", self.0)
    }
    fn subject(&self) -> String {
        format!("mount of pool {}", self.0)
    }
    fn records(&self) -> KeptBy {
        [Some(rel::pool(&self.0)), None]
    }
}

impl Key for ImageKey {
    const RANK: Rank = Rank::Image;
    fn file_key(&self) -> String {
        self.0.to_string()
    }
    fn busy_subject(&self) -> String {
        format!("Image \"{}\"", self.0)
    }
    fn subject(&self) -> String {
        format!("image {}", self.0)
    }
    fn records(&self) -> KeptBy {
        // Its file is there for as long as any project has it.
        [Some(rel::image(&ProjectName::default(), &self.0)), Some(Path::new(rel::IMAGES).join(self.0.as_str()))]
    }
}

/// `+` sorts before every fingerprint.
impl Key for SourceKey {
    const RANK: Rank = Rank::Image;
    fn file_key(&self) -> String {
        format!("+{}:{}", plain(&self.protocol), plain(&self.alias))
    }
    fn busy_subject(&self) -> String {
        format!("Image \"{}:{}\"", self.protocol, self.alias)
    }
    fn subject(&self) -> String {
        format!("image {}:{}", self.protocol, self.alias)
    }
}

/// The busy message is Incus's, which does not name the instance: the command that fails does.
impl Key for InstanceKey {
    const RANK: Rank = Rank::Instance;
    fn file_key(&self) -> String {
        format!("{}_{}", self.project, self.name)
    }
    fn busy_subject(&self) -> String {
        "Instance".into()
    }
    fn subject(&self) -> String {
        format!("instance {}/{}", self.project, self.name)
    }
    fn records(&self) -> KeptBy {
        let record = |dir: PathBuf| Some(dir.join(INSTANCE_FILE));
        [record(rel::instance_dir(&self.project, &self.name)), record(rel::ephemeral_dir(&self.project, &self.name))]
    }
}

impl Key for VolumeKey {
    const RANK: Rank = Rank::Volume;
    fn file_key(&self) -> String {
        format!("{}:{}:{}", self.pool, self.project, self.name)
    }
    fn busy_subject(&self) -> String {
        format!("Storage volume \"{}\"", self.name)
    }
    fn subject(&self) -> String {
        format!("volume {}/{}/{}", self.pool, self.project, self.name)
    }
    fn records(&self) -> KeptBy {
        [Some(rel::volume(self)), None]
    }
}

impl Key for Allocator {
    const RANK: Rank = Rank::Allocator;
    fn file_key(&self) -> String {
        self.name().into()
    }
    fn busy_subject(&self) -> String {
        format!("Allocator \"{}\"", self.name())
    }
    fn subject(&self) -> String {
        format!("allocator {}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_makes_a_path() {
        assert_eq!(plain("../../x%2f"), "..%2f..%2fx%252f");
        let source = SourceKey { protocol: "bootstrap".into(), alias: "debian/12".into() };
        assert_eq!(source.file_key(), "+bootstrap:debian%2f12");
        assert!(source.file_key() < "0".repeat(64));
    }

    #[test]
    fn rules_come_between_networks_and_after_what_runs() {
        let name = NetworkName::parse("net0").expect("name");
        let network = NetworkKey { project: ProjectName::default(), name: name.clone() };
        assert!(AclsKey(ProjectName::default()).file_key() < network.file_key());
        assert!(NetworkRunKey(name).file_key() < Allocator::Firewall.file_key());
    }

    #[test]
    fn ranks_are_those_of_the_design() {
        assert!(ServerKey::RANK < ProjectKey::RANK && ProjectKey::RANK < NetworkKey::RANK);
        assert!(NetworkKey::RANK < PoolKey::RANK && PoolKey::RANK < ImageKey::RANK);
        assert!(ImageKey::RANK < InstanceKey::RANK && InstanceKey::RANK < VolumeKey::RANK);
        assert!(VolumeKey::RANK < Allocator::RANK && Rank::Layout < ServerKey::RANK);
    }
}
