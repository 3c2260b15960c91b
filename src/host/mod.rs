//! L3: the machine we run on: its processes, cgroups, ids, its systemd, and other programs.
pub mod block;
pub mod boot_id;
pub mod cgroup;
pub mod command;
pub mod controllers;
pub mod cpus;
pub mod dns;
pub mod http;
pub mod kmsg;
pub mod links;
pub mod lsm;
pub mod notify;
pub mod proc;
pub mod scope;
pub mod subids;
pub mod systemd;
