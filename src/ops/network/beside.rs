//! Others change the rules of the host as well: a firewall that is reloaded forgets what was added for our bridges, and
//! `nft flush ruleset` takes our own away. Whoever touches a network that is up, or an interface with rules of its own, sees
//! to it that they are there.
//!
//! Whether anything was changed is seen without nft: the kernel counts the transactions of a network namespace
//! ([`generation`]), and the number at which all was seen to be in place is noted. A transaction of ours moves the note
//! along if it was the only one. The note is a hint: one that is wrong costs a look, and no more.

use super::firewall::{self, Look};
use super::{nat, rules};
use crate::base::names::{InstanceName, NetworkName, ProjectName};
use crate::error::{Context, Result};
use crate::fault;
use crate::host::boot_id;
use crate::model::network::bridge::Bridge;
use crate::network::nft::Script;
use crate::ops::{load, nics};
use crate::store::Store;
use crate::store::firewall::Seen;
use crate::store::lock::Allocator;
use crate::sys::netlink::nft::generation;

/// Sees to the rules of all networks that are up, and of single interfaces, if any rule of the host has changed since the last look.
///
/// # Errors
/// nft is missing or refuses.
pub(in crate::ops) fn renew(store: &Store) -> Result<()> {
    match current() {
        // Without nftables there are no rules that could have been taken away.
        None => Ok(()),
        seen if store.firewall_seen()? == seen => Ok(()),
        Some(_) => mend(store),
    }
}

/// The rules of the host as they are now; none if they cannot be told.
fn current() -> Option<Seen> {
    let boot_id = boot_id::current().ok()?.to_string();
    Some(Seen { format: 1, boot_id, generation: generation().ok()? })
}

/// Does `change`, a transaction of ours: what was in place before it is in place afterwards.
///
/// # Errors
/// As `change`.
pub(super) fn across(store: &Store, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = current();
    change()?;
    let next = before.as_ref().map(|seen| Seen { generation: seen.generation.wrapping_add(1), ..seen.clone() });
    // The transaction is done, whatever comes of the note: without it the next one looks.
    if before.is_some() && store.firewall_seen().is_ok_and(|seen| seen == before) && current() == next {
        let _ = next.map(|seen| store.save_firewall_seen(&seen));
    }
    Ok(())
}

/// The networks that are up, as they were brought up.
fn up(store: &Store) -> Result<Vec<(NetworkName, Bridge)>> {
    let (mut all, boot) = (Vec::new(), boot_id::current()?);
    for name in store.network_runs()? {
        let Some(run) = store.network_run(&name)?.filter(|run| run.boot_id == boot) else { continue };
        all.push((name, Bridge::read(&run.config, None)?));
    }
    Ok(all)
}

/// Names of networks whose rules are not all in place, ours or those among the rules of others, and of instances of which
/// interfaces have lost theirs. None where nft is missing or may not be asked.
///
/// # Errors
/// A note cannot be read.
pub fn lost(store: &Store) -> Result<Vec<String>> {
    let _lock = store.lock_allocator(Allocator::Firewall)?;
    let (up, single) = (up(store)?, single(store)?);
    if up.is_empty() && single.is_empty() {
        return Ok(Vec::new());
    }
    let Ok(look) = Look::take(store) else { return Ok(Vec::new()) };
    let networks = up.iter().filter(|(name, bridge)| !look.has(name, bridge)).map(|(name, _)| name.to_string());
    let instances = single.iter().filter(|(_, rules)| !look.has_script(rules)).map(|(name, _)| name.to_string());
    Ok(networks.chain(instances).collect())
}

/// Instances that run and whose interfaces have rules of their own, with these.
fn single(store: &Store) -> Result<Vec<(InstanceName, Script)>> {
    let mut all = Vec::new();
    if !store.nic_notes_of_all()?.iter().any(|(_, notes)| notes.has_rules()) {
        return Ok(all);
    }
    for (project, _) in store.projects()? {
        for name in store.instance_names(&project)? {
            if store.nic_notes(&project, &name)?.has_rules()
                && load::running(store, &project, &name).is_ok_and(|r| r.is_some())
                && let Ok(loaded) = load::load(store, &project, &name)
                && let Ok(rules) = nics::noted_rules(store, &loaded)
            {
                all.push((name, rules));
            }
        }
    }
    Ok(all)
}

/// Puts the rules of all networks that are up in place, and with those of a network that are all gone what goes with them:
/// ACLs, filters, proxies, the rules of single interfaces. Takes the lock of the firewall.
///
/// # Errors
/// nft is missing or refuses.
pub fn mend(store: &Store) -> Result<()> {
    let flushed = put_back(store).context("Failed setting the firewall rules of networks again")?;
    if !flushed {
        return Ok(());
    }
    fault::point("network.flushed")?;
    for (project, _) in store.projects()? {
        rules::renew_all(store, &project)?;
        instances(store, &project)?;
    }
    Ok(())
}

/// How often it is looked again because something changed meanwhile.
const ATTEMPTS: u32 = 4;

/// True if our own rules of some network or interface were gone.
fn put_back(store: &Store) -> Result<bool> {
    let _lock = store.lock_allocator(Allocator::Firewall)?;
    let (up, single) = (up(store)?, single(store)?);
    let (mut flushed, mut last) = (false, Vec::new());
    for _ in 0..ATTEMPTS {
        let before = current();
        let look = Look::take(store)?;
        let missing: Vec<&(NetworkName, Bridge)> = up.iter().filter(|(name, bridge)| !look.has(name, bridge)).collect();
        flushed |= single.iter().any(|(_, rules)| !look.has_script(rules));
        // What is not there although it was just set, as with firewalld where only its rules are, cannot be had.
        if missing.is_empty() || missing == last {
            if let Some(seen) = before.clone().filter(|_| current() == before) {
                let _ = store.save_firewall_seen(&seen);
            }
            break;
        }
        for (name, bridge) in &missing {
            flushed |= !look.has_own(name, bridge);
            firewall::up(store, name, bridge, &Script::default())?;
        }
        last = missing;
    }
    Ok(flushed)
}

/// Sets the rules of instances that run: those of their proxies and of single interfaces.
fn instances(store: &Store, project: &ProjectName) -> Result<()> {
    for name in store.instance_names(project)? {
        if load::running(store, project, &name).is_ok_and(|r| r.is_some())
            && let Ok(loaded) = load::load(store, project, &name)
        {
            nat::begin(store, &loaded)?;
            // As long as a network is up nobody tidies up; whoever has come here by one has its lock, which comes later.
            let _lock = up(store)?.is_empty().then(|| store.lock_allocator(Allocator::Ip)).transpose()?;
            nics::rules_again(store, &loaded)?;
        }
    }
    Ok(())
}
