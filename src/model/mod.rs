//! L2: what things are. No I/O.
pub mod attach;
pub mod cpus;
pub mod diff;
pub mod expand;
pub mod image;
pub mod instance;
pub mod keys;
pub mod network;
pub mod nic;
pub mod pool;
pub mod profile;
pub mod project;
pub mod proxy;
pub mod remote;
pub mod snapshot_name;
pub mod status;
pub mod view;
