//! Networks on a real kernel, with real dnsmasq and nft: the host is a network namespace that the test made, and so is the
//! world around it. Nothing leaves the machine.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

#[path = "root_network/acl.rs"]
mod acl;
#[path = "root_network/acl_nic.rs"]
mod acl_nic;
#[path = "root_network/acl_words.rs"]
mod acl_words;
#[path = "root_network/bridge.rs"]
mod bridge;
#[path = "root_network/clients.rs"]
mod clients;
mod common_root;
#[path = "root_network/filter.rs"]
mod filter;
#[path = "root_network/firewalls.rs"]
mod firewalls;
#[path = "root_network/first_use.rs"]
mod first_use;
#[path = "root_network/forward.rs"]
mod forward;
#[path = "root_network/functions.rs"]
mod functions;
#[path = "root_network/hotplug.rs"]
mod hotplug;
#[path = "root_network/life.rs"]
mod life;
#[path = "root_network/many.rs"]
mod many;
#[path = "root_network/members.rs"]
mod members;
#[path = "root_network/packets.rs"]
mod packets;
#[path = "root_network/proxy.rs"]
mod proxy;
#[path = "root_network/proxy_live.rs"]
mod proxy_live;
#[path = "root_network/servers.rs"]
mod servers;
#[path = "root_lifecycle/support.rs"]
#[allow(dead_code, reason = "the other test programs use the rest")]
mod support;
#[path = "root_network/types.rs"]
mod types;
#[path = "root_network/uplinks.rs"]
mod uplinks;
#[path = "root_network/world.rs"]
mod world;
#[path = "root_network/zone.rs"]
mod zone;
