//! Is there somebody behind an interface who has an address? The kernel is made to ask (RTM_NEWNEIGH with `NTF_USE` of
//! rtnetlink(7), linux/neighbour.h): by ARP with IPv4, by neighbour discovery with IPv6, as it would before it sends a packet
//! there. So no packets are made here, and none are read.

use super::step::{self, Step, Target};
use super::{Links, route};
use crate::error::Result;
use crate::sys::netlink::attr::u16_of;
use crate::sys::process;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Where `struct ndmsg` has the state.
const STATE: usize = 8;
/// `NUD_*`: no answer yet, and none after all.
const INCOMPLETE: u16 = 0x01;
const FAILED: u16 = 0x20;
/// Set by hand, or never asked for.
const FIXED: u16 = 0x40 | 0x80;
/// How often the kernel is looked at.
const PAUSE: Duration = Duration::from_millis(10);

impl Links {
    /// Those of `addresses` that somebody behind the interface answers for within `time`. What the kernel has learnt of them
    /// is forgotten before and afterwards; what was set by hand counts as an answer.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn answering(&mut self, on: &Target, addresses: &[IpAddr], time: Duration) -> Result<Vec<IpAddr>> {
        let (mut found, mut open) = (Vec::new(), Vec::new());
        for address in addresses {
            let fixed = self.neighbour_state(on, *address)?.is_some_and(|state| state & FIXED != 0);
            if fixed { found.push(*address) } else { open.push(*address) }
        }
        self.run_all(open.iter().map(|a| forget(on, *a)).collect())?;
        self.run_all(open.iter().map(|a| ask(on, *a)).collect())?;
        let (asked, end) = (open.clone(), Instant::now() + time);
        loop {
            let mut waiting = Vec::new();
            for address in open {
                match self.neighbour_state(on, address)? {
                    Some(0 | INCOMPLETE) => waiting.push(address),
                    None | Some(FAILED) => {}
                    Some(_) => found.push(address),
                }
            }
            if waiting.is_empty() || Instant::now() >= end {
                break;
            }
            open = waiting;
            process::pause(PAUSE);
        }
        self.run_all(asked.iter().map(|a| forget(on, *a)).collect())?;
        Ok(found)
    }

    /// `NUD_*` of the neighbour; `None` if the kernel knows none.
    fn neighbour_state(&mut self, on: &Target, address: IpAddr) -> Result<Option<u16>> {
        let mut message = route::neighbour(on, address);
        message.header.state = NeighbourState::None;
        message.header.flags = NeighbourFlags::empty();
        let read = |payload: &[u8]| u16_of(payload.get(STATE..)?);
        match self.socket.get(RouteNetlinkMessage::GetNeighbour(message), read) {
            Ok(state) => Ok(Some(state)),
            Err(e) if matches!(e.errno, libc::ENOENT | libc::ENODEV) => Ok(None),
            Err(e) => Err(step::error(format!("Failed to look up neighbour \"{address}\" on \"{}\"", on.name), e)),
        }
    }
}

fn ask(on: &Target, address: IpAddr) -> Step {
    let mut message = route::neighbour(on, address);
    message.header.state = NeighbourState::None;
    message.header.flags = NeighbourFlags::Use;
    let what = format!("Failed to look for \"{address}\" on \"{}\"", on.name);
    Step::new(what, RouteNetlinkMessage::NewNeighbour(message)).flags(NLM_F_CREATE)
}

fn forget(on: &Target, address: IpAddr) -> Step {
    let mut message = route::neighbour(on, address);
    message.header.state = NeighbourState::None;
    message.header.flags = NeighbourFlags::empty();
    let what = format!("Failed to forget neighbour \"{address}\" on \"{}\"", on.name);
    Step::new(what, RouteNetlinkMessage::DelNeighbour(message)).passes(&[libc::ENOENT, libc::ENODEV])
}
