//! A zone as a whole for a peer (RFC 5936), one message after the other as they are taken. It goes on with the zone as it was
//! when it was asked for, whatever the server is told meanwhile.

use super::answer::{Target, builder, line, opt, time};
use super::data::{Record, Zone, Zones, kind};
use domain::base::Message;
use domain::base::iana::Rcode;
use domain::base::message_builder::AnswerBuilder;
use domain::tsig::{Key, ServerSequence};
use std::rc::Rc;

/// Bytes of one message: names are only shortened up to here.
const MOST: usize = 16 << 10;
/// Left for what stands at the end of a message besides a signature.
const END: usize = 64;

/// One on its way.
pub struct Transfer {
    zones: Rc<Zones>,
    apex: Box<[u8]>,
    query: Message<Vec<u8>>,
    edns: bool,
    signed: Option<ServerSequence<Key>>,
    /// Records that were sent; the SOA record counts before and behind all.
    sent: usize,
}

impl std::fmt::Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transfer({} sent)", self.sent)
    }
}

impl Transfer {
    pub(super) fn new(
        (zones, apex): (Rc<Zones>, Box<[u8]>),
        query: Message<Vec<u8>>,
        edns: bool,
        signed: Option<ServerSequence<Key>>,
    ) -> Self {
        Self { zones, apex, query, edns, signed, sent: 0 }
    }

    /// The next message; none after the last. `now`: seconds since 1970.
    pub fn next(&mut self, now: u64) -> Option<Vec<u8>> {
        let zones = Rc::clone(&self.zones);
        let zone = zones.get(&self.apex)?;
        let mut builder = builder()?;
        let key = self.signed.as_ref().map_or(0, |signed| usize::from(signed.key().compose_len()));
        builder.set_push_limit(MOST - END - key);
        let mut answer = builder.start_answer(&self.query, Rcode::NOERROR).ok()?;
        answer.header_mut().set_aa(true);
        let before = self.sent;
        self.fill(zone, &mut answer);
        if self.sent == before {
            return None;
        }
        let mut answer = answer.additional();
        answer.clear_push_limit();
        if self.edns {
            opt(&mut answer, 0).ok()?;
        }
        if let Some(signed) = &mut self.signed {
            signed.answer(&mut answer, time(now)).ok()?;
        }
        Some(answer.finish().into_target())
    }

    fn fill(&mut self, zone: &Zone, answer: &mut AnswerBuilder<Target>) {
        while let Some(record) = record(zone, self.sent) {
            let fits = line(&record.name, record, record.ttl).is_some_and(|line| answer.push(line).is_ok());
            if !fits {
                return;
            }
            self.sent += 1;
        }
    }
}

/// The record at a place: the SOA record, all others, the SOA record again.
fn record(zone: &Zone, at: usize) -> Option<&Record> {
    let soa = zone.records.iter().position(|r| r.kind == kind::SOA)?;
    match at.checked_sub(1) {
        None => zone.records.get(soa),
        Some(i) if i < soa => zone.records.get(i),
        Some(i) if i + 1 < zone.records.len() => zone.records.get(i + 1),
        Some(i) if i + 1 == zone.records.len() => zone.records.get(soa),
        _ => None,
    }
}
