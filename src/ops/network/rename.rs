//! `network rename`: a network that nobody uses, taken down under its old name and brought up under the new one.
//!
//! The records decide, and they change their name at one moment: a command that is killed before it leaves the old network,
//! one that is killed after it the new one; each is brought up by whoever needs it next.

use super::change::note;
use super::{not_found, project_of, up, users, zone_server};
use crate::base::names::{NetworkName, ProjectName};
use crate::error::{Error, Result};
use crate::fault;
use crate::host::links::Links;
use crate::model::network::{self, NetworkType};
use crate::store::Store;

/// Renames a network.
///
/// # Errors
/// Not found; Conflict: it is in use; Exists: the new name is taken, or an interface of the host has it; it cannot be brought
/// up: it has its old name then.
pub fn rename(store: &Store, project: &ProjectName, from: &NetworkName, to: &NetworkName) -> Result<()> {
    let project = project_of(store, project)?;
    let exists = || Error::exists(format!("Network {:?} already exists", to.as_str()));
    if from == to {
        return Err(if store.network(&project, from)?.is_some() { exists() } else { not_found() });
    }
    let [old, new] = store.lock_networks(&project, [from, to], "rename")?;
    let record = store.network(&project, from)?.ok_or_else(not_found)?;
    // As for a deletion: whoever records that it uses the network, or begins to, has this lock meanwhile.
    let run = store.lock_network_run(from)?;
    if !users(store, &project, from)?.is_empty() {
        return Err(Error::conflict("Network is currently in use"));
    }
    if store.network(&project, to)?.is_some() {
        return Err(exists());
    }
    network::validate(to, record.kind, &record.config)?;
    let bridge = record.kind == NetworkType::Bridge;
    if bridge && Links::open()?.find(to.as_str())?.is_some() {
        return Err(Error::exists(format!("Network interface {:?} already exists", to.as_str())));
    }
    zone_server::changing(store, ("rename", &new), &[&record.config], || {
        fault::point("network.rename")?;
        if bridge {
            up::down(store, &run)?;
        }
        fault::point("network.down")?;
        store.rename_network(&old, &new)?;
        drop(run);
        let brought_up = fault::point("network.renamed").and_then(|()| up::ensure(store, to, &record));
        if let Err(e) = brought_up {
            let taken = if bridge { up::take_down(store, to) } else { Ok(()) };
            let back =
                taken.and_then(|()| store.rename_network(&new, &old)).and_then(|()| up::ensure(store, from, &record));
            return Err(back.err().into_iter().fold(e, Error::and));
        }
        Ok(())
    })?;
    note(store, &project, to, "network-renamed");
    Ok(())
}
