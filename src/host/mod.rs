//! L3: the machine we run on: its processes, cgroups, ids, and other programs.
pub mod boot_id;
pub mod cgroup;
pub mod command;
pub mod controllers;
pub mod cpus;
pub mod lsm;
pub mod proc;
pub mod subids;
