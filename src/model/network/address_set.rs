//! Address sets: lists of addresses, subnets and ranges that ACL rules name.

use crate::base::inet::IpNet;
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;
use crate::model::keys::network::zone as keys;
use crate::model::network::acl::Subject;
use crate::model::network::range::IpRange;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An address set's record; its project and name are its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressSet {
    /// Format of the record.
    pub format: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// `user.` options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Config,
    /// Addresses, subnets and ranges of either family.
    #[serde(default)]
    pub addresses: Vec<String>,
}

impl AddressSet {
    /// The addresses, subnets and ranges, read.
    ///
    /// # Errors
    /// Invalid, in the words of Incus.
    pub fn items(&self) -> Result<Vec<Subject>> {
        let items = self.addresses.iter().enumerate();
        let items = items.map(|(i, text)| {
            read(text.trim()).ok_or_else(|| Error::invalid(format!("Unsupported address format {text:?} at index {i}")))
        });
        items.collect::<Result<_>>().context("Invalid addresses")
    }

    /// Checks the whole.
    ///
    /// # Errors
    /// Invalid, in the words of Incus.
    pub fn validate(&self) -> Result<()> {
        keys::check(keys::USER_ONLY, &self.config)?;
        let items = self.items()?;
        for (i, item) in items.iter().enumerate() {
            if items[..i].contains(item) {
                let message = format!("Duplicate address {:?} found at index {i}", self.addresses[i]);
                return Err(Error::invalid(message).context("Invalid addresses"));
            }
        }
        Ok(())
    }
}

fn read(text: &str) -> Option<Subject> {
    let address = || text.parse::<IpAddr>().ok().map(|a| Subject::Net(IpNet::host(a)));
    let net = || text.parse::<IpNet>().ok().map(|n| Subject::Net(n.network()));
    let range = || IpRange::parse(text).ok().map(Subject::Range);
    address().or_else(net).or_else(range)
}
