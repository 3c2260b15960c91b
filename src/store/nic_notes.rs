//! What the interfaces of a running instance have on the host besides themselves: addresses we answer for, VLAN interfaces,
//! rules. `nic-host.toml` in the instance's run folder, so that it ends with the boot as all of that does.
//!
//! Noted by `ops` before it acts and read when the instance has ended, whatever its records say by then. Whoever calls holds
//! the instance's lock, or is recovery, which nobody else runs beside.

use super::Store;
use super::atomic::Durability;
use super::dir;
use super::layout::{NIC_HOST_FILE, rel};
use super::record::{self, Record, records};
use crate::base::inet::IpNet;
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

/// The notes of an instance, by device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicNotes {
    /// Format of the record; set when written.
    #[serde(default)]
    pub format: u32,
    /// What each device has.
    #[serde(default)]
    pub devices: BTreeMap<String, Vec<HostPart>>,
}

impl NicNotes {
    /// Some device has rules.
    pub fn has_rules(&self) -> bool {
        self.devices.values().flatten().any(|part| *part == HostPart::Rules)
    }
}

/// Something on the host that is there for an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostPart {
    /// A VLAN interface that we made, for this instance or for another one before.
    Vlan {
        /// Its name.
        name: String,
    },
    /// An address that the instance has, which the host answers for on `parent`.
    Address {
        /// The address.
        address: IpAddr,
        /// The interface; none if nobody is answered.
        parent: Option<String>,
    },
    /// A route through the loopback, by which the host takes packets for an ipvlan.
    Local {
        /// Where it leads.
        to: IpNet,
        /// Routing table.
        table: u32,
    },
    /// A route to what is behind an interface on a bridge.
    Route {
        /// Where it leads.
        to: IpNet,
        /// The bridge it goes through.
        bridge: String,
        /// The interface's own address, where it is fixed.
        via: Option<IpAddr>,
    },
    /// A virtual function of a network card, and what it was like before.
    Function(Function),
    /// Rules of nft named after the device; those on a managed bridge are noted with it.
    Rules,
}

/// A virtual function as it was before an instance got it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// The card's interface.
    pub card: String,
    /// Its number on the card.
    pub id: u32,
    /// Name of its interface.
    pub interface: String,
    /// Its address on the PCI bus.
    pub device: String,
    /// The interface's own MAC address.
    pub hwaddr: Option<[u8; 6]>,
    /// The interface's MTU in bytes.
    pub mtu: u32,
    /// The MAC address that the card gave it; zeroes for none.
    pub mac: [u8; 6],
    /// Its VLAN; 0 for none.
    pub vlan: u32,
    /// It may send from no other address, where the card says so.
    pub spoof_check: Option<bool>,
    /// It may change what matters to others, where the card says so.
    pub trusted: Option<bool>,
}

records! { NicNotes => "File of interfaces on the host", }

impl Store {
    /// The notes of an instance; none if there are none.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn nic_notes(&self, p: &ProjectName, n: &InstanceName) -> Result<NicNotes> {
        let Some(run) = &self.run else { return Ok(NicNotes::default()) };
        Ok(record::read(run, rel::run_dir(p, n).join(NIC_HOST_FILE))?.unwrap_or_default())
    }

    /// Replaces the notes of an instance that has a run folder; empty ones go.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_nic_notes(&self, p: &ProjectName, n: &InstanceName, notes: &NicNotes) -> Result<()> {
        let (run, file) = (self.run_mut()?, rel::run_dir(p, n).join(NIC_HOST_FILE));
        match notes.devices.is_empty() {
            true => match run.unlink(file) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other.map(drop).with_context(|| format!("Failed forgetting the interfaces of \"{n}\"")),
            },
            false => record::write(run, file, notes, Durability::Fast),
        }
    }

    /// The notes of all instances but one, whatever their state. What cannot be read says nothing.
    ///
    /// # Errors
    /// The run folder cannot be listed.
    pub fn nic_notes_of_others(&self, p: &ProjectName, n: &InstanceName) -> Result<Vec<(String, NicNotes)>> {
        let own = rel::run_dir(p, n);
        let mut all = self.nic_notes_of_all()?;
        all.retain(|(name, _)| own.file_name() != Some(name.as_ref()));
        Ok(all)
    }

    /// The notes of all instances, whatever their state, by name of their run folder. What cannot be read says nothing.
    ///
    /// # Errors
    /// The run folder cannot be listed.
    pub fn nic_notes_of_all(&self) -> Result<Vec<(String, NicNotes)>> {
        let Some(run) = &self.run else { return Ok(Vec::new()) };
        let names = dir::list(run, rel::RUN_INSTANCES)?.map(|(_, names)| names).unwrap_or_default();
        let read = |name: String| {
            let file = Path::new(rel::RUN_INSTANCES).join(&name).join(NIC_HOST_FILE);
            let notes: Option<NicNotes> = record::read(run, file).ok().flatten();
            notes.map(|notes| (name, notes))
        };
        Ok(names.into_iter().filter_map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::super::layout::Layout;
    use super::*;

    #[test]
    fn notes_come_and_go_with_their_run_folder() {
        let d = tempfile::tempdir().expect("tempdir");
        let store = Store::open(&Layout::under(d.path()), Access::Write).expect("open");
        let name = |text: &str| InstanceName::parse(text).expect("name");
        let (p, one, two) = (ProjectName::default(), name("c1"), name("c2"));
        store.save_nic_notes(&p, &one, &NicNotes::default()).expect("nothing to forget");
        let parts = vec![
            HostPart::Vlan { name: "eth0.5".into() },
            HostPart::Address { address: "10.0.0.1".parse().expect("address"), parent: None },
            HostPart::Local { to: "fd42::1/128".parse().expect("net"), table: 254 },
            HostPart::Route { to: "10.1.0.0/24".parse().expect("net"), bridge: "br0".into(), via: None },
            HostPart::Function(Function { card: "eth0".into(), id: 3, spoof_check: Some(true), ..Function::default() }),
            HostPart::Rules,
        ];
        let notes = NicNotes { format: NicNotes::FORMAT, devices: [("eth0".to_string(), parts)].into() };
        assert!(store.save_nic_notes(&p, &one, &notes).is_err(), "there is no run folder");
        let held = store.lock_instance(&p, &one, "start").expect("lock");
        store.make_run_dir(&held).expect("run folder");
        store.save_nic_notes(&p, &one, &notes).expect("save");
        assert_eq!(store.nic_notes(&p, &one).expect("read"), notes);
        assert_eq!(store.nic_notes_of_others(&p, &one).expect("others"), []);
        assert_eq!(store.nic_notes_of_others(&p, &two).expect("others"), [("default_c1".to_string(), notes)]);
        store.save_nic_notes(&p, &one, &NicNotes::default()).expect("forget");
        assert_eq!(store.nic_notes(&p, &one).expect("read"), NicNotes::default());
    }
}
