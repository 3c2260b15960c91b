//! Which records answer a question (RFC 1034, section 4.3.2), and who may have a zone as a whole. Called by [`super::answer`].

use super::answer::{Asked, By, IXFR};
use super::data::{Record, Zone, Zones, kind, unwired};
use domain::base::iana::{Class, Rcode};
use domain::tsig::KeyName;
use std::net::IpAddr;

/// Aliases that are followed.
const ALIASES: usize = 8;
/// The question for a zone as a whole (RFC 5936), and the one for whatever there is.
const AXFR: u16 = 252;
const ANY: u16 = 255;
/// Questions that are not about records, and records that only stand in messages (RFC 6895, section 3.1).
const META: std::ops::RangeInclusive<u16> = 128..=254;
const OPT: u16 = 41;

/// What to do about a question.
pub(super) enum Plan<'a> {
    /// Send the zone of this name.
    Whole(Box<[u8]>),
    /// Send these lines.
    Lines(Lines<'a>),
}

/// Lines of an answer.
pub(super) struct Lines<'a> {
    /// The code.
    pub rcode: Rcode,
    /// It is ours to say.
    pub authoritative: bool,
    /// Records, and the name they are sent under if it is not their own.
    pub answer: Vec<(Option<Vec<u8>>, &'a [Record])>,
    /// Records about who is to be asked, or how long it holds that there is nothing; most seconds they may be kept.
    pub authority: Vec<(&'a [Record], u32)>,
    /// Addresses of those to be asked.
    pub additional: Vec<&'a [Record]>,
}

impl Default for Lines<'_> {
    fn default() -> Self {
        let (answer, authority, additional) = (Vec::new(), Vec::new(), Vec::new());
        Self { rcode: Rcode::NOERROR, authoritative: false, answer, authority, additional }
    }
}

fn only(rcode: Rcode) -> Plan<'static> {
    Plan::Lines(Lines { rcode, ..Lines::default() })
}

impl<'a> Plan<'a> {
    /// For a question from an address; `key`: the one it is rightly signed with.
    pub fn of(zones: &'a Zones, asked: &Asked, from: IpAddr, key: Option<&KeyName>) -> Self {
        match (asked.class, asked.kind) {
            (Class::IN, AXFR | IXFR) => {}
            (Class::IN, kind) if META.contains(&kind) || kind == OPT => return only(Rcode::NOTIMP),
            (Class::IN, _) => {
                let mut lines = Lines::default();
                lines.find(zones, &asked.name, asked.kind, asked.by);
                return Self::Lines(lines);
            }
            _ => return only(Rcode::REFUSED),
        }
        let Some(zone) = zones.get(&asked.name).filter(|zone| zone.lets_in(from, key)) else {
            return only(Rcode::REFUSED);
        };
        // Whoever has all of it already, or cannot be sent it this way, gets the serial.
        let serial_only = asked.kind == IXFR && (asked.by == By::Datagram || asked.serial == Some(zone.serial));
        match asked.by {
            _ if serial_only => {
                let answer = vec![(None, zone.set(&zone.apex, kind::SOA))];
                Self::Lines(Lines { authoritative: true, answer, ..Lines::default() })
            }
            By::Datagram => only(Rcode::REFUSED),
            By::Stream => Self::Whole(zone.apex.clone()),
        }
    }
}

impl<'a> Lines<'a> {
    fn find(&mut self, zones: &'a Zones, name: &[u8], asked: u16, by: By) {
        let mut name = name.to_vec();
        for step in 0..=ALIASES {
            let Some(zone) = zones.of(&name) else {
                if step == 0 {
                    self.rcode = Rcode::REFUSED;
                }
                return;
            };
            self.authoritative = true;
            if let Some(servers) = zone.cut(&name, asked) {
                self.authoritative = step > 0;
                return self.refer(zone, servers);
            }
            let at = match zone.exists(&name) {
                true => Some(name.clone().into()),
                false => zone.wildcard(&name),
            };
            let Some(at) = at else {
                self.rcode = Rcode::NXDOMAIN;
                return self.nothing(zone);
            };
            let Some(next) = self.under(zone, (&at, &name), asked, by) else { return };
            name = next;
        }
    }

    /// Adds what a name has, or that it has nothing; the name to go on with, if it is an alias. `at`: where it stands, which is
    /// a wildcard for a name that is not there.
    fn under(&mut self, zone: &'a Zone, (at, name): (&[u8], &[u8]), asked: u16, by: By) -> Option<Vec<u8>> {
        let own = Some(name.to_vec());
        if asked == ANY && !zone.at(at).is_empty() {
            let all = zone.at(at);
            // Over UDP some of it will do (RFC 8482, section 4.1): who asks so there has seldom said his own address.
            let some = all.first().map_or(all, |first| zone.set(at, first.kind));
            self.answer.push((own, if by == By::Datagram { some } else { all }));
            return None;
        }
        let set = zone.set(at, asked);
        if !set.is_empty() {
            self.answer.push((own, set));
            return None;
        }
        let alias = zone.set(at, kind::CNAME);
        let Some(target) = alias.first() else {
            self.nothing(zone);
            return None;
        };
        self.answer.push((own, alias));
        Some(unwired(&target.data).into())
    }

    /// Says how long it holds that there is nothing (RFC 2308, section 3).
    fn nothing(&mut self, zone: &'a Zone) {
        let soa = zone.set(&zone.apex, kind::SOA);
        let least = soa.first().and_then(|soa| soa.data.last_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes));
        self.authority.push((soa, least));
    }

    /// Names who is to be asked, with the addresses that are in the zone.
    fn refer(&mut self, zone: &'a Zone, servers: &'a [Record]) {
        self.authority.push((servers, u32::MAX));
        for server in servers {
            let name = unwired(&server.data);
            let addresses = [kind::A, kind::AAAA].map(|kind| zone.set(&name, kind));
            self.additional.extend(addresses.into_iter().filter(|set| !set.is_empty()));
        }
    }
}
