//! VLANs of a bridge's port (`vlan`, `vlan.tagged`), by the bridge's own filtering. Called by `nics`.

use crate::error::{Error, Result};
use crate::host::links::{Details, Links, PortVlan, Step, Target, spec};
use crate::model::nic::{Port, Untagged};

/// The steps that put the port `end` into its VLANs.
pub(super) fn steps(host: &mut Links, end: &Target, port: &Port) -> Result<Vec<Step>> {
    if port.vlans.is_empty() {
        return Ok(Vec::new());
    }
    let default = match host.get(&port.bridge)?.details {
        Details::Bridge(state) if state.vlan_filtering => state.default_pvid,
        _ => {
            let text = format!("VLAN filtering is not enabled in parent bridge {:?}", port.bridge);
            return Err(Error::unsupported(text));
        }
    };
    let mut steps = Vec::new();
    let plain = |first, last| PortVlan { first, last, pvid: false, untagged: false };
    let own = match port.vlans.untagged {
        Some(Untagged::Vlan(id)) => Some(id),
        _ => None,
    };
    if port.vlans.untagged.is_some() && default != 0 && own != Some(default) {
        steps.push(spec::remove_vlans(end, &[plain(default, default)]));
    }
    let mut all: Vec<PortVlan> =
        own.map(|id| PortVlan { pvid: true, untagged: true, ..plain(id, id) }).into_iter().collect();
    all.extend(port.vlans.tagged.iter().map(|(first, last)| plain(*first, *last)));
    if !all.is_empty() {
        steps.push(spec::add_vlans(end, &all));
    }
    Ok(steps)
}
