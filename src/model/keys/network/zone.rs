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
    PEER_KEY: "key", Both, Value::Line, "TSIG key of that server" => item("peers.");
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

/// The servers that may ask for a zone: name, address, and whether they have a key.
pub fn peers(config: &Config) -> Vec<(&str, &str, bool)> {
    let named = config.keys().filter_map(|k| PEER_ADDRESS.item_in(k));
    named
        .filter_map(|peer| Some((peer, PEER_ADDRESS.get_of(config, peer)?, PEER_KEY.get_of(config, peer).is_some())))
        .collect()
}
