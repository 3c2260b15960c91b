//! Records of network ACLs and address sets, and of the rules in force: whose ACLs a network or an interface on it has in the
//! kernel.
//!
//! `projects/<p>/network-acls/<n>.toml` and `network-address-sets/<n>.toml` below the state folder; below the run folder
//! `networks/<n>/filters/<port>.toml`, where the port is named as in `ports`, and `network` stands for the network itself. A
//! record of rules is written before they are set and goes after them, both under the lock of the firewall: so it is known
//! at any time what may stand in the kernel.

use super::atomic::Durability;
use super::dir;
use super::layout::rel;
use super::lock::{AclsKey, Allocator, Exclusive, Held};
use super::objects::in_files;
use super::record::{self, Record, records};
use super::{Action, Store};
use crate::base::names::{AclName, AddressSetName, NetworkName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;
use crate::model::network::acl::Acl;
use crate::model::network::address_set::AddressSet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Rules in force: those of a network's ACLs, or those of an interface on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Format of the record; set when written.
    #[serde(default)]
    pub format: u32,
    /// The project whose network it is, and whose ACLs count.
    pub project: String,
    /// Options of the network or the device that the rules were made of.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub options: Config,
    /// The interface; none if the rules are the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic: Option<FilteredNic>,
}

/// An interface as its rules need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilteredNic {
    /// The instance's project.
    pub project: String,
    /// The instance.
    pub instance: String,
    /// The device.
    pub device: String,
    /// Its end on the host.
    pub host_name: String,
    /// Its MAC address.
    pub hwaddr: String,
    /// Addresses reserved for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

records! {
    Acl => "Network ACL record",
    AddressSet => "Address set record",
    Filter => "Filter record",
}

/// Stands for the network itself among the names of its ports, which all hold an underscore and a dot.
pub const NETWORK_FILTER: &str = "network";

/// The record of a filter beside those of ports, whose names it has.
fn filter(n: &NetworkName, port: &str) -> PathBuf {
    rel::network_filters(n).join(format!("{port}{SUFFIX}"))
}

const SUFFIX: &str = ".toml";
/// The folder above belongs to dnsmasq as well; the records themselves are ours alone.
const FOLDER_MODE: u32 = 0o755;

/// ACLs.
impl Store {
    /// An ACL; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn acl(&self, p: &ProjectName, n: &AclName) -> Result<Option<Acl>> {
        self.state.as_ref().map_or(Ok(None), |state| record::read(state, rel::acl(p, n)))
    }

    /// All ACLs of a project by name.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn acls(&self, p: &ProjectName) -> Result<Vec<(AclName, Result<Acl>)>> {
        let list = |state| in_files(state, &rel::acls(p), AclName::parse);
        self.state.as_ref().map_or(Ok(Vec::new()), list)
    }

    /// Creates or replaces an ACL's record.
    ///
    /// # Errors
    /// Not found: no such project; or an I/O error.
    pub fn save_acl(&self, lock: &Held<AclsKey, Exclusive>, n: &AclName, acl: &Acl) -> Result<()> {
        self.save_in(lock, &rel::acl(&lock.key().0, n), acl)
    }

    /// Removes an ACL's record.
    ///
    /// # Errors
    /// An I/O error.
    pub fn delete_acl(&self, lock: &Held<AclsKey, Exclusive>, n: &AclName) -> Result<()> {
        let at = rel::acl(&lock.key().0, n);
        self.state_mut()?.unlink_durable(at).map(drop).with_context(|| format!("Failed deleting network ACL \"{n}\""))
    }

    /// Gives an ACL another name.
    ///
    /// # Errors
    /// Exists, or an I/O error.
    pub fn rename_acl(&self, lock: &Held<AclsKey, Exclusive>, from: &AclName, to: &AclName) -> Result<()> {
        let p = &lock.key().0;
        self.rename_in(&rel::acl(p, from), &rel::acl(p, to))
    }

    /// What puts an ACL's record back as it is now.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn restore_acl(&self, p: &ProjectName, n: &AclName) -> Result<Action> {
        self.restore(&rel::acl(p, n))
    }
}

/// Address sets. The lock is that of the ACLs that name them.
impl Store {
    /// An address set; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn address_set(&self, p: &ProjectName, n: &AddressSetName) -> Result<Option<AddressSet>> {
        self.state.as_ref().map_or(Ok(None), |state| record::read(state, rel::address_set(p, n)))
    }

    /// All address sets of a project by name.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn address_sets(&self, p: &ProjectName) -> Result<Vec<(AddressSetName, Result<AddressSet>)>> {
        let list = |state| in_files(state, &rel::address_sets(p), AddressSetName::parse);
        self.state.as_ref().map_or(Ok(Vec::new()), list)
    }

    /// Creates or replaces an address set's record.
    ///
    /// # Errors
    /// Not found: no such project; or an I/O error.
    pub fn save_address_set(
        &self,
        lock: &Held<AclsKey, Exclusive>,
        n: &AddressSetName,
        set: &AddressSet,
    ) -> Result<()> {
        self.save_in(lock, &rel::address_set(&lock.key().0, n), set)
    }

    /// Removes an address set's record.
    ///
    /// # Errors
    /// An I/O error.
    pub fn delete_address_set(&self, lock: &Held<AclsKey, Exclusive>, n: &AddressSetName) -> Result<()> {
        let at = rel::address_set(&lock.key().0, n);
        self.state_mut()?.unlink_durable(at).map(drop).with_context(|| format!("Failed deleting address set \"{n}\""))
    }

    /// Gives an address set another name.
    ///
    /// # Errors
    /// Exists, or an I/O error.
    pub fn rename_address_set(
        &self,
        lock: &Held<AclsKey, Exclusive>,
        from: &AddressSetName,
        to: &AddressSetName,
    ) -> Result<()> {
        let p = &lock.key().0;
        self.rename_in(&rel::address_set(p, from), &rel::address_set(p, to))
    }

    /// What puts an address set's record back as it is now.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn restore_address_set(&self, p: &ProjectName, n: &AddressSetName) -> Result<Action> {
        self.restore(&rel::address_set(p, n))
    }

    fn save_in<T: Record>(&self, lock: &Held<AclsKey, Exclusive>, at: &Path, record: &T) -> Result<()> {
        let state = self.state_mut()?;
        if self.project(&lock.key().0)?.is_none() {
            return Err(Error::not_found("Project not found"));
        }
        let folder = at.parent().unwrap_or(at);
        state.make_all(folder, 0o700).with_context(|| format!("Failed writing \"{}\"", state.path(at).display()))?;
        record::write(state, at, record, Durability::Durable)
    }

    fn rename_in(&self, from: &Path, to: &Path) -> Result<()> {
        let state = self.state_mut()?;
        let fail = || format!("Failed renaming \"{}\"", state.path(from).display());
        let ((folder, old), new) = (state.parent(from).with_context(fail)?, to.file_name().unwrap_or_default());
        dir::rename(&folder, old, &folder, new, false).with_context(fail)?;
        folder.sync().with_context(fail)
    }

    fn restore(&self, at: &Path) -> Result<Action> {
        let state = self.state_mut()?;
        let content = String::from_utf8_lossy(&record::read_bytes(state, at)?.unwrap_or_default()).into_owned();
        Ok(Action::RestoreFile { path: state.path(at), content })
    }
}

/// Rules in force. The lock is the firewall's.
impl Store {
    /// The filters of a network and of the interfaces on it, by the names of ports.
    ///
    /// # Errors
    /// One is damaged or cannot be read.
    pub fn network_filters(&self, n: &NetworkName) -> Result<Vec<(String, Filter)>> {
        let Some(run) = &self.run else { return Ok(Vec::new()) };
        let names = dir::list(run, rel::network_filters(n))?.map(|(_, names)| names).unwrap_or_default();
        let mut all = Vec::new();
        for port in names.iter().filter_map(|name| name.strip_suffix(SUFFIX)) {
            if let Some(found) = self.network_filter(n, port)? {
                all.push((port.to_string(), found));
            }
        }
        Ok(all)
    }

    /// One of them.
    ///
    /// # Errors
    /// It is damaged or cannot be read.
    pub fn network_filter(&self, n: &NetworkName, port: &str) -> Result<Option<Filter>> {
        self.run.as_ref().map_or(Ok(None), |run| record::read(run, filter(n, port)))
    }

    /// Notes rules that are about to be set.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_network_filter(
        &self,
        _firewall: &Held<Allocator, Exclusive>,
        n: &NetworkName,
        port: &str,
        what: &Filter,
    ) -> Result<()> {
        let run = self.run_mut()?;
        let fail = || format!("Failed writing network \"{n}\"");
        run.make_all(rel::network_filters(n), FOLDER_MODE).with_context(fail)?;
        record::write(run, filter(n, port), what, Durability::Fast)
    }

    /// Forgets rules that have gone; false if none were noted.
    ///
    /// # Errors
    /// An I/O error.
    pub fn remove_network_filter(
        &self,
        _firewall: &Held<Allocator, Exclusive>,
        n: &NetworkName,
        port: &str,
    ) -> Result<bool> {
        let fail = || format!("Failed removing a filter of network \"{n}\"");
        self.run_mut()?.unlink(filter(n, port)).with_context(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::Layout;
    use super::super::lock::AclsKey;
    use super::super::{Access, Journal};
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(&Layout::under(dir.path()), Access::Write).expect("open");
        (dir, store)
    }

    fn acl(description: &str) -> Acl {
        let (config, egress, ingress) = (Config::new(), Vec::new(), Vec::new());
        Acl { format: 1, description: description.into(), config, egress, ingress }
    }

    fn set(address: &str) -> AddressSet {
        let (description, config) = (String::new(), Config::new());
        AddressSet { format: 1, description, config, addresses: vec![address.into()] }
    }

    #[test]
    fn records_come_and_go() {
        let (_dir, store) = store();
        let (p, web, www) =
            (ProjectName::default(), AclName::parse("web").expect("n"), AclName::parse("www").expect("n"));
        assert_eq!((store.acl(&p, &web).expect("read"), store.acls(&p).expect("list").len()), (None, 0));
        let lock = store.lock_acls(&p, "create").expect("lock");
        store.save_acl(&lock, &web, &acl("one")).expect("save");
        store.save_acl(&lock, &www, &acl("two")).expect("save");
        assert!(store.rename_acl(&lock, &web, &www).is_err(), "nothing is overwritten");
        store.delete_acl(&lock, &www).expect("delete");
        store.rename_acl(&lock, &web, &www).expect("rename");
        assert_eq!(store.acl(&p, &www).expect("read"), Some(acl("one")));
        let hosts = AddressSetName::parse("hosts").expect("name");
        store.save_address_set(&lock, &hosts, &set("10.0.0.1")).expect("save");
        let names: Vec<String> = store.address_sets(&p).expect("list").iter().map(|(n, _)| n.to_string()).collect();
        assert_eq!(names, ["hosts"]);
        store.delete_address_set(&lock, &hosts).expect("delete");
        store.delete_address_set(&lock, &hosts).expect("again");
        assert_eq!(store.address_set(&p, &hosts).expect("read"), None);
        let nobody = store.lock_acls(&ProjectName::parse("nobody").expect("name"), "create");
        assert!(nobody.is_err() || store.save_acl(&nobody.expect("lock"), &web, &acl("x")).is_err());
    }

    #[test]
    fn one_that_is_damaged_stops_no_other() {
        let (dir, store) = store();
        let (p, web, www) =
            (ProjectName::default(), AclName::parse("web").expect("n"), AclName::parse("www").expect("n"));
        let lock = store.lock_acls(&p, "create").expect("lock");
        store.save_acl(&lock, &web, &acl("one")).expect("save");
        store.save_acl(&lock, &www, &acl("two")).expect("save");
        let at = dir.path().join("state/projects/default/network-acls/web.toml");
        #[expect(clippy::disallowed_methods, reason = "a test damages it")]
        std::fs::write(at, "format = 1\nnonsense = 2\n").expect("write");
        let all = store.acls(&p).expect("list");
        assert!(all[0].1.is_err() && all[1].1.is_ok());
        assert!(store.acl(&p, &web).is_err());
    }

    /// An update that is not committed leaves the old record.
    #[test]
    fn an_update_goes_back() {
        let (_dir, store) = store();
        let (p, web) = (ProjectName::default(), AclName::parse("web").expect("name"));
        let lock: Held<AclsKey, Exclusive> = store.lock_acls(&p, "update").expect("lock");
        store.save_acl(&lock, &web, &acl("old")).expect("save");
        let mut journal = Journal::begin(&store, "update", &[&lock]).expect("journal");
        journal.undo(store.restore_acl(&p, &web).expect("restore")).expect("undo");
        store.save_acl(&lock, &web, &acl("new")).expect("save");
        drop(journal);
        assert_eq!(store.acl(&p, &web).expect("read"), Some(acl("old")));
    }

    #[test]
    fn filters_are_noted_by_port() {
        let (_dir, store) = store();
        let net0 = NetworkName::parse("net0").expect("name");
        let lock = store.lock_allocator(Allocator::Firewall).expect("lock");
        let nic = FilteredNic {
            project: "default".into(),
            instance: "c1".into(),
            device: "eth0".into(),
            host_name: "veth0".into(),
            hwaddr: "10:66:6a:00:00:01".into(),
            addresses: vec!["10.0.0.9".parse().expect("address")],
        };
        let filter = Filter { format: 1, project: "default".into(), options: Config::new(), nic: Some(nic) };
        let own = Filter { nic: None, ..filter.clone() };
        store.save_network_filter(&lock, &net0, "default_c1.eth0", &filter).expect("save");
        store.save_network_filter(&lock, &net0, NETWORK_FILTER, &own).expect("save");
        let all = store.network_filters(&net0).expect("list");
        assert_eq!(all, [("default_c1.eth0".to_string(), filter), (NETWORK_FILTER.to_string(), own)]);
        assert!(store.remove_network_filter(&lock, &net0, "default_c1.eth0").expect("remove"));
        assert!(!store.remove_network_filter(&lock, &net0, "default_c1.eth0").expect("again"));
        assert_eq!(store.network_filter(&net0, "default_c1.eth0").expect("read"), None);
    }
}
