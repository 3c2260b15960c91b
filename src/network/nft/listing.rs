//! What stands in our tables: the names of chains and sets, from `nft -j list chains` and `nft -j list sets`.

use super::acl::set_family;
use super::rule::Name;
use super::script::{Family, Script};
use super::{Tables, network_label};
use crate::base::names::NetworkName;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeSet;

/// A chain or a set: its family and name.
pub type Item = (Family, String);

/// Names in our tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    chains: BTreeSet<Item>,
    sets: BTreeSet<Item>,
}

/// What ought to be there.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Networks with ACLs.
    pub networks: Vec<NetworkName>,
    /// Labels of interfaces with filters.
    pub ports: Vec<Name>,
    /// Names of the address sets in use, as nft has them.
    pub sets: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Document {
    nftables: Vec<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct Named {
    family: String,
    table: String,
    name: String,
}

const NETWORK: [&str; 4] = ["acl", "aclin", "aclout", "aclfwd"];
const PORT: [&str; 4] = ["in", "fwd", "out", "prert"];
const REFUSAL: [&str; 3] = ["rej", "rejfwd", "rejout"];

impl Listing {
    /// Adds what one of the two lists says of `tables`; what is not understood is left out.
    ///
    /// # Errors
    /// Failed: it is not of that form at all.
    pub fn read(&mut self, tables: &Tables, json: &str) -> Result<()> {
        let document: Document = serde_json::from_str(json)
            .map_err(|e| Error::failed(format!("Failed reading the list of nft rules: {e}")))?;
        for (kind, value) in document.nftables.into_iter().flatten() {
            let Ok(found) = serde_json::from_value::<Named>(value) else { continue };
            let family = match found.family.as_str() {
                "inet" => Family::Inet,
                "bridge" => Family::Bridge,
                _ => continue,
            };
            match kind.as_str() {
                _ if found.table != tables.name().to_string() => {}
                "chain" => drop(self.chains.insert((family, found.name))),
                "set" => drop(self.sets.insert((family, found.name))),
                _ => {}
            }
        }
        Ok(())
    }

    /// Is there nothing?
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.sets.is_empty()
    }

    /// Has a network the rules of its ACLs?
    pub fn has_network(&self, name: &NetworkName) -> bool {
        self.chains.contains(&(Family::Inet, network_label(name).under("acl").to_string()))
    }

    /// Has an interface its filter?
    pub fn has_port(&self, label: &Name) -> bool {
        self.chains.contains(&(Family::Bridge, label.under("in").to_string()))
    }

    /// Chains of ACLs and filters and address sets that nothing is left of: their names, and what takes them away.
    pub fn strays(&self, expected: &Expected) -> (Vec<String>, Script) {
        let (mut names, mut script) = (Vec::new(), Script::default());
        let networks = expected.networks.iter().map(network_label);
        let known: BTreeSet<Item> = networks
            .flat_map(|label| NETWORK.map(|prefix| (Family::Inet, label.under(prefix).to_string())))
            .chain(expected.ports.iter().flat_map(|label| PORT.map(|p| (Family::Bridge, label.under(p).to_string()))))
            .chain(expected.ports.iter().flat_map(|label| REFUSAL.map(|p| (Family::Inet, label.under(p).to_string()))))
            .collect();
        let ours = |(family, name): &Item| {
            let known = |prefix| match family {
                Family::Bridge => PORT.contains(&prefix),
                _ => NETWORK.contains(&prefix) || REFUSAL.contains(&prefix),
            };
            name.split_once('.').is_some_and(|(prefix, _)| known(prefix))
        };
        for (family, name) in self.chains.iter().filter(|item| ours(item) && !known.contains(*item)) {
            names.push(format!("chain {name}"));
            script.remove(*family, Name::encode(name));
        }
        for (family, name) in self.sets.iter().filter(|(_, name)| !expected.sets.contains(name)) {
            if let Some(kind) = set_family(name) {
                names.push(format!("set {name}"));
                script.remove_set(*family, Name::encode(name), kind);
            }
        }
        (names, script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAINS: &str = "{\"nftables\": [{\"metainfo\": {\"version\": \"1.0.6\"}},\
        {\"chain\": {\"family\": \"inet\", \"table\": \"stapes\", \"name\": \"acl.net0\", \"handle\": 1}},\
        {\"chain\": {\"family\": \"inet\", \"table\": \"stapes\", \"name\": \"aclin.net1\", \"handle\": 1}},\
        {\"chain\": {\"family\": \"inet\", \"table\": \"stapes\", \"name\": \"fwd.net1\", \"handle\": 1}},\
        {\"chain\": {\"family\": \"inet\", \"table\": \"other\", \"name\": \"acl.net9\", \"handle\": 1}},\
        {\"chain\": {\"family\": \"bridge\", \"table\": \"stapes\", \"name\": \"in.c1.eth0\", \"hook\": \"input\"}},\
        {\"chain\": {\"family\": \"bridge\", \"table\": \"stapes\", \"name\": \"out.c2.eth0\", \"hook\": \"output\"}}]}";
    const SETS: &str = "{\"nftables\": [\
        {\"set\": {\"family\": \"inet\", \"name\": \"set.a_ipv4\", \"table\": \"stapes\", \"type\": \"ipv4_addr\"}},\
        {\"set\": {\"family\": \"inet\", \"name\": \"set.b_ipv6\", \"table\": \"stapes\", \"type\": \"ipv6_addr\"}},\
        {\"set\": {\"family\": \"inet\", \"name\": \"bridges\", \"table\": \"stapes\", \"type\": \"ifname\"}}]}";

    #[test]
    fn what_nothing_is_left_of_is_found() {
        let tables = Tables::new(None);
        let mut listing = Listing::default();
        listing.read(&tables, CHAINS).expect("chains");
        listing.read(&tables, SETS).expect("sets");
        let net0 = NetworkName::parse("net0").expect("name");
        let c1 = Name::encode("c1.eth0");
        assert!(listing.has_network(&net0) && listing.has_port(&c1) && !listing.has_port(&Name::encode("c2.eth0")));
        let expected =
            Expected { networks: vec![net0], ports: vec![c1], sets: BTreeSet::from(["set.a_ipv4".to_string()]) };
        let (names, script) = listing.strays(&expected);
        assert_eq!(names, ["chain aclin.net1", "chain out.c2.eth0", "set set.b_ipv6"]);
        let text = script.text(&tables);
        for line in ["delete chain inet stapes aclin.net1", "delete chain bridge stapes out.c2.eth0"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains("delete set inet stapes set.b_ipv6") && !text.contains("set.a_ipv4"), "{text}");
        assert!(listing.read(&tables, "no").is_err() && !listing.is_empty() && Listing::default().is_empty());
    }
}
