//! The interfaces that a running instance has: a file in its run folder, so that whoever ends one, or the instance, knows what
//! there is of it inside and on the host, and what is to be given back to the host.
//!
//! Noted before anything is made and when it is there. The monitor writes it at the start, later whoever holds the instance;
//! it ends with the run folder.

use super::atomic::{self, Durability};
use super::dir::Dir;
use super::record::{self, Record, records};
use crate::error::Result;
use crate::model::nic::Nic;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Name of the file in the run folder.
const FILE: &str = "plugged.toml";

/// An interface of the host, as it was before it was passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    /// Its name.
    pub name: String,
    /// Its number on the host.
    pub index: u32,
    /// It was up.
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its MAC address, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<[u8; 6]>,
    /// What of the machine it is, if it is hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Hardware>,
}

/// What tells hardware from all other, wherever it is and whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// Its bus: `pci`, `virtio`, `usb`, …
    pub bus: String,
    /// Its name there.
    pub name: String,
    /// The MAC address it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<[u8; 6]>,
}

/// An interface that is plugged in, or about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugged {
    /// All of it is there.
    pub done: bool,
    /// It was plugged in, or changed, with rules of the firewall. Not noted at a start.
    #[serde(default)]
    pub filtered: bool,
    /// Its number inside, where it is not ended from the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<u32>,
    /// One of the host's, as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
    /// What it is.
    pub nic: Nic,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interfaces {
    #[serde(default)]
    format: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    nics: Vec<Plugged>,
}

records! { Interfaces => "Run file of interfaces", }

/// All interfaces of a running instance.
#[derive(Debug)]
pub struct Board {
    file: PathBuf,
    nics: Vec<Plugged>,
}

impl Board {
    /// Those that are noted in the run folder `dir`; it need not be there.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn read(dir: &Path) -> Result<Self> {
        let nics = match Dir::open(dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            other => record::read::<Interfaces>(&other?, FILE)?,
        };
        Ok(Self { file: dir.join(FILE), nics: nics.unwrap_or_default().nics })
    }

    /// Notes `nics` in the run folder `dir`, in the place of those of an earlier run.
    ///
    /// # Errors
    /// An I/O error.
    pub fn begin(dir: &Path, nics: Vec<Plugged>) -> Result<Self> {
        let board = Self { file: dir.join(FILE), nics };
        board.save()?;
        Ok(board)
    }

    /// All of them.
    pub fn all(&self) -> &[Plugged] {
        &self.nics
    }

    /// That of a device.
    pub fn get(&self, device: &str) -> Option<&Plugged> {
        self.nics.iter().find(|p| p.nic.device == device)
    }

    /// Notes one, in the place of the one that its device had.
    ///
    /// # Errors
    /// An I/O error; nothing is noted then.
    pub fn set(&mut self, plugged: Plugged) -> Result<()> {
        let mut nics = self.others(&plugged.nic.device);
        nics.push(plugged);
        self.replace(nics)
    }

    /// Forgets that of a device.
    ///
    /// # Errors
    /// As [`Board::set`].
    pub fn remove(&mut self, device: &str) -> Result<()> {
        self.replace(self.others(device))
    }

    fn others(&self, device: &str) -> Vec<Plugged> {
        self.nics.iter().filter(|p| p.nic.device != device).cloned().collect()
    }

    fn replace(&mut self, nics: Vec<Plugged>) -> Result<()> {
        let new = Self { file: self.file.clone(), nics };
        new.save()?;
        *self = new;
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let text = record::render(&Interfaces { format: 1, nics: self.nics.clone() })?;
        atomic::replace(&self.file, text.as_bytes(), record::MODE, Durability::Fast)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::nic::{HostEnd, Inside, Link, Port, PortVlans};

    #[test]
    fn noted_and_forgotten() {
        let d = tempfile::tempdir().expect("tempdir");
        assert!(Board::read(&d.path().join("nowhere")).expect("none").all().is_empty());
        let mut board = Board::read(d.path()).expect("empty");
        let veth = Link::Veth(HostEnd {
            name: "veth1".into(),
            tx_queue: Some(5),
            bridge: Some(Port { bridge: "br0".into(), isolated: true, hairpin: false, vlans: PortVlans::default() }),
            connected: true,
            routes: vec!["10.0.0.0/24".parse().expect("net")],
            ingress: Some(1_000_000),
            egress: None,
        });
        let mac = Some([0x10, 0x66, 0x6a, 0, 0, 1]);
        let device = Some(Hardware { bus: "pci".into(), name: "0000:00:03.0".into(), mac });
        let before = Before { name: "phys0".into(), index: 7, up: true, mtu: 1500, mac, device };
        let one = |device: &str, link: &Link, before: Option<&Before>| Plugged {
            done: before.is_none(),
            filtered: true,
            inside: before.map(|b| b.index),
            before: before.cloned(),
            nic: Nic {
                device: device.into(),
                name: "eth0".into(),
                hwaddr: None,
                mtu: Some(1400),
                link: link.clone(),
                inside: Inside::default(),
            },
        };
        let lent = Link::Physical { parent: "phys0".into() };
        board.set(one("a", &veth, None)).expect("set");
        board.set(one("b", &lent, Some(&before))).expect("set");
        board.set(one("a", &lent, None)).expect("again");
        board.set(one("a", &veth, None)).expect("and back");
        let read = Board::read(d.path()).expect("read");
        assert_eq!(read.all(), [one("b", &lent, Some(&before)), one("a", &veth, None)]);
        assert_eq!(read.get("b").map(|p| p.nic.link.clone()), Some(lent));
        board.remove("b").expect("remove");
        board.remove("nobody").expect("remove");
        assert_eq!(Board::read(d.path()).expect("read").all().len(), 1);
        Board::begin(d.path(), Vec::new()).expect("begin");
        assert!(Board::read(d.path()).expect("read").all().is_empty());
    }
}
