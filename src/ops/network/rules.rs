//! The rules of ACLs in the kernel: of networks that are up, and of interfaces on them with what these may send.
//!
//! What is in force is noted below the run folder before it is set (`store::acls`), so a change of an ACL or an address set
//! finds all it concerns, and sets it in one transaction: nft applies it as a whole or not at all. The lock of the firewall
//! is held from the look at the notes until nft is done. An address set is there as long as a rule in force names it.

use super::{filter, firewall};
use crate::base::names::{AclName, AddressSetName, NetworkName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::network::bridge as keys;
use crate::model::network::acl::{Acl, AclAction, Direction};
use crate::model::network::bridge::Bridge;
use crate::network::nft::acl::{self as sets, Fallback, Policy};
use crate::network::nft::nic::Kernel;
use crate::network::nft::{Script, network};
use crate::store::Store;
use crate::store::acls::{Filter, NETWORK_FILTER};
use crate::store::lock::Allocator;
use std::collections::{BTreeMap, BTreeSet};

/// Names of the ACLs that a network or a device has.
pub fn acls_of(options: &Config) -> Vec<&str> {
    keys::SECURITY_ACLS.list(options)
}

/// Has it any?
pub(super) fn has_acls(options: &Config) -> bool {
    !acls_of(options).is_empty()
}

/// An ACL that must be there.
fn need(store: &Store, project: &ProjectName, name: &str) -> Result<Acl> {
    let missing = || Error::not_found(format!("Network ACL {name:?} does not exist"));
    let found = AclName::parse(name).map_err(|_| missing())?;
    store.acl(project, &found)?.ok_or_else(missing)
}

/// Checks that the ACLs of a network or a device are there, each once.
///
/// # Errors
/// Not found; Invalid; a record is damaged.
pub fn check(store: &Store, project: &ProjectName, options: &Config) -> Result<()> {
    let names = acls_of(options);
    for (i, name) in names.iter().enumerate() {
        need(store, project, name)?;
        if names[..i].contains(name) {
            return Err(Error::invalid(format!("Network ACL {name:?} specified multiple times")));
        }
    }
    Ok(())
}

/// The rules of a network or a device with these options; none if it has no ACLs.
fn policy(store: &Store, project: &ProjectName, options: &Config) -> Result<Option<Policy>> {
    let names = acls_of(options);
    if names.is_empty() {
        return Ok(None);
    }
    let load = |name: &&str| need(store, project, name).with_context(|| format!("Failed loading ACL {name:?}"));
    let acls = names.iter().map(load).collect::<Result<Vec<Acl>>>()?;
    let fallback = |direction| -> Result<Fallback> {
        let (action, logged) = match direction {
            Direction::Ingress => (&keys::ACLS_DEFAULT_INGRESS_ACTION, &keys::ACLS_DEFAULT_INGRESS_LOGGED),
            Direction::Egress => (&keys::ACLS_DEFAULT_EGRESS_ACTION, &keys::ACLS_DEFAULT_EGRESS_LOGGED),
        };
        Ok(Fallback { action: AclAction::parse(action.text(options))?, logged: logged.bool(options)? })
    };
    let acls: Vec<&Acl> = acls.iter().collect();
    Policy::new(project, &acls, fallback(Direction::Ingress)?, fallback(Direction::Egress)?).map(Some)
}

/// Whose rules: a network and a name among those of its ports.
type Whose = (NetworkName, String);

/// All that is noted as in force for networks of `project`.
fn in_force(store: &Store, project: &ProjectName) -> Result<BTreeMap<Whose, Filter>> {
    let mut all = BTreeMap::new();
    for network in store.network_runs()? {
        let filters = store.network_filters(&network)?.into_iter();
        let own = filters.filter(|(_, filter)| filter.project == project.as_str());
        all.extend(own.map(|(port, filter)| ((network.clone(), port), filter)));
    }
    Ok(all)
}

/// Names of the address sets that filters need.
///
/// # Errors
/// An ACL is missing or damaged.
pub(super) fn sets_of<'a>(
    store: &Store,
    project: &ProjectName,
    filters: impl Iterator<Item = &'a Filter>,
) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for filter in filters {
        if let Some(policy) = policy(store, project, &filter.options)? {
            names.extend(policy.sets().into_iter().map(str::to_string));
        }
    }
    Ok(names)
}

/// A transaction in the making: address sets, then whose rules need them, then the sets that nothing needs any more.
struct Change<'a> {
    store: &'a Store,
    project: &'a ProjectName,
    kernel: Option<Kernel>,
    script: Script,
    sets: BTreeSet<String>,
}

impl<'a> Change<'a> {
    fn new(store: &'a Store, project: &'a ProjectName) -> Self {
        Self { store, project, kernel: None, script: Script::default(), sets: BTreeSet::new() }
    }

    /// Adds the rules of one.
    fn add(&mut self, (network, _): &Whose, filter: &Filter) -> Result<()> {
        let policy = policy(self.store, self.project, &filter.options)?;
        self.sets.extend(policy.iter().flat_map(Policy::sets).map(str::to_string));
        let rules = match (&filter.nic, &policy) {
            (None, Some(policy)) => network::acls_up(network, policy),
            (None, None) => network::acls_down(network),
            (Some(nic), policy) => {
                let record = self.store.network(self.project, network)?.ok_or_else(super::not_found)?;
                let bridge = Bridge::read(&record.config, None)?;
                let kernel = self.kernel(policy.is_some())?;
                filter::rules((network.as_str(), &bridge), (nic, &filter.options), policy.as_ref(), kernel)?
            }
        };
        self.script.append(rules);
        Ok(())
    }

    /// What the kernel has; asked once, and if it matters only.
    fn kernel(&mut self, matters: bool) -> Result<Kernel> {
        match self.kernel {
            Some(kernel) => Ok(kernel),
            None if matters => Ok(*self.kernel.insert(firewall::kernel(self.store)?)),
            None => Ok(Kernel { conntrack: false, reject: false }),
        }
    }

    /// Carries it out; of `before` go the sets that nothing in `force` needs.
    fn carry_out(self, before: &BTreeSet<String>, force: &BTreeSet<String>) -> Result<()> {
        let store = self.store;
        firewall::set(store, &self.whole(before, force)?)
    }

    fn whole(self, before: &BTreeSet<String>, force: &BTreeSet<String>) -> Result<Script> {
        let mut script = Script::default();
        for name in &self.sets {
            script.append(set_up(self.store, self.project, name)?);
        }
        script.append(self.script);
        for name in before.iter().filter(|name| !force.contains(*name) && !self.sets.contains(*name)) {
            script.append(sets::set_down(self.project, &AddressSetName::parse(name)?));
        }
        Ok(script)
    }
}

/// The rules of some in force, with the address sets that they need.
///
/// # Errors
/// As [`set`], but for what nft says.
pub(super) fn script_of<'a>(
    store: &Store,
    project: &ProjectName,
    mut all: impl Iterator<Item = (Whose, &'a Filter)>,
) -> Result<Script> {
    let mut change = Change::new(store, project);
    all.try_for_each(|(whose, filter)| change.add(&whose, filter))?;
    change.whole(&BTreeSet::new(), &BTreeSet::new())
}

fn set_up(store: &Store, project: &ProjectName, name: &str) -> Result<Script> {
    let name = AddressSetName::parse(name)?;
    let missing = || Error::not_found(format!("Network address set {:?} does not exist", name.as_str()));
    sets::set_up(project, &name, &store.address_set(project, &name)?.ok_or_else(missing)?)
}

/// Sets the rules of `whose` in the place of those it has.
///
/// # Errors
/// An ACL is missing; the kernel cannot hold the rules; nft is missing or refuses: all is as before then.
pub(super) fn set(store: &Store, project: &ProjectName, whose: &Whose, filter: &Filter) -> Result<()> {
    let lock = store.lock_allocator(Allocator::Firewall)?;
    let old = store.network_filter(&whose.0, &whose.1)?;
    // Only ACLs name address sets, which others may need as well.
    let with_acls = old.iter().chain([filter]).any(|filter| has_acls(&filter.options));
    let mut others = if with_acls { in_force(store, project)? } else { BTreeMap::new() };
    others.remove(whose);
    let before = sets_of(store, project, old.iter())?;
    let force = sets_of(store, project, others.values())?;
    let mut change = Change::new(store, project);
    change.add(whose, filter)?;
    store.save_network_filter(&lock, &whose.0, &whose.1, filter)?;
    fault::point("acl.noted")?;
    let Err(e) = change.carry_out(&before, &force) else { return Ok(()) };
    let back = match &old {
        Some(old) => store.save_network_filter(&lock, &whose.0, &whose.1, old),
        None => store.remove_network_filter(&lock, &whose.0, &whose.1).map(drop),
    };
    Err(back.err().into_iter().fold(e, Error::and))
}

/// Takes the rules of `whose` away, if it has any.
///
/// # Errors
/// nft refuses.
pub(super) fn unset(store: &Store, (network, port): (&NetworkName, &str)) -> Result<()> {
    if store.network_filter(network, port).is_ok_and(|found| found.is_none()) {
        return Ok(());
    }
    let lock = store.lock_allocator(Allocator::Firewall)?;
    let Some(old) = store.network_filter(network, port)? else { return Ok(()) };
    let project = ProjectName::parse(&old.project)?;
    let mut script = match &old.nic {
        None => network::acls_down(network),
        Some(nic) => filter::rules_down(nic)?,
    };
    let mut others = in_force(store, &project)?;
    others.remove(&(network.clone(), port.to_string()));
    // What cannot be read keeps nothing from going; its sets stay until it can.
    if let (Ok(before), Ok(force)) =
        (sets_of(store, &project, [&old].into_iter()), sets_of(store, &project, others.values()))
    {
        for name in before.difference(&force) {
            script.append(sets::set_down(&project, &AddressSetName::parse(name)?));
        }
    }
    firewall::unset(store, &script)?;
    fault::point("acl.unset")?;
    store.remove_network_filter(&lock, network, port).map(drop)
}

/// Sets the rules of a network's ACLs, or takes them away if it has none.
///
/// # Errors
/// As [`set`].
pub(super) fn set_network(store: &Store, name: &NetworkName, config: &Config) -> Result<()> {
    if !has_acls(config) {
        return unset(store, (name, NETWORK_FILTER));
    }
    let owner = super::owner(store, name)?;
    let options =
        config.iter().filter(|(key, _)| key.starts_with(keys::SECURITY_ACLS.name)).map(|(k, v)| (k.clone(), v.clone()));
    let filter = Filter { format: 1, project: owner.to_string(), options: options.collect(), nic: None };
    set(store, &owner, &(name.clone(), NETWORK_FILTER.to_string()), &filter)
        .with_context(|| format!("Failed setting the ACLs of network \"{name}\""))
}

/// What is to be set anew.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    /// The rules of whoever has this ACL.
    Acl(&'a AclName),
    /// The addresses of this set.
    Set(&'a AddressSetName),
    /// All of the project.
    All,
}

/// Saves a record with `save`, and has it count for all it concerns, in one transaction.
///
/// # Errors
/// As [`set`], for the first that fails; the record is as `save` left it then, and the kernel as before.
pub(super) fn renew(store: &Store, project: &ProjectName, part: Part<'_>, save: &dyn Fn() -> Result<()>) -> Result<()> {
    let _lock = store.lock_allocator(Allocator::Firewall)?;
    let force = in_force(store, project)?;
    if force.is_empty() {
        return save().and_then(|()| fault::point("acl.recorded"));
    }
    let before = match part {
        Part::All => store.address_sets(project)?.into_iter().map(|(name, _)| name.to_string()).collect(),
        _ => sets_of(store, project, force.values())?,
    };
    save()?;
    fault::point("acl.recorded")?;
    let needed = sets_of(store, project, force.values())?;
    let mut change = Change::new(store, project);
    match part {
        Part::Set(name) => change.sets.extend(needed.get(name.as_str()).cloned()),
        Part::Acl(name) => concerned(&mut change, &force, &|filter| acls_of(&filter.options).contains(&name.as_str()))?,
        Part::All => concerned(&mut change, &force, &|_| true)?,
    }
    change.carry_out(&before, &needed)
}

fn concerned(change: &mut Change<'_>, force: &BTreeMap<Whose, Filter>, wanted: &dyn Fn(&Filter) -> bool) -> Result<()> {
    force.iter().filter(|(_, filter)| wanted(filter)).try_for_each(|(whose, filter)| change.add(whose, filter))
}

/// Has the records of a project's ACLs and address sets count, whatever of them is in the kernel. Takes no lock but the
/// firewall's.
///
/// # Errors
/// As [`renew`].
pub fn renew_all(store: &Store, project: &ProjectName) -> Result<()> {
    renew(store, project, Part::All, &|| Ok(()))
}

/// Is this ACL in force somewhere?
///
/// # Errors
/// A note cannot be read.
pub(super) fn is_in_force(store: &Store, project: &ProjectName, name: &AclName) -> Result<bool> {
    Ok(in_force(store, project)?.values().any(|filter| acls_of(&filter.options).contains(&name.as_str())))
}

/// What the log calls those who have an ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// A network, or a device.
    pub name: String,
    /// The device's end on the host, which tells it from those of other instances.
    pub link: Option<String>,
}

/// Those for which an ACL is in force.
///
/// # Errors
/// A note cannot be read.
pub(super) fn subjects(store: &Store, project: &ProjectName, name: &AclName) -> Result<Vec<Subject>> {
    let force = in_force(store, project)?;
    let own = force.into_iter().filter(|(_, filter)| acls_of(&filter.options).contains(&name.as_str()));
    let subject = |((network, _), filter): (Whose, Filter)| match filter.nic {
        None => Subject { name: network.to_string(), link: None },
        Some(nic) => Subject { name: nic.device, link: Some(nic.host_name) },
    };
    Ok(own.map(subject).collect())
}
