//! Options of managed networks by type, of their zones, and what a change of one does to a network that is up.
//!
//! Kept apart from the keys of instances: the same name may mean something else there. Rules that need more than one option
//! stand in `model::network`.

/// Declares options: `NAME: "key", value, live, "short text" => option(…), …;` and, as `TABLE`, the list of them.
macro_rules! net_keys {
    ($($id:ident: $name:literal, $value:expr, $live:expr, $short:literal
       $(=> $($method:ident($($arg:expr),*)),+)?;)*) => {
        keys! { $($id: $name, Both, $value, $short $(=> $($method($($arg),*)),+)?;)* }
        pub(super) static TABLE: &[NetKey] = &[$(NetKey { key: &$id, live: $live }),*];
    };
}

pub mod bridge;
pub mod checks;
pub mod uplink;
pub mod zone;

use super::key::{Key, Scope, Suffix};
use super::value::Value;
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;
use crate::model::network::NetworkType;

/// An option of a network.
#[derive(Debug)]
pub struct NetKey {
    /// Name, type, default, documentation.
    pub key: &'static Key,
    /// What a change does while the network is up.
    pub live: NetLive,
}

/// What a change of an option does while the network is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetLive {
    /// It is refused while something uses the network.
    No,
    /// It is stored; whoever needs it reads it anew.
    Record,
    /// These parts have to be set up anew.
    Apply(&'static [Part]),
}

/// A part of a running network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The bridge's own link: MTU, MAC address, snooping.
    Link,
    /// Interfaces of the host in the bridge.
    Members,
    /// Tunnels to other hosts.
    Tunnels,
    /// Addresses of the bridge.
    Addresses,
    /// Routes to the bridge.
    Routes,
    /// Kernel settings of the bridge: forwarding, router advertisements.
    Sysctl,
    /// Firewall rules of the network, NAT among them.
    Firewall,
    /// The network's ACLs.
    Acls,
    /// dnsmasq is started anew.
    Dnsmasq,
    /// Zones that hold the network's names.
    Zones,
}

keys! {
    USER: "user.", Both, Value::Text, "Anything, without effect" => prefix(Suffix::Any);
}

static USER_KEY: NetKey = NetKey { key: &USER, live: NetLive::Record };

fn table(kind: NetworkType) -> &'static [NetKey] {
    match kind {
        NetworkType::Bridge => bridge::TABLE,
        NetworkType::Macvlan => uplink::MACVLAN,
        NetworkType::Sriov => uplink::SRIOV,
        NetworkType::Physical => uplink::PHYSICAL,
    }
}

/// The declared options of a type of network.
pub fn all(kind: NetworkType) -> impl Iterator<Item = &'static NetKey> {
    table(kind).iter().chain([&USER_KEY])
}

/// The declaration that covers `name` for a type of network.
pub fn find(kind: NetworkType, name: &str) -> Option<&'static NetKey> {
    all(kind).find(|k| k.key.matches(name))
}

/// Checks each option of a network by itself; the messages are Incus's.
///
/// # Errors
/// [`crate::error::Kind::Invalid`]; Unsupported for what this version could only store without heeding it.
pub fn check_each(network: &str, kind: NetworkType, config: &Config) -> Result<()> {
    for (name, value) in config {
        let shown: String = name.chars().filter(|c| !c.is_control()).collect();
        let found = find(kind, name)
            .ok_or_else(|| Error::invalid(format!("Invalid option for network {network:?} option {shown:?}")))?;
        let wrong = || format!("Invalid value for network {network:?} option {shown:?}");
        found.key.value.check(value).with_context(wrong)?;
        if kind == NetworkType::Bridge && !value.is_empty() && bridge::is_unheeded(found.key, value) {
            return Err(Error::unsupported(format!("Option {shown:?} is not supported by this version"))
                .context(format!("Invalid option for network {network:?}")));
        }
    }
    if kind != NetworkType::Bridge && uplink::PARENT.get(config).is_none() {
        let wrong = format!("Invalid value for network {network:?} option {:?}", uplink::PARENT.name);
        return Err(Error::invalid("Required value").context(wrong));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
