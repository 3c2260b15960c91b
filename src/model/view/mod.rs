//! The objects users see, field for field as Incus's REST API has them: what `--format json` and `yaml` print, what `show`
//! prints and `edit` reads, and what an API will return. Built from records by pure functions.

mod image;
mod instance;
mod network;
mod other;
mod preseed;
pub mod property;
mod server;
mod state;
pub mod url;
mod volume;

pub use image::{AliasEntryView, ImageAliasView, ImageParts, ImagePut, ImageSourceView, ImageView};
pub use instance::{BackupView, InstanceFull, InstanceParts, InstancePut, InstanceView, SnapshotView};
pub use network::{
    AclPut, AclView, AddressSetPut, AddressSetView, AllocationView, BondState, BridgeState, ForwardPut, ForwardView,
    LeaseView, NetworkPut, NetworkStateView, NetworkView, TrafficCounters, VlanState, ZonePut, ZoneRecordPut,
    ZoneRecordView, ZoneView,
};
pub use other::{PoolPut, PoolView, ProfilePut, ProfileView, ProjectPut, ProjectView};
pub use preseed::{Preseed, PreseedNetwork, PreseedPool, PreseedProfile, PreseedProject, PreseedVolume};
pub use server::{Amount, Environment, PoolResources, ServerPut, ServerView, StorageDriver};
pub use state::{
    CpuState, DiskState, InstanceState, MemoryState, NetworkAddress, NetworkCounters, NetworkState, OsInfo,
};
pub use volume::{VolumePut, VolumeSnapshotPut, VolumeSnapshotView, VolumeView};

/// What Incus calls the one server that is no cluster member.
pub const LOCATION: &str = "none";

#[cfg(test)]
mod tests;
