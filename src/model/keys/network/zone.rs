//! Options of DNS zones, of network forwards, and of ACLs and address sets, which have `user.` only.

use super::{Key, Scope, USER, Value, checks};
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;

keys! {
    NAMESERVERS: "dns.nameservers", Both, Value::ListOf(&Value::Checked("name", checks::nameserver)),
        "Names of the zone's servers, for its NS records";
    CONTACT: "dns.contact", Both, Value::Checked("name", checks::nameserver), "Contact in the SOA record, `hostmaster.example.net`";
    NAT: "network.nat", Both, Value::Bool, "Whether addresses behind NAT are in the zone" => default("true");
    PEER_ADDRESS: "address", Both, Value::Checked("IP address", checks::address), "Address of a server that may ask for the zone"
        => item("peers.");
    PEER_KEY: "key", Both, Value::Checked("TSIG key", checks::tsig_key), "TSIG key of that server" => item("peers.");
    TARGET_ADDRESS: "target_address", Both, Value::Checked("IP address", checks::address),
        "Where packets go that no port is for";
}

/// Options of a zone.
pub static ZONE: &[&Key] = &[&NAMESERVERS, &CONTACT, &NAT, &PEER_ADDRESS, &PEER_KEY, &USER];

/// Options of a forward.
pub static FORWARD: &[&Key] = &[&TARGET_ADDRESS, &USER];

/// Options of an ACL, an address set, or a record of a zone.
pub static USER_ONLY: &[&Key] = &[&USER];

/// Checks the options of an object that is no network against its table.
///
/// # Errors
/// [`crate::error::Kind::Invalid`].
pub fn check(table: &[&Key], config: &Config) -> Result<()> {
    for (name, value) in config {
        let shown: String = name.chars().filter(|c| !c.is_control()).collect();
        let key = table.iter().find(|k| k.matches(name));
        let key = key.ok_or_else(|| Error::invalid(format!("Invalid config option {shown:?}")))?;
        key.value.check(value).with_context(|| format!("Invalid value for config option {shown:?}"))?;
    }
    Ok(())
}

/// A server that may ask for all of a zone: by its address, by its key, or by both.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Peer<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address.
    pub address: Option<&'a str>,
    /// Its key, in base64.
    pub key: Option<&'a str>,
}

impl std::fmt::Debug for Peer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({:?}, {:?})", self.name, self.address)
    }
}

/// The servers that may ask for a zone, by name.
pub fn peers(config: &Config) -> Vec<Peer<'_>> {
    let mut names: Vec<&str> =
        config.keys().filter_map(|k| PEER_ADDRESS.item_in(k).or_else(|| PEER_KEY.item_in(k))).collect();
    names.sort_unstable();
    names.dedup();
    let peer = |name| Peer { name, address: PEER_ADDRESS.get_of(config, name), key: PEER_KEY.get_of(config, name) };
    names.into_iter().map(peer).filter(|peer| peer.address.is_some() || peer.key.is_some()).collect()
}
