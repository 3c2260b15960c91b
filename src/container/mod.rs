//! L4: system and application containers on the kernel's own interfaces.
//!
//! `plan` is the data, `ops` turns it into what process 1 executes, `start` drives the start, `attach` enters a running
//! container, `stop` ends it. Storage and devices are met only through `model::attach`.
pub mod apparmor;
pub mod attach;
pub mod build;
pub mod dev;
pub mod disks;
pub mod limits;
mod nic_inside;
mod nic_routed;
mod nic_vlans;
pub mod nics;
pub mod ops;
pub mod plan;
mod plan_spec;
pub mod resources;
pub mod rootfs;
pub mod seccomp;
pub mod start;
pub mod throttle;
