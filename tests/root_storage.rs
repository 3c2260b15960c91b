//! Storage pools through the program: made, used, changed, filled, grown and deleted, in folders and on disks.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

#[path = "root_storage/block_btrfs.rs"]
mod block_btrfs;
mod common_root;
#[path = "root_storage/crossing.rs"]
mod crossing;
#[path = "root_storage/disks.rs"]
mod disks;
#[path = "root_storage/initial.rs"]
mod initial;
#[path = "root_storage/lvm.rs"]
mod lvm;
#[path = "root_storage/lvm_keys.rs"]
mod lvm_keys;
#[path = "root_storage/lvm_sizes.rs"]
mod lvm_sizes;
#[path = "root_storage/mounts.rs"]
mod mounts;
#[path = "root_storage/order.rs"]
mod order;
#[path = "root_storage/recover.rs"]
mod recover;
#[path = "root_storage/refused.rs"]
mod refused;
#[path = "root_storage/sizes.rs"]
mod sizes;
#[path = "root_storage/sources.rs"]
mod sources;
#[path = "root_storage/support.rs"]
mod support;
#[path = "root_storage/verbs.rs"]
mod verbs;
#[path = "root_storage/zfs.rs"]
mod zfs;
#[path = "root_storage/zfs_block.rs"]
mod zfs_block;
#[path = "root_storage/zfs_owners.rs"]
mod zfs_owners;
#[path = "root_storage/zfs_streams.rs"]
mod zfs_streams;
