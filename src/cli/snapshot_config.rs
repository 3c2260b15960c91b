//! `config … <instance>/<snapshot>`: what of a snapshot can be read and changed, which is when it goes.

use super::edit;
use super::output::yaml;
use super::{Context, config};
use crate::base::names::{InstanceName, ProjectName};
use crate::base::time;
use crate::error::{Error, Result};
use crate::model::view::SnapshotView;
use crate::ops::config::{Change, document_of};
use crate::ops::snapshot as ops;
use crate::ops::{list, load};
use crate::store::Store;
use serde::Deserialize;

/// The property that can be written.
const EXPIRES_AT: &str = "expires_at";

/// What of a snapshot can be written.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SnapshotPut {
    /// When it goes.
    #[serde(default)]
    pub expires_at: time::GoTime,
}

/// A snapshot as users see it.
///
/// # Errors
/// Not found: the instance, the snapshot.
pub(super) fn view(store: &Store, who: (&ProjectName, &InstanceName), name: &str) -> Result<SnapshotView> {
    store.instance(who.0, who.1)?.ok_or_else(load::not_found)?;
    let found = list::snapshots(store, who.0, who.1)?.into_iter().find(|s| s.name == name);
    found.ok_or_else(ops::not_found)
}

/// A property by its name.
///
/// # Errors
/// There is none of that name.
pub(super) fn property(found: &SnapshotView, name: &str) -> Result<String> {
    match name.to_ascii_lowercase().as_str() {
        EXPIRES_AT => Ok(time::rfc3339(found.expires_at.0)),
        _ => Err(Error::not_found(format!("The property {name:?} does not exist on the instance snapshot"))),
    }
}

/// Changes properties.
///
/// # Errors
/// Not found; no property that can be written; no date.
pub(super) fn set(cx: &Context, name: &str, snapshot: &str, change: &Change) -> Result<()> {
    let unknown = |name: &str| Err(Error::not_found(format!("The property with tag {name:?} does not exist")));
    let pairs: Vec<(&str, &str)> = match change {
        Change::Set(pairs) => pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        Change::Unset(names) => names.iter().map(|n| (n.as_str(), "")).collect(),
    };
    let mut expires_at = None;
    for (key, value) in pairs {
        if !key.eq_ignore_ascii_case(EXPIRES_AT) {
            return unknown(key);
        }
        expires_at = Some(if value.is_empty() { None } else { time::parse_rfc3339(value)? });
    }
    let Some(expires_at) = expires_at else { return Ok(()) };
    save(cx, name, snapshot, expires_at)
}

fn save(cx: &Context, name: &str, snapshot: &str, expires_at: Option<jiff::Timestamp>) -> Result<()> {
    let store = cx.store()?;
    let (project, name) = config::instance(cx, &store, name)?;
    ops::set_expiry(&store, (&project, &name), &super::snapshot::named(snapshot)?, expires_at)
}

const EDIT_HELP: &str = "### This is a YAML representation of the instance snapshot.
### Any line starting with a '# will be ignored.
###
### Only expires_at can be changed.";

/// `config edit`.
///
/// # Errors
/// Not found; the text is no such document.
pub(super) fn edit(cx: &Context, name: &str, snapshot: &str) -> Result<()> {
    let text = {
        let store = cx.reader()?;
        let (project, name) = config::instance(cx, &store, name)?;
        yaml::document(&view(&store, (&project, &name), snapshot)?)?
    };
    edit::edit(cx, EDIT_HELP, &text, &mut |text| {
        let put: SnapshotPut = document_of(text)?;
        save(cx, name, snapshot, put.expires_at.0)
    })
}
