//! Zones in memory: sorted records, found by name. Used by [`super::text`], which fills them, and by [`super::answer`].
//!
//! A name is kept as its labels from the right, in lower case, each behind its length: `\3net\7example`. So what is below a
//! name begins with it, and stands behind it when sorted.

use domain::base::{Name, ToName};
use domain::tsig::{Algorithm, Key, KeyName, KeyStore};
use std::net::IpAddr;

/// Types of records (RFC 1035, 2782, 3596, 8659).
pub mod kind {
    #![allow(missing_docs)]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const DS: u16 = 43;
    pub const CAA: u16 = 257;
}

/// One line of a zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its name, as in the module's header.
    pub name: Box<[u8]>,
    /// Its type.
    pub kind: u16,
    /// What it says, as it is sent.
    pub data: Box<[u8]>,
    /// Seconds it may be kept.
    pub ttl: u32,
}

/// A server that may have all of a zone.
#[derive(Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address; none: any.
    pub address: Option<IpAddr>,
    /// Name and secret of its key; none: it does not sign.
    pub key: Option<(KeyName, Vec<u8>)>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({:?}, {:?})", self.address, self.key.as_ref().map(|(name, _)| name))
    }
}

/// A zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its name.
    pub apex: Box<[u8]>,
    /// Of its SOA record.
    pub serial: u32,
    /// Who may have all of it.
    pub peers: Vec<Peer>,
    /// What is in it, sorted; the SOA record, too.
    pub records: Vec<Record>,
}

/// All zones that are served, sorted by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Zones {
    all: Vec<Zone>,
}

/// A name in text, without final dot, as in the module's header.
pub fn name_of(text: &str) -> Box<[u8]> {
    let labels = text.rsplit('.').filter(|label| !label.is_empty());
    joined(labels.map(|label| label.as_bytes()))
}

/// The same of labels from the right.
fn joined<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Box<[u8]> {
    let mut name = Vec::new();
    for label in labels {
        name.push(u8::try_from(label.len()).unwrap_or(63));
        name.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    name.into()
}

/// A name as it is sent: labels from the left, the root last.
pub fn wire(name: &[u8]) -> Vec<u8> {
    let mut labels: Vec<&[u8]> = ends(name).collect::<Vec<_>>().windows(2).map(|w| &name[w[0]..w[1]]).collect();
    labels.reverse();
    let mut all = labels.concat();
    all.push(0);
    all
}

/// The name in data that begins with one as [`wire`] makes it.
pub fn unwired(data: &[u8]) -> Box<[u8]> {
    let mut labels = Vec::new();
    let mut rest = data;
    while let Some((length, behind)) = rest.split_first().filter(|(length, _)| (1..64).contains(*length)) {
        let Some((label, behind)) = behind.split_at_checked(usize::from(*length)) else { break };
        labels.push(label);
        rest = behind;
    }
    joined(labels.into_iter().rev())
}

/// A name for the library.
pub fn owner(name: &[u8]) -> Option<Name<Vec<u8>>> {
    Name::from_octets(wire(name)).ok()
}

/// Where each name above this one ends, the root's first, its own last.
pub fn ends(name: &[u8]) -> impl Iterator<Item = usize> + '_ {
    std::iter::successors(Some(0), |at| Some(at + 1 + usize::from(*name.get(*at)?))).filter(|at| *at <= name.len())
}

impl Zone {
    /// Everything known under a name.
    pub fn at(&self, name: &[u8]) -> &[Record] {
        let from = self.records.partition_point(|r| &*r.name < name);
        let count = self.records[from..].partition_point(|r| &*r.name == name);
        &self.records[from..from + count]
    }

    /// What is known of one type under a name.
    pub fn set(&self, name: &[u8], kind: u16) -> &[Record] {
        let at = self.at(name);
        let from = at.partition_point(|r| r.kind < kind);
        let count = at[from..].partition_point(|r| r.kind == kind);
        &at[from..from + count]
    }

    /// Is there such a name, or one below it?
    pub fn exists(&self, name: &[u8]) -> bool {
        let from = self.records.partition_point(|r| &*r.name < name);
        self.records.get(from).is_some_and(|r| r.name.starts_with(name))
    }

    /// The records of the servers that a name is delegated to, if it is.
    pub fn cut(&self, name: &[u8], asked: u16) -> Option<&[Record]> {
        let below = ends(name).filter(|end| *end > self.apex.len());
        // What is to be known of the delegation itself is known here.
        let below = below.filter(|end| asked != kind::DS || *end < name.len());
        below.map(|end| self.set(&name[..end], kind::NS)).find(|set| !set.is_empty())
    }

    /// The wildcard that a name which is not there falls under (RFC 4592, section 3.3.1).
    pub fn wildcard(&self, name: &[u8]) -> Option<Box<[u8]>> {
        let ends: Vec<usize> = ends(name).collect();
        let above = ends.iter().rev().find(|end| **end < name.len() && self.exists(&name[..**end]))?;
        let wildcard = [&name[..*above], b"\x01*"].concat();
        self.exists(&wildcard).then(|| wildcard.into())
    }

    /// Its SOA record.
    pub fn soa(&self) -> Option<&Record> {
        self.set(&self.apex, kind::SOA).first()
    }

    /// May whoever asks from this address, with this key, have all of it?
    pub fn lets_in(&self, from: IpAddr, key: Option<&KeyName>) -> bool {
        self.peers.iter().any(|peer| {
            let there = peer.address.is_none_or(|address| address == from);
            there && peer.key.as_ref().is_none_or(|(own, _)| key == Some(own))
        })
    }
}

impl Zones {
    /// Zones with their records in any order.
    pub fn new(mut all: Vec<Zone>) -> Self {
        all.iter_mut().for_each(|zone| zone.records.sort());
        all.sort_by(|a, b| a.apex.cmp(&b.apex));
        Self { all }
    }

    /// All of them.
    pub fn all(&self) -> &[Zone] {
        &self.all
    }

    /// The zone of this name.
    pub fn get(&self, apex: &[u8]) -> Option<&Zone> {
        self.all.binary_search_by(|zone| (*zone.apex).cmp(apex)).ok().map(|i| &self.all[i])
    }

    /// The zone that a name lies in.
    pub fn of(&self, name: &[u8]) -> Option<&Zone> {
        let ends: Vec<usize> = ends(name).collect();
        ends.into_iter().rev().find_map(|end| self.get(&name[..end]))
    }
}

impl KeyStore for Zones {
    type Key = Key;

    fn get_key<N: ToName>(&self, name: &N, algorithm: Algorithm) -> Option<Key> {
        let keys = self.all.iter().flat_map(|zone| &zone.peers).filter_map(|peer| peer.key.as_ref());
        let (own, secret) = keys.into_iter().find(|(own, _)| own.name_eq(name))?;
        // Whole signatures only.
        Key::new(algorithm, secret, own.clone(), None, None).ok()
    }
}
