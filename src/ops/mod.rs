//! L5: use cases, one file per verb family, and what they share: opening the store ([`open`]), loading an instance
//! ([`load`]), wiring devices ([`wiring`]).
//!
//! Functions take the open store and a request, never print, and never look at the environment.
pub mod boot;
pub mod config;
pub mod confine;
pub mod console;
pub mod console_server;
pub mod cpus;
pub mod create;
pub mod delete;
pub mod device_config;
pub mod doctor;
pub mod exec;
pub mod file;
pub mod first_use;
pub mod foreground;
pub mod halt;
pub mod idmap;
pub mod image;
pub mod image_alias;
pub mod image_import;
pub mod info;
pub mod init;
pub mod keep;
pub mod lifecycle;
pub mod limits;
pub mod list;
pub mod list_filter;
pub mod live;
pub mod load;
pub mod network;
mod nic_host;
mod nic_live;
mod nic_vlan;
pub mod nics;
pub mod pool;
pub mod power;
pub mod profile;
mod profile_change;
pub mod project;
pub mod proxies;
pub mod relay;
pub mod rename;
pub mod run;
mod run_network;
pub mod settings;
pub mod spawn;
pub mod start;
pub mod state;
pub mod state_net;
pub mod status;
pub mod stop;
pub mod storage_info;
pub mod templates;
pub mod undo;
pub mod update;
pub mod wait;
pub mod wiring;

#[cfg(test)]
mod config_tests;
