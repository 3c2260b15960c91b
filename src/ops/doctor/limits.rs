//! Controllers that the host has and that the groups of instances cannot get: limits that need them are refused at start.

use super::{Level, Report};
use crate::host::controllers;
use crate::ops::load;
use crate::store::Store;

pub(super) fn check(store: &Store, report: &mut Report) {
    let Ok(tree) = load::cgroups(store.layout()) else { return };
    let group = tree.instance("any");
    // Before the first start there is nothing to look at.
    let Some(base) = group.path().parent().filter(|base| base.is_dir()) else { return };
    let Ok(available) = controllers::enable(base) else { return };
    for controller in tree.controllers() {
        if let Some(e) = controllers::is_used(&controller).then(|| available.require(&controller).err()).flatten() {
            report.add("controllers", Level::Warning, e.to_string(), e.hint_text().unwrap_or_default());
        }
    }
}
