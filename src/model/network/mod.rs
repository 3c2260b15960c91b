//! Networks and what belongs to them: records and the rules that need more than one option. No I/O.
//!
//! Called by `ops` before anything is done. Whether an address or an interface is free on the host is asked there.

pub mod acl;
pub mod address_set;
pub mod alloc;
pub mod bridge;
pub mod forward;
pub mod nic;
pub mod random;
pub mod range;
pub mod zone;

use crate::base::names::NetworkName;
use crate::error::{Error, Result};
use crate::model::instance::Config;
use crate::model::keys::network::{self as keys, NetLive, Part, bridge as bridge_keys};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A network's record; its project and name are its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Format of the record.
    pub format: u32,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: NetworkType,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Config,
}

/// The types of managed networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkType {
    /// A bridge of our own.
    Bridge,
    /// A preset for macvlan interfaces.
    Macvlan,
    /// A preset for virtual functions.
    Sriov,
    /// An interface of the host to pass on.
    Physical,
}

impl NetworkType {
    /// The name Incus uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Sriov => "sriov",
            Self::Physical => "physical",
        }
    }

    /// Reads `--type`; empty is a bridge.
    ///
    /// # Errors
    /// Unsupported for `ovn`, Invalid for what is no type.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "bridge" => Ok(Self::Bridge),
            "macvlan" => Ok(Self::Macvlan),
            "sriov" => Ok(Self::Sriov),
            "physical" => Ok(Self::Physical),
            "ovn" => Err(Error::unsupported("Network type \"ovn\" is not supported by this version")
                .hint("Use a network of type \"bridge\"")),
            other => Err(Error::invalid(format!("Invalid network type {other:?}"))),
        }
    }

    /// The `nictype` of a NIC with `network=` on such a network.
    pub fn nictype(self) -> &'static str {
        match self {
            Self::Bridge => "bridged",
            other => other.as_str(),
        }
    }
}

/// Checks the configuration of a network: each option, then what they say together.
///
/// # Errors
/// Invalid, in the words of Incus; Unsupported for what this version has not.
pub fn validate(name: &NetworkName, kind: NetworkType, config: &Config) -> Result<()> {
    keys::check_each(name, kind, config)?;
    match kind {
        NetworkType::Bridge => bridge::check_together(name, config),
        _ => Ok(()),
    }
}

/// What a change of a network's configuration amounts to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkChanges {
    /// Changed options, in order.
    pub keys: Vec<String>,
    /// Parts of the running network to set up anew, in the order to do it.
    pub parts: BTreeSet<Part>,
    /// Changed options that are refused while something uses the network.
    pub refused: Vec<String>,
}

impl NetworkChanges {
    /// May this be done while something uses the network?
    ///
    /// # Errors
    /// Conflict, naming the first option that may not change.
    pub fn check_used(&self) -> Result<()> {
        match self.refused.first() {
            Some(key) => Err(Error::conflict(format!("Cannot update {key:?} when the network is in use"))),
            None => Ok(()),
        }
    }
}

/// Compares two configurations of a network.
pub fn diff(kind: NetworkType, old: &Config, new: &Config) -> NetworkChanges {
    let value = |config: &Config, name: &str| config.get(name).cloned().unwrap_or_default();
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut changes = NetworkChanges::default();
    for name in names.into_iter().filter(|n| value(old, n) != value(new, n)) {
        changes.keys.push(name.clone());
        match keys::find(kind, name).map_or(NetLive::Record, |k| k.live) {
            NetLive::No => changes.refused.push(name.clone()),
            NetLive::Record => {}
            NetLive::Apply(parts) => changes.parts.extend(parts),
        }
    }
    changes
}

/// Completes the configuration of a new bridge as Incus does: addresses are `auto` unless said otherwise, and NAT is on where
/// the address is. `ipv6`: the host has IPv6; else its address stays `none`.
pub fn complete_new(config: &mut Config, ipv6: bool) {
    let default_v6 = if ipv6 { "auto" } else { "none" };
    let families = [
        (&bridge_keys::IPV4_ADDRESS, &bridge_keys::IPV4_NAT, "auto"),
        (&bridge_keys::IPV6_ADDRESS, &bridge_keys::IPV6_NAT, default_v6),
    ];
    for (address, nat, default) in families {
        if address.get(config).is_none() {
            address.set(config, default);
        }
        if address.get(config) == Some("auto") && nat.get(config).is_none() {
            nat.set(config, "true");
        }
    }
}

#[cfg(test)]
mod tests;
