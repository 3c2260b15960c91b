//! Firewall rules as data, and their text for `nft -f -` (nft(8)).
//!
//! # Shape
//! All rules stand in tables of our own, called [`Tables`], in the families inet, bridge and netdev. Each network, NIC and
//! proxy has chains of its own, named after it ([`label`]), so that setting one up or taking it away touches nothing else.
//! A [`Script`] is one transaction: nft(8) applies a file as a whole or not at all. It may be applied twice, and on a table
//! that is not there yet.
//!
//! | chain | hook, priority | what |
//! |---|---|---|
//! | `out.<net>` | output 0 | DHCP replies without UDP checksum |
//! | `fwd.<net>` | forward 0 | reject of what is not to be routed |
//! | `pstrt.<net>` | postrouting 99 or 111 | NAT, before or after that of others (100, firewalld 110) |
//! | `acl.`, `aclin.`, `aclout.`, `aclfwd.<net>` | filter 0 | ACLs of a network |
//! | `fwdprert.`, `fwdout.`, `fwdpstrt.<net>` | −100, −100, 98 | forwards |
//! | `prert.`, `out.`, `pstrt.<instance>.<device>` | −100, −100, 98 | proxies with `nat=true` |
//! | bridge `in.`, `fwd.`, `out.<instance>.<device>` | −200, −200, 0 | anti-spoofing first, then ACLs of a NIC |
//! | bridge `prert.<instance>.<device>` | −150 | what an ACL of a NIC refuses, where a bridge can still answer |
//! | `rej.`, `rejfwd.`, `rejout.<instance>.<device>` | filter 1 | what it refuses of what comes through the host |
//! | `prert.<instance>.<device>` | −300 | reverse path filter of a routed NIC |
//! | netdev `egress.netprio.<instance>.<device>` | egress 0 | `limits.priority` |
//!
//! # Order
//! Rules against spoofing come before anything that accepts (CVE-2025-52889, CVE-2025-52890). An accept ends the chain of
//! its own network or NIC only; those of others still see the packet. Within an ACL: drop, reject, allow, default.
//!
//! # Others' firewalls
//! A packet is let through if no chain of its hook drops it, so an accept of ours does not undo a drop of others. See
//! [`coexist`] for what is done about Docker, ufw and firewalld.

pub mod acl;
pub mod coexist;
pub mod forward;
pub mod listing;
pub mod network;
pub mod nic;
mod refusal;
pub mod rule;
pub mod script;

pub use script::Script;

use crate::base::names::{DeviceName, InstanceName, NetworkName, ProjectName};
use rule::Name;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The name our tables have in every family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables(Name);

impl Tables {
    /// `stapes`, or with the tag of another state folder `stapes-<tag>`, as its cgroup is called, so that two state folders
    /// never touch each other's rules.
    pub fn new(tag: Option<&str>) -> Self {
        match tag {
            None => Self(Name::encode("stapes")),
            Some(tag) => Self(Name::encode(&format!("stapes-{tag}"))),
        }
    }

    /// The name.
    pub fn name(&self) -> &Name {
        &self.0
    }
}

/// Names of chains have at most 255 bytes (`NFT_NAME_MAXLEN`); prefixes of ours need some.
const LABEL_MAX: usize = 200;

/// What a device's chains are named after: `<instance>.<device>`, for another project `<project>_<instance>.<device>`.
/// What nft takes in no name, and dots in project and device, become `/` and two hexadecimal digits, so no two devices share
/// a label; one that would be too long ends in a digest.
pub fn label(project: &ProjectName, instance: &InstanceName, device: &DeviceName) -> Name {
    let whole = match project.is_default() {
        true => format!("{instance}.{}", Name::encode_part(device)),
        false => format!("{}_{instance}.{}", Name::encode_part(project), Name::encode_part(device)),
    };
    if whole.len() <= LABEL_MAX {
        return Name::encode(&whole);
    }
    let digest = Sha256::digest(whole.as_bytes());
    let mut short: String = whole.chars().take(LABEL_MAX - 34).collect();
    short.push_str("//");
    for byte in &digest[..16] {
        let _ = write!(short, "{byte:02x}");
    }
    Name::encode(&short)
}

/// What a network's chains are named after: its name.
pub fn network_label(network: &NetworkName) -> Name {
    Name::encode(network)
}

#[cfg(test)]
mod tests;
