//! Networks: records that cannot be read, what runs of one that is not there, a dnsmasq that died.

use super::{Level, Report};
use crate::base::names::{NetworkName, ProjectName};
use crate::error::Result;
use crate::ops::network::{beside, dns, process, up, zone_server};
use crate::store::Store;
use std::collections::BTreeMap;

pub(super) fn check(store: &Store, fix: bool, report: &mut Report) -> Result<()> {
    let mut owners: BTreeMap<NetworkName, ProjectName> = BTreeMap::new();
    for (project, _) in store.projects()? {
        for (name, network) in store.networks(&project)? {
            if let Err(e) = network {
                report.broken(&format!("network {project}/{name}"), &e);
            }
            for (listen, forward) in store.forwards(&project, &name)? {
                if let Err(e) = forward {
                    report.broken(&format!("forward {listen} of network {project}/{name}"), &e);
                }
            }
            owners.insert(name, project.clone());
        }
    }
    match zone_server::is_stale(store) {
        Ok(false) => {
            for text in zone_server::left_out(store)? {
                report.add("zones", Level::Warning, format!("not served: {text}"), "");
            }
        }
        Ok(true) => {
            let message = "what the DNS server of zones says is not what the records say, or it has died";
            report.disagreement("zones", message, fix, || zone_server::renew(store).map(drop));
        }
        Err(e) => report.broken("zones", &e),
    }
    let lost = beside::lost(store)?;
    if !lost.is_empty() {
        let message = format!(
            "rules that networks or interfaces need, or need among those of another firewall, have been taken away: {}",
            lost.join(", ")
        );
        report.disagreement("firewall", message, fix, || beside::mend(store));
    }
    if let Some(folder) = process::shut_out(store.layout()).filter(|_| !owners.is_empty()) {
        let message = format!(
            "dnsmasq, which has no rights of its own, gets no further than \"{}\": names and reserved addresses of \
             instances don't work",
            folder.display()
        );
        let fix = format!("chmod o+x \"{}\", or choose another place with STAPES_DIR", folder.display());
        report.add("networks", Level::Warning, message, fix);
    }
    for name in store.network_runs()? {
        let check = format!("network {name}");
        match owners.get(&name) {
            None => {
                let message = "it was deleted, and something of it still runs";
                report.disagreement(&check, message, fix, || up::take_down(store, &name));
            }
            Some(owner) if dns::has_died(store, &name)? => {
                let message = "its dnsmasq has died";
                report.disagreement(&check, message, fix, || dns::revive(store, owner, &name));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
