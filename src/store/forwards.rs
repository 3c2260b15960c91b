//! Records of network forwards: `projects/<p>/networks/<n>/forwards/<address>.toml`, below the network's folder, with which
//! they go.

use super::Store;
use super::atomic::Durability;
use super::dir;
use super::layout::rel;
use super::lock::{Exclusive, Held, NetworkKey};
use super::record::{self, Record, records};
use crate::base::names::{NetworkName, ProjectName};
use crate::error::{Context, Result};
use crate::model::network::forward::Forward;
use std::net::IpAddr;

records! {
    Forward => "Network forward record",
}

const SUFFIX: &str = ".toml";

impl Store {
    /// The forward of a network at an address; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn forward(&self, p: &ProjectName, n: &NetworkName, listen: IpAddr) -> Result<Option<Forward>> {
        self.state.as_ref().map_or(Ok(None), |state| record::read(state, rel::forward(p, n, listen)))
    }

    /// All forwards of a network, by address.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn forwards(&self, p: &ProjectName, n: &NetworkName) -> Result<Vec<(IpAddr, Result<Forward>)>> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let Some((folder, names)) = dir::list(state, rel::forwards(p, n))? else { return Ok(Vec::new()) };
        let read = |name: String| {
            let address = name.strip_suffix(SUFFIX)?.parse().ok()?;
            Some((address, record::read(&folder, &name).transpose()?))
        };
        let mut all: Vec<(IpAddr, Result<Forward>)> = names.into_iter().filter_map(read).collect();
        all.sort_by_key(|(address, _)| *address);
        Ok(all)
    }

    /// Creates or replaces a forward's record.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_forward(&self, lock: &Held<NetworkKey, Exclusive>, listen: IpAddr, forward: &Forward) -> Result<()> {
        let NetworkKey { project, name } = lock.key();
        let state = self.state_mut()?;
        let fail = || format!("Failed writing a forward of network \"{name}\"");
        state.make_all(rel::forwards(project, name), 0o700).with_context(fail)?;
        record::write(state, rel::forward(project, name, listen), forward, Durability::Durable)
    }
}
