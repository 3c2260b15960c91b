//! Virtual functions of network cards (SR-IOV): what the card's own interface says of them, settings that only it can make, and
//! the files of sysfs by which they come to be and are bound to their driver (sysfs-bus-pci). Called by the NIC devices.

use super::step::{Step, Target};
use super::{Device, Link, Links};
use crate::error::{Context, Error, Result};
use crate::sys::netlink::attr::{Attrs, u32_of};
use crate::sys::process;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkMessage, LinkVfInfo, VfInfo, VfInfoMac, VfInfoSpoofCheck, VfInfoTrust,
    VfInfoVlan,
};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `struct ifinfomsg` in front of the attributes.
const HEADER: usize = 16;
/// How long a driver may take to have an interface of a function.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Attributes of linux/if_link.h that are read.
mod kinds {
    pub(super) const VFINFO_LIST: u16 = 22;
    pub(super) const VF_INFO: u16 = 1;
    pub(super) const VF_MAC: u16 = 1;
    pub(super) const VF_VLAN: u16 = 2;
    pub(super) const VF_SPOOFCHK: u16 = 4;
    pub(super) const VF_TRUST: u16 = 9;
}

/// A virtual function as the card's own interface sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Function {
    /// Its number on the card.
    pub id: u32,
    /// The MAC address it was given; zeroes if it chooses.
    pub mac: [u8; 6],
    /// Its VLAN; 0 for none.
    pub vlan: u32,
    /// It may send from no other address; none if the driver cannot say.
    pub spoof_check: Option<bool>,
    /// It may change what matters to others; none if the driver cannot say.
    pub trusted: Option<bool>,
}

impl Function {
    fn parse(info: &[u8]) -> Option<Self> {
        let find = |kind| Attrs::new(info).find(kind);
        let number = |kind| u32_of(find(kind)?.get(4..)?);
        // All bits are set of what the driver does not know.
        let flag = |kind| number(kind).filter(|n| *n != u32::MAX).map(|n| n != 0);
        let mac = find(kinds::VF_MAC)?;
        Some(Self {
            id: u32_of(mac)?,
            mac: *mac.get(4..)?.first_chunk()?,
            vlan: number(kinds::VF_VLAN).unwrap_or(0),
            spoof_check: flag(kinds::VF_SPOOFCHK),
            trusted: flag(kinds::VF_TRUST),
        })
    }

    /// Reads the payload of a message about the card's interface.
    pub(super) fn parse_all(payload: &[u8]) -> Option<Vec<Self>> {
        let list = Attrs::behind(payload, HEADER).find(kinds::VFINFO_LIST).unwrap_or_default();
        let infos = Attrs::new(list).filter(|(kind, _)| *kind == kinds::VF_INFO);
        Some(infos.filter_map(|(_, info)| Self::parse(info)).collect())
    }
}

impl Links {
    /// The virtual functions of the card whose interface has this number.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn functions(&mut self, index: u32) -> Result<Vec<Function>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::Vf]));
        let found = self.socket.get(RouteNetlinkMessage::GetLink(message), Function::parse_all);
        found.map_err(|e| super::step::error("Failed to list virtual functions".to_string(), e))
    }

    /// The interfaces of a device of the machine.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn of_device(&mut self, device: &str) -> Result<Vec<Link>> {
        let mut all = self.list()?;
        all.retain(|link| link.device.bus == Device::PCI && link.device.name == device);
        Ok(all)
    }

    /// The interface of a device that has just been bound to its driver: under the `name` it had, once whoever names
    /// interfaces has given it that, or under any if nobody does.
    ///
    /// # Errors
    /// There is none after ten seconds.
    pub fn appeared(&mut self, device: &str, name: &str) -> Result<Link> {
        let begin = Instant::now();
        loop {
            let found = self.of_device(device)?;
            if let Some(link) = found.iter().find(|link| link.name == name) {
                return Ok(link.clone());
            }
            match found.into_iter().next() {
                Some(link) if begin.elapsed() > PATIENCE / 5 => return Ok(link),
                None if begin.elapsed() > PATIENCE => {
                    return Err(Error::failed(format!("Failed binding interface {name:?} after {PATIENCE:?}")));
                }
                _ => process::pause(PAUSE),
            }
        }
    }
}

/// A setting of a virtual function, made on the card's interface `card`.
pub fn set(card: &Target, id: u32, what: Setting) -> Step {
    let (word, info) = match what {
        Setting::Mac(mac) => ("MAC", VfInfo::Mac(VfInfoMac::new(id, &mac))),
        Setting::Vlan(vlan) => ("VLAN", VfInfo::Vlan(VfInfoVlan::new(id, vlan, 0))),
        Setting::SpoofCheck(on) => ("spoof check", VfInfo::SpoofCheck(VfInfoSpoofCheck::new(id, on))),
        Setting::Trusted(on) => ("trusted", VfInfo::Trust(VfInfoTrust::new(id, on))),
    };
    let mut message = LinkMessage::default();
    message.header.index = card.index;
    message.attributes.push(LinkAttribute::VfInfoList(vec![LinkVfInfo(vec![info])]));
    Step::new(format!("Failed setting {word} for VF \"{id}\""), RouteNetlinkMessage::SetLink(message))
}

/// What can be set of a virtual function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// MAC address; zeroes take it away.
    Mac([u8; 6]),
    /// VLAN; 0 for none.
    Vlan(u32),
    /// Whether it may send from no other address.
    SpoofCheck(bool),
    /// Whether it may change what matters to others.
    Trusted(bool),
}

impl Device {
    /// The bus of cards that have virtual functions.
    const PCI: &str = "pci";

    fn file(&self, name: &str) -> PathBuf {
        Path::new("/sys/bus").join(&self.bus).join("devices").join(&self.name).join(name)
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.file(name)).ok().map(|text| text.trim().to_string())
    }

    fn number(&self, name: &str) -> Result<u32> {
        let number = self.read(name).and_then(|text| text.parse().ok());
        number.ok_or_else(|| Error::failed(format!("Failed reading \"{}\"", self.file(name).display())))
    }

    fn write(&self, name: &str, value: &str) -> Result<()> {
        write(&self.file(name), value)
    }

    /// One on the PCI bus.
    pub fn pci(name: &str) -> Self {
        Self { bus: Self::PCI.to_string(), name: name.to_string(), mac: None }
    }

    /// Can it be split into virtual functions (`sriov_totalvfs` of sysfs-bus-pci)?
    pub fn has_virtual_functions(&self) -> bool {
        !self.name.is_empty() && self.file("sriov_totalvfs").exists()
    }

    /// How many virtual functions there are, after all that there can be were made if there were none.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn make_functions(&self) -> Result<u32> {
        let now = self.number("sriov_numvfs")?;
        if now > 0 {
            return Ok(now);
        }
        let most = self.number("sriov_totalvfs")?;
        // Another command may have been quicker.
        match self.write("sriov_numvfs", &most.to_string()) {
            Err(e) if self.number("sriov_numvfs")? == 0 => Err(e),
            _ => self.number("sriov_numvfs"),
        }
    }

    /// The virtual function with this number; none if it is not there.
    pub fn function(&self, id: u32) -> Option<Self> {
        let target = std::fs::read_link(self.file(&format!("virtfn{id}"))).ok()?;
        Some(Self::pci(target.file_name()?.to_str()?))
    }

    /// Vendor and product in hexadecimal digits.
    pub fn ids(&self) -> Option<(String, String)> {
        let id = |name| self.read(name).map(|text| text.trim_start_matches("0x").to_string());
        Some((id("vendor")?, id("device")?))
    }

    /// Which of several ports of a card an interface of the device is, where cards have several on one device.
    pub fn port(&self, interface: &str) -> Option<(String, String)> {
        let file = |name: &str| self.read(&format!("net/{interface}/{name}"));
        Some((file("dev_port")?, file("dev_id")?))
    }

    /// Takes the driver from it, and with it the interface, wherever that is. One without a driver is fine.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn unbind(&self) -> Result<()> {
        match self.file("driver").exists() {
            true => self.write("driver/unbind", &self.name),
            false => Ok(()),
        }
    }

    /// Has it get its driver. One that has it is fine.
    ///
    /// # Errors
    /// There is none.
    pub fn probe(&self) -> Result<()> {
        write(&Path::new("/sys/bus").join(&self.bus).join("drivers_probe"), &self.name)
    }

    /// It is there.
    pub fn exists(&self) -> bool {
        self.file("").exists()
    }
}

/// Files of sysfs take what they are told in one piece.
fn write(path: &Path, value: &str) -> Result<()> {
    let opened = std::fs::OpenOptions::new().write(true).open(path);
    let written = opened.and_then(|mut file| file.write_all(value.as_bytes()));
    written.with_context(|| format!("Failed writing \"{value}\" to \"{}\"", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).expect("short").to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn numbers(all: &[u32]) -> Vec<u8> {
        all.iter().flat_map(|n| n.to_ne_bytes()).collect()
    }

    #[test]
    fn functions_are_read() {
        let info = |id: u32, trust: u32| {
            let mut mac = numbers(&[id]);
            mac.extend([2, 0, 0, 0, 0, 7]);
            mac.resize(36, 0);
            let parts = [
                attr(kinds::VF_MAC, &mac),
                attr(kinds::VF_VLAN, &numbers(&[id, 5, 0])),
                attr(kinds::VF_SPOOFCHK, &numbers(&[id, 1])),
                attr(kinds::VF_TRUST, &numbers(&[id, trust])),
            ];
            attr(kinds::VF_INFO, &parts.concat())
        };
        let mut payload = vec![0; HEADER];
        payload.extend(attr(kinds::VFINFO_LIST, &[info(0, 0), info(1, u32::MAX)].concat()));
        let one = Function { id: 0, mac: [2, 0, 0, 0, 0, 7], vlan: 5, spoof_check: Some(true), trusted: Some(false) };
        assert_eq!(Function::parse_all(&payload), Some(vec![one, Function { id: 1, trusted: None, ..one }]));
        assert_eq!(Function::parse_all(&[0; HEADER]), Some(Vec::new()), "no card");
        assert_eq!(Function::parse_all(&payload[..HEADER + 30]), Some(Vec::new()), "cut short");
    }
}
