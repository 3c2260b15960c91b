//! L4: networks as others see them: firewall rules for nft and everything dnsmasq needs, both as data. No I/O.
//!
//! `ops` reads records, calls these functions, hands the texts to `host::command` and the files to the run folder.
//! - [`nft`]: one transaction per network, NIC, proxy, forward or address set.
//! - [`dnsmasq`]: arguments, hosts files and leases.
//! - [`zones`]: what the DNS server of zones is told, and what it answers.
pub mod dnsmasq;
pub mod nft;
pub mod zones;
