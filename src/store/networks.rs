//! Records of networks, and what runs of them: the interfaces that use one, each a file in the run folder.
//!
//! `projects/<p>/networks/<n>/network.toml` below the state folder; `networks/<n>/` below the run folder, whose names need no
//! project: a managed network's name is that of an interface of the host.

use super::Store;
use super::atomic::Durability;
use super::dir;
use super::layout::rel;
use super::lock::{Exclusive, Held, NetworkKey, NetworkRunKey};
use super::objects::in_folders;
use super::record::{self, Record, records};
use super::trash;
use crate::base::names::{NetworkName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;
use crate::model::network::Network;
use serde::{Deserialize, Serialize};

/// What runs of a network: `up.toml` in its run folder. It is a hint: the kernel is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRun {
    /// Format of the record; set when written.
    #[serde(default)]
    pub format: u32,
    /// The boot it belongs to.
    pub boot_id: String,
    /// Number of the bridge.
    pub index: u32,
    /// The configuration that was carried out.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub config: Config,
    /// dnsmasq's process, if one was started: number and start time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dnsmasq: Option<(i32, u64)>,
}

records! {
    Network => "Network record",
    NetworkRun => "Network run file",
}

impl Store {
    /// A network; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn network(&self, p: &ProjectName, n: &NetworkName) -> Result<Option<Network>> {
        self.state.as_ref().map_or(Ok(None), |state| record::read(state, rel::network(p, n)))
    }

    /// All networks of a project by name.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn networks(&self, p: &ProjectName) -> Result<Vec<(NetworkName, Result<Network>)>> {
        let list = |state| in_folders(state, &rel::networks(p), NETWORK_FILE, NetworkName::parse);
        self.state.as_ref().map_or(Ok(Vec::new()), list)
    }

    /// Creates or replaces a network's record.
    ///
    /// # Errors
    /// Not found: no such project; or an I/O error.
    pub fn save_network(&self, lock: &Held<NetworkKey, Exclusive>, network: &Network) -> Result<()> {
        let NetworkKey { project, name } = lock.key();
        let state = self.state_mut()?;
        if self.project(project)?.is_none() {
            return Err(Error::not_found("Project not found"));
        }
        let folder = rel::network_dir(project, name);
        if self.network(project, name).is_ok_and(|found| found.is_none()) {
            // What a killed deletion left of one of the same name.
            self.clear_network(lock)?;
        }
        state.make_all(folder, 0o700).with_context(|| format!("Failed writing network \"{name}\""))?;
        record::write(state, rel::network(project, name), network, Durability::Durable)
    }

    /// Gives the records of a network another name, at once or not at all.
    ///
    /// # Errors
    /// Exists: there are records of that name; or an I/O error.
    pub fn rename_network(&self, from: &Held<NetworkKey, Exclusive>, to: &Held<NetworkKey, Exclusive>) -> Result<()> {
        let (old, new) = (from.key(), to.key());
        let fail = || format!("Failed renaming network \"{}\"", old.name);
        let state = self.state_mut()?;
        let (source, a) = (rel::network_dir(&old.project, &old.name), rel::network_dir(&new.project, &new.name));
        let (folder, file) = state.parent(&source).with_context(fail)?;
        let (target, name) = state.parent(&a).with_context(fail)?;
        dir::rename(&folder, file, &target, name, false).with_context(fail)?;
        target.sync().with_context(fail)
    }

    /// Removes a network's records; its own goes first.
    ///
    /// # Errors
    /// An I/O error.
    pub fn delete_network(&self, lock: &Held<NetworkKey, Exclusive>) -> Result<()> {
        let NetworkKey { project, name } = lock.key();
        let fail = || format!("Failed deleting network \"{name}\"");
        let state = self.state_mut()?;
        state.unlink_durable(rel::network(project, name)).with_context(fail)?;
        self.clear_network(lock)
    }

    fn clear_network(&self, lock: &Held<NetworkKey, Exclusive>) -> Result<()> {
        let NetworkKey { project, name } = lock.key();
        let fail = || format!("Failed deleting network \"{name}\"");
        let (state, at) = (self.state_mut()?, rel::network_dir(project, name));
        if !state.exists(&at).with_context(fail)? {
            return Ok(());
        }
        let (above, file) = state.parent(&at).with_context(fail)?;
        trash::remove_tree(&above, file).map(drop).with_context(fail)
    }
}

/// What runs of networks. The lock is that of the run folder; it is held for as long as one of them is changed.
impl Store {
    /// What runs of a network; `None` if nothing was brought up.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn network_run(&self, n: &NetworkName) -> Result<Option<NetworkRun>> {
        self.run.as_ref().map_or(Ok(None), |run| record::read(run, rel::network_run(n)))
    }

    /// Notes what runs of a network; makes its run folder.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_network_run(&self, lock: &Held<NetworkRunKey, Exclusive>, what: &NetworkRun) -> Result<()> {
        let (run, n) = (self.run_mut()?, &lock.key().0);
        for folder in [rel::network_ports(n), rel::network_names(n)] {
            run.make_all(folder, PORTS_MODE).with_context(|| format!("Failed writing network \"{n}\""))?;
        }
        record::write(run, rel::network_run(n), what, Durability::Fast)
    }

    /// Forgets what ran of a network, with its run folder.
    ///
    /// # Errors
    /// An I/O error.
    pub fn remove_network_run(&self, lock: &Held<NetworkRunKey, Exclusive>) -> Result<()> {
        let (run, n) = (self.run_mut()?, &lock.key().0);
        let fail = || format!("Failed removing what ran of network \"{n}\"");
        let at = rel::network_run_dir(n);
        if !run.exists(&at).with_context(fail)? {
            return Ok(());
        }
        let (above, file) = run.parent(&at).with_context(fail)?;
        trash::remove_tree(&above, file).map(drop).with_context(fail)
    }

    /// Notes an interface that is on the network, with what dnsmasq is to know of it and of its names. True if it stood
    /// there with another text.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_network_port(
        &self,
        lock: &Held<NetworkRunKey, Exclusive>,
        file: &str,
        [text, names]: [&str; 2],
    ) -> Result<bool> {
        let (run, n) = (self.run_mut()?, &lock.key().0);
        let mut changed = false;
        for (folder, text) in [(rel::network_names(n), names), (rel::network_ports(n), text)] {
            let at = folder.join(file);
            let old = record::read_bytes(run, &at)?;
            if old.as_deref() != Some(text.as_bytes()) {
                super::atomic::replace(&run.path(&at), text.as_bytes(), PORT_MODE, Durability::Fast)?;
                changed |= old.is_some();
            }
        }
        Ok(changed)
    }

    /// Forgets an interface that was on the network; false if it was not there.
    ///
    /// # Errors
    /// An I/O error.
    pub fn remove_network_port(&self, lock: &Held<NetworkRunKey, Exclusive>, file: &str) -> Result<bool> {
        let (run, n) = (self.run_mut()?, &lock.key().0);
        let fail = || format!("Failed removing a port of network \"{n}\"");
        run.unlink(rel::network_names(n).join(file)).with_context(fail)?;
        run.unlink(rel::network_ports(n).join(file)).with_context(fail)
    }

    /// Names of the networks of which something runs.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn network_runs(&self) -> Result<Vec<NetworkName>> {
        let Some(run) = &self.run else { return Ok(Vec::new()) };
        let names = dir::list(run, rel::RUN_NETWORKS)?.map(|(_, names)| names).unwrap_or_default();
        Ok(names.iter().filter_map(|n| NetworkName::parse(n).ok()).collect())
    }

    /// Whether an interface is on the network.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn has_network_port(&self, n: &NetworkName, file: &str) -> Result<bool> {
        let at = rel::network_ports(n).join(file);
        let exists = |run: &super::dir::Dir| run.exists(at);
        self.run.as_ref().map_or(Ok(false), exists).with_context(|| format!("Failed reading network \"{n}\""))
    }

    /// What dnsmasq was told of an interface; `None` if it is not on the network.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn network_port(&self, n: &NetworkName, file: &str) -> Result<Option<String>> {
        let Some(run) = &self.run else { return Ok(None) };
        let bytes = record::read_bytes(run, &rel::network_ports(n).join(file))?;
        Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
    }

    /// Names of the files of the interfaces on a network.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn network_ports(&self, n: &NetworkName) -> Result<Vec<String>> {
        let Some(run) = &self.run else { return Ok(Vec::new()) };
        Ok(dir::list(run, rel::network_ports(n))?.map(|(_, names)| names).unwrap_or_default())
    }
}

/// dnsmasq reads them under its own user.
const PORTS_MODE: u32 = 0o755;
const PORT_MODE: u32 = 0o644;

/// The record in a network's folder.
pub(super) const NETWORK_FILE: &str = "network.toml";
