//! ACLs and address sets: records that cannot be read or name what is not there, rules that nothing is left of, and rules
//! that somebody else took away, which leaves open what they closed.

use super::{Level, Report};
use crate::error::Result;
use crate::ops::network::{audit, rules};
use crate::store::Store;
use std::collections::BTreeSet;

pub(super) fn check(store: &Store, fix: bool, report: &mut Report) -> Result<()> {
    for (project, _) in store.projects()? {
        for (name, acl) in store.acls(&project)? {
            if let Err(e) = acl {
                report.broken(&format!("network ACL {project}/{name}"), &e);
            }
        }
        for (name, set) in store.address_sets(&project)? {
            if let Err(e) = set {
                report.broken(&format!("address set {project}/{name}"), &e);
            }
        }
        for message in audit::dangling(store, &project)? {
            report.add("network ACLs", Level::Error, message, "make it, or change what names it");
        }
    }
    for nic in audit::ended(store)? {
        let message =
            format!("the filter of device {} of instance {}/{} is left", nic.device, nic.project, nic.instance);
        report.disagreement("firewall", message, fix, || audit::end(store, &nic));
    }
    let found = audit::look(store)?;
    if !found.strays.is_empty() {
        let message = format!("rules are left of what has gone: {}", found.strays.join(", "));
        report.disagreement("firewall", message, fix, || found.remove_strays(store));
    }
    let projects: BTreeSet<_> = found.lost.iter().map(|(_, project)| project.clone()).collect();
    for project in projects {
        let lost = found.lost.iter().filter(|(_, own)| *own == project).map(|(what, _)| what.as_str());
        let message = format!("rules have been taken away: {}", lost.collect::<Vec<_>>().join(", "));
        report.disagreement("firewall", message, fix, || rules::renew_all(store, &project));
    }
    Ok(())
}
