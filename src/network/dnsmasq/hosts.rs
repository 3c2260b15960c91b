//! The files of a NIC in dnsmasq's folders: reservations (MAC address, static addresses, name), and names of static addresses,
//! which dnsmasq would else know only once there is a lease.

use crate::base::mac;
use crate::base::names::{DeviceName, InstanceName, ProjectName};
use crate::model::network::bridge::DnsMode;
use std::fmt::Write;
use std::net::IpAddr;

/// A NIC as dnsmasq needs it.
#[derive(Debug, Clone)]
pub struct Host<'a> {
    /// Its instance's project.
    pub project: &'a ProjectName,
    /// Its instance.
    pub instance: &'a InstanceName,
    /// The device.
    pub device: &'a DeviceName,
    /// MAC address.
    pub hwaddr: [u8; 6],
    /// Static addresses.
    pub addresses: Vec<IpAddr>,
}

impl Host<'_> {
    /// Name of both files: what it belongs to, with what could be a path or hide the file as `%` and two hexadecimal digits.
    pub fn file_name(&self) -> String {
        format!("{}_{}.{}", encode(self.project), self.instance, encode(self.device))
    }

    /// The name it has in DNS: the instance's, in another project followed by that of the project.
    pub fn dns_name(&self) -> String {
        match self.project.is_default() {
            true => self.instance.to_string(),
            false => format!("{}.{}", self.instance, self.project),
        }
    }

    /// The text of the file in the folder of names; none if the NIC has no static address or the names are not ours.
    pub fn names(&self, mode: DnsMode, domain: &str) -> Option<String> {
        let name = self.dns_name();
        let lines: String = self.addresses.iter().map(|a| format!("{a} {name}.{domain}\n")).collect();
        (mode == DnsMode::Managed && !lines.is_empty()).then_some(lines)
    }

    /// The text of the file in the folder of reservations; none if there is nothing to say beyond the MAC address.
    pub fn text(&self, mode: DnsMode) -> Option<String> {
        let mut line = mac::format(self.hwaddr);
        for address in &self.addresses {
            let _ = match address {
                IpAddr::V4(a) => write!(line, ",{a}"),
                IpAddr::V6(a) => write!(line, ",[{a}]"),
            };
        }
        if mode == DnsMode::Managed {
            let _ = write!(line, ",{}", self.dns_name());
        }
        (line.len() > 17).then(|| line + "\n")
    }
}

fn encode(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-');
    text.bytes().map(|c| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") }).collect()
}
