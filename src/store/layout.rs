//! Every path of the state directory and its three companions, in one place (design, section 4).
//!
//! Called by `store` itself and by everything that needs a path of ours (storage, image, ops, monitor). Pure: it reads
//! neither the disk nor the environment; a front hands the environment in. Names are parsed types, so no path here can
//! leave its folder.

use super::lock_keys::VolumeKey;
use crate::base::names::{
    AclName, AddressSetName, Fingerprint, InstanceName, NetworkName, PoolName, ProfileName, ProjectName, SnapshotName,
    ZoneName, ZoneRecordName,
};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The four folders everything lives under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Records, pools, images, locks: what must survive.
    pub state: PathBuf,
    /// Run files and sockets: ends with the boot.
    pub run: PathBuf,
    /// Downloads: may be deleted any time.
    pub cache: PathBuf,
    /// Console and QEMU logs, the event log.
    pub log: PathBuf,
}

/// Names of the files inside a folder of an instance, shared by the persistent and the ephemeral place.
pub(super) const INSTANCE_FILE: &str = "instance.toml";
pub(super) const VOLATILE_FILE: &str = "volatile.toml";
pub(super) const SNAPSHOTS: &str = "snapshots";
pub(super) const RUN_FILE: &str = "run.toml";
pub(super) const MONITOR_LOCK: &str = "monitor.lock";
pub(super) const WISH_FILE: &str = "wish";
/// What the host has for the interfaces of an instance.
pub(super) const NIC_HOST_FILE: &str = "nic-host.toml";

impl Layout {
    /// Root's own places.
    pub fn system() -> Self {
        Self {
            state: "/var/lib/stapes".into(),
            run: "/run/stapes".into(),
            cache: "/var/cache/stapes".into(),
            log: "/var/log/stapes".into(),
        }
    }

    /// All four under one folder (`STAPES_DIR`, `--state-dir`).
    pub fn under(dir: &Path) -> Self {
        Self { state: dir.join("state"), run: dir.join("run"), cache: dir.join("cache"), log: dir.join("log") }
    }

    /// The XDG folders of an ordinary user (XDG Base Directory Specification 0.8). `env` looks a variable up; relative
    /// values are ignored, as the specification says. Without `XDG_RUNTIME_DIR` the run folder lies in the state folder;
    /// it carries the boot id, so leftovers of an earlier boot are told apart.
    pub fn user(home: &Path, env: impl Fn(&str) -> Option<OsString>) -> Self {
        let folder = |name: &str| env(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let data = folder("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share")).join("stapes");
        Self {
            run: folder("XDG_RUNTIME_DIR").map_or_else(|| data.join("run"), |d| d.join("stapes")),
            cache: folder("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache")).join("stapes"),
            log: folder("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state")).join("stapes/log"),
            state: data,
        }
    }

    /// What a front calls: `explicit` (`--state-dir`, else `STAPES_DIR` from `env`) wins, then root's places for effective
    /// uid 0, then the user's. `None`: an ordinary user without `HOME`.
    pub fn choose(explicit: Option<&Path>, euid: u32, env: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        if let Some(dir) = explicit {
            return Some(Self::under(dir));
        }
        if let Some(dir) = env("STAPES_DIR").filter(|d| !d.is_empty()) {
            return Some(Self::under(Path::new(&dir)));
        }
        if euid == 0 {
            return Some(Self::system());
        }
        let home = PathBuf::from(env("HOME")?);
        home.is_absolute().then(|| Self::user(&home, env))
    }
}

/// Paths under `$STATE`.
impl Layout {
    /// The number of the state folder's format; written last at first use.
    pub fn format_file(&self) -> PathBuf {
        self.state.join("format")
    }
    /// The server's configuration.
    pub fn server_record(&self) -> PathBuf {
        self.state.join("server.toml")
    }
    /// Lock files.
    pub fn locks_dir(&self) -> PathBuf {
        self.state.join("locks")
    }
    /// One lock file; see [`super::lock::Key`].
    pub fn lock_file(&self, rank: super::lock::Rank, key: &str) -> PathBuf {
        self.state.join(super::lock::file_name(rank, key))
    }
    /// Journals of operations in progress.
    pub fn ops_dir(&self) -> PathBuf {
        self.state.join("ops")
    }
    /// One journal.
    pub fn journal(&self, id: &str) -> PathBuf {
        self.ops_dir().join(format!("{id}.journal"))
    }
    /// All projects.
    pub fn projects_dir(&self) -> PathBuf {
        self.state.join("projects")
    }
    /// One project.
    pub fn project_dir(&self, project: &ProjectName) -> PathBuf {
        self.state.join(rel::project_dir(project))
    }
    /// A project's record.
    pub fn project_record(&self, project: &ProjectName) -> PathBuf {
        self.state.join(rel::project(project))
    }
    /// A project's profiles.
    pub fn profiles_dir(&self, project: &ProjectName) -> PathBuf {
        self.state.join(rel::profiles(project))
    }
    /// A profile's record.
    pub fn profile_record(&self, project: &ProjectName, name: &ProfileName) -> PathBuf {
        self.state.join(rel::profile(project, name))
    }
    /// A project's instances.
    pub fn instances_dir(&self, project: &ProjectName) -> PathBuf {
        self.state.join(rel::instances(project))
    }
    /// The records of one instance.
    pub fn instance_dir(&self, project: &ProjectName, name: &InstanceName) -> PathBuf {
        self.state.join(rel::instance_dir(project, name))
    }
    /// What the user said about it.
    pub fn instance_record(&self, project: &ProjectName, name: &InstanceName) -> PathBuf {
        self.instance_dir(project, name).join(INSTANCE_FILE)
    }
    /// What the program filled in.
    pub fn volatile_record(&self, project: &ProjectName, name: &InstanceName) -> PathBuf {
        self.instance_dir(project, name).join(VOLATILE_FILE)
    }
    /// Records of its snapshots.
    pub fn snapshots_dir(&self, project: &ProjectName, name: &InstanceName) -> PathBuf {
        self.instance_dir(project, name).join(SNAPSHOTS)
    }
    /// The record of one snapshot.
    pub fn snapshot_record(&self, project: &ProjectName, name: &InstanceName, snapshot: &SnapshotName) -> PathBuf {
        self.snapshots_dir(project, name).join(format!("{snapshot}.toml"))
    }
    /// A project's networks.
    pub fn networks_dir(&self, project: &ProjectName) -> PathBuf {
        self.project_dir(project).join("networks")
    }
    /// Records of a project's custom volumes on one pool.
    pub fn network_dir(&self, project: &ProjectName, network: &NetworkName) -> PathBuf {
        self.networks_dir(project).join(network.as_str())
    }
    /// The record of a network's forward.
    pub fn forward_record(&self, p: &ProjectName, n: &NetworkName, listen: std::net::IpAddr) -> PathBuf {
        self.state.join(rel::forward(p, n, listen))
    }
    /// Records of custom volumes.
    pub fn volumes_dir(&self, project: &ProjectName, pool: &PoolName) -> PathBuf {
        self.state.join(rel::volumes(project, pool))
    }
    /// The record of a custom volume.
    pub fn volume_record(&self, key: &VolumeKey) -> PathBuf {
        self.state.join(rel::volume(key))
    }
    /// Records of a custom volume's snapshots.
    pub fn volume_snapshots_dir(&self, key: &VolumeKey) -> PathBuf {
        self.state.join(rel::volume_snapshots(key))
    }
    /// The record of a custom volume's snapshot.
    pub fn volume_snapshot_record(&self, key: &VolumeKey, snapshot: &SnapshotName) -> PathBuf {
        self.state.join(rel::volume_snapshot(key, snapshot))
    }
    /// Image records and files.
    pub fn images_dir(&self) -> PathBuf {
        self.state.join(rel::IMAGES)
    }
    /// An image's record in a project that has images of its own.
    pub fn image_record(&self, project: &ProjectName, fingerprint: &Fingerprint) -> PathBuf {
        self.state.join(rel::image(project, fingerprint))
    }
    /// The image's file (the metadata part of a split image).
    pub fn image_file(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.images_dir().join(fingerprint.as_str())
    }
    /// The rootfs part of a split image.
    pub fn image_rootfs_file(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.images_dir().join(format!("{fingerprint}.rootfs"))
    }
    /// All pools.
    pub fn pools_dir(&self) -> PathBuf {
        self.state.join(rel::POOLS)
    }
    /// One pool.
    pub fn pool_dir(&self, pool: &PoolName) -> PathBuf {
        self.state.join(rel::pool_dir(pool))
    }
    /// A pool's record.
    pub fn pool_record(&self, pool: &PoolName) -> PathBuf {
        self.state.join(rel::pool(pool))
    }
    /// A pool's volumes.
    pub fn pool_data(&self, pool: &PoolName) -> PathBuf {
        self.pool_dir(pool).join("data")
    }
    /// The files of pools that have a file system in one.
    pub fn disks_dir(&self) -> PathBuf {
        self.state.join("disks")
    }
    /// The file of one of these.
    pub fn pool_image(&self, pool: &PoolName) -> PathBuf {
        self.disks_dir().join(format!("{pool}.img"))
    }
    /// Root volumes of containers.
    pub fn pool_containers(&self, pool: &PoolName) -> PathBuf {
        self.pool_data(pool).join("containers")
    }
    /// Root volumes of virtual machines.
    pub fn pool_virtual_machines(&self, pool: &PoolName) -> PathBuf {
        self.pool_data(pool).join("virtual-machines")
    }
    /// Unpacked images.
    pub fn pool_images(&self, pool: &PoolName) -> PathBuf {
        self.pool_data(pool).join("images")
    }
    /// Custom volumes.
    pub fn pool_custom(&self, pool: &PoolName) -> PathBuf {
        self.pool_data(pool).join("custom")
    }
    /// What is being deleted.
    pub fn pool_trash(&self, pool: &PoolName) -> PathBuf {
        self.pool_data(pool).join(super::trash::TRASH)
    }
}

/// Paths under `$RUN`, `$CACHE` and `$LOG`.
impl Layout {
    /// Run folders of all instances.
    pub fn run_instances_dir(&self) -> PathBuf {
        self.run.join(rel::RUN_INSTANCES)
    }
    /// Run folder of one instance. Neither name can hold an underscore at a place that would make two of these equal.
    pub fn instance_run_dir(&self, project: &ProjectName, name: &InstanceName) -> PathBuf {
        self.run.join(rel::run_dir(project, name))
    }
    /// Its run file.
    pub fn run_file(&self, project: &ProjectName, name: &InstanceName) -> PathBuf {
        self.instance_run_dir(project, name).join(RUN_FILE)
    }
    /// Held by its monitor for life.
    pub fn monitor_lock(&self, project: &ProjectName, name: &InstanceName) -> PathBuf {
        self.instance_run_dir(project, name).join(MONITOR_LOCK)
    }
    /// The records of an ephemeral instance: same files as in [`Layout::instance_dir`].
    pub fn ephemeral_instance_dir(&self, project: &ProjectName, name: &InstanceName) -> PathBuf {
        self.run.join(rel::ephemeral_dir(project, name))
    }
    /// Run folder of the DNS server of zones.
    pub fn zones_run_dir(&self) -> PathBuf {
        self.run.join("zones")
    }
    /// Run folder of a network.
    pub fn network_run_dir(&self, network: &str) -> PathBuf {
        self.run.join("networks").join(network)
    }
    /// Files being downloaded.
    pub fn network_ports_dir(&self, network: &str) -> PathBuf {
        self.network_run_dir(network).join("ports")
    }
    /// What dnsmasq is to know of the names of those with an address of their own.
    pub fn network_names_dir(&self, network: &str) -> PathBuf {
        self.network_run_dir(network).join("names")
    }
    /// Downloads in progress.
    pub fn downloads_dir(&self) -> PathBuf {
        self.cache.join("downloads")
    }
    /// Registry blobs by digest.
    pub fn blobs_dir(&self) -> PathBuf {
        self.cache.join("blobs")
    }
    /// Compiled AppArmor profiles, one file per instance that was started.
    pub fn apparmor_dir(&self) -> PathBuf {
        self.cache.join("apparmor")
    }
    /// Logs of one instance.
    pub fn instance_log_dir(&self, project: &ProjectName, name: &InstanceName) -> PathBuf {
        self.log.join(format!("{project}_{name}"))
    }
    /// The event log.
    pub fn events_file(&self) -> PathBuf {
        self.log.join("events.jsonl")
    }
}

/// The same places relative to the folder's fd.
pub(super) mod rel {
    use super::*;

    pub const PROJECTS: &str = "projects";
    pub const IMAGES: &str = "images";
    pub const POOLS: &str = "pools";
    pub const OPS: &str = "ops";
    pub const SERVER: &str = "server.toml";
    pub const MAINTENANCE: &str = "maintenance.toml";
    pub const RUN_INSTANCES: &str = "instances";
    pub const RUN_NETWORKS: &str = "networks";
    pub const CPUS: &str = "cpus.toml";
    pub const FIREWALL: &str = "firewall.toml";

    pub fn project_dir(p: &ProjectName) -> PathBuf {
        format!("projects/{p}").into()
    }
    pub fn project(p: &ProjectName) -> PathBuf {
        format!("projects/{p}/project.toml").into()
    }
    pub fn profiles(p: &ProjectName) -> PathBuf {
        format!("projects/{p}/profiles").into()
    }
    pub fn profile(p: &ProjectName, n: &ProfileName) -> PathBuf {
        format!("projects/{p}/profiles/{n}.toml").into()
    }
    pub fn instances(p: &ProjectName) -> PathBuf {
        format!("projects/{p}/instances").into()
    }
    pub fn instance_dir(p: &ProjectName, n: &InstanceName) -> PathBuf {
        format!("projects/{p}/instances/{n}").into()
    }
    pub fn ephemeral(p: &ProjectName) -> PathBuf {
        format!("ephemeral/{p}").into()
    }
    pub fn ephemeral_dir(p: &ProjectName, n: &InstanceName) -> PathBuf {
        format!("ephemeral/{p}/{n}").into()
    }
    pub fn run_dir(p: &ProjectName, n: &InstanceName) -> PathBuf {
        format!("instances/{p}_{n}").into()
    }
    pub fn networks(p: &ProjectName) -> PathBuf {
        format!("projects/{p}/networks").into()
    }
    pub fn network_dir(p: &ProjectName, n: &NetworkName) -> PathBuf {
        format!("projects/{p}/networks/{n}").into()
    }
    pub fn network(p: &ProjectName, n: &NetworkName) -> PathBuf {
        format!("projects/{p}/networks/{n}/network.toml").into()
    }
    pub fn acls(p: &ProjectName) -> PathBuf {
        format!("projects/{p}/network-acls").into()
    }
    pub fn acl(p: &ProjectName, n: &AclName) -> PathBuf {
        format!("projects/{p}/network-acls/{n}.toml").into()
    }
    pub fn address_sets(p: &ProjectName) -> PathBuf {
        format!("projects/{p}/network-address-sets").into()
    }
    pub fn address_set(p: &ProjectName, n: &AddressSetName) -> PathBuf {
        format!("projects/{p}/network-address-sets/{n}.toml").into()
    }
    pub fn network_filters(n: &NetworkName) -> PathBuf {
        format!("networks/{n}/filters").into()
    }
    pub fn forwards(p: &ProjectName, n: &NetworkName) -> PathBuf {
        format!("projects/{p}/networks/{n}/forwards").into()
    }
    pub fn forward(p: &ProjectName, n: &NetworkName, listen: std::net::IpAddr) -> PathBuf {
        format!("projects/{p}/networks/{n}/forwards/{listen}.toml").into()
    }
    pub const ZONE_FILE: &str = "zone.toml";
    pub fn zones(p: &ProjectName) -> PathBuf {
        format!("projects/{p}/zones").into()
    }
    pub fn zone_dir(p: &ProjectName, z: &ZoneName) -> PathBuf {
        format!("projects/{p}/zones/{z}").into()
    }
    pub fn zone(p: &ProjectName, z: &ZoneName) -> PathBuf {
        format!("projects/{p}/zones/{z}/{ZONE_FILE}").into()
    }
    pub fn zone_records(p: &ProjectName, z: &ZoneName) -> PathBuf {
        format!("projects/{p}/zones/{z}/records").into()
    }
    pub fn zone_record(p: &ProjectName, z: &ZoneName, n: &ZoneRecordName) -> PathBuf {
        format!("projects/{p}/zones/{z}/records/{n}.toml").into()
    }
    pub fn network_run_dir(n: &NetworkName) -> PathBuf {
        format!("networks/{n}").into()
    }
    pub fn network_run(n: &NetworkName) -> PathBuf {
        format!("networks/{n}/up.toml").into()
    }
    pub fn network_ports(n: &NetworkName) -> PathBuf {
        format!("networks/{n}/ports").into()
    }
    pub fn network_names(n: &NetworkName) -> PathBuf {
        format!("networks/{n}/names").into()
    }
    pub const VOLUMES: &str = "volumes";
    pub fn volumes(p: &ProjectName, pool: &PoolName) -> PathBuf {
        format!("projects/{p}/{VOLUMES}/{pool}").into()
    }
    pub fn volume(key: &VolumeKey) -> PathBuf {
        volumes(&key.project, &key.pool).join(format!("{}.toml", key.name))
    }
    pub fn volume_snapshots(key: &VolumeKey) -> PathBuf {
        volumes(&key.project, &key.pool).join(format!("{}.snapshots", key.name))
    }
    pub fn volume_snapshot(key: &VolumeKey, s: &SnapshotName) -> PathBuf {
        volume_snapshots(key).join(format!("{s}.toml"))
    }
    /// Records of images; the files of all lie where the default project's are.
    pub fn images(p: &ProjectName) -> PathBuf {
        if p.is_default() { IMAGES.into() } else { project_dir(p).join(IMAGES) }
    }
    pub fn image(p: &ProjectName, f: &Fingerprint) -> PathBuf {
        images(p).join(format!("{f}.toml"))
    }
    pub fn aliases(p: &ProjectName) -> PathBuf {
        images(p).join("aliases.toml")
    }
    pub fn pool_dir(n: &PoolName) -> PathBuf {
        format!("pools/{n}").into()
    }
    pub fn pool(n: &PoolName) -> PathBuf {
        format!("pools/{n}/pool.toml").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_ones_own_moves_all_four() {
        let l = Layout::choose(Some(Path::new("/x")), 1000, |_| None).expect("layout");
        assert_eq!((l.state.to_str(), l.run.to_str()), (Some("/x/state"), Some("/x/run")));
        let from_env = |n: &str| (n == "STAPES_DIR").then(|| OsString::from("/y"));
        assert_eq!(Layout::choose(None, 0, from_env).expect("layout").log, Path::new("/y/log"));
        assert_eq!(Layout::choose(None, 0, |_| None).expect("layout"), Layout::system());
        assert!(Layout::choose(None, 1000, |_| None).is_none(), "no HOME");
    }

    #[test]
    fn a_user_gets_the_xdg_folders_and_relative_values_are_ignored() {
        let env = |n: &str| match n {
            "HOME" => Some(OsString::from("/home/u")),
            "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
            "XDG_CACHE_HOME" => Some("relative".into()),
            _ => None,
        };
        let l = Layout::choose(None, 7, env).expect("layout");
        assert_eq!(l.state, Path::new("/home/u/.local/share/stapes"));
        assert_eq!(l.run, Path::new("/run/user/7/stapes"));
        assert_eq!(l.cache, Path::new("/home/u/.cache/stapes"));
        assert_eq!(l.log, Path::new("/home/u/.local/state/stapes/log"));
    }

    #[test]
    fn paths_are_those_of_the_design() {
        let l = Layout::under(Path::new("/d"));
        let (p, n) = (ProjectName::default(), InstanceName::parse("c1").expect("name"));
        assert_eq!(l.instance_record(&p, &n), Path::new("/d/state/projects/default/instances/c1/instance.toml"));
        assert_eq!(l.run_file(&p, &n), Path::new("/d/run/instances/default_c1/run.toml"));
        let pool = PoolName::parse("fast").expect("name");
        assert_eq!(l.pool_trash(&pool), Path::new("/d/state/pools/fast/data/trash"));
        assert_eq!(
            l.lock_file(crate::store::lock::Rank::Instance, "default_c1"),
            Path::new("/d/state/locks/6-default_c1")
        );
    }
}
