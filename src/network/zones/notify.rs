//! Word to a peer that a zone has changed (RFC 1996), as Incus sends it. Sent by the role `nameserver`.

use super::answer::{builder, line, time};
use super::data::{Peer, Zone, kind, owner};
use domain::base::Rtype;
use domain::base::iana::Opcode;
use domain::tsig::{Algorithm, ClientTransaction, Key};

/// The message about a zone; none if it has no SOA record. `now`: seconds since 1970.
pub fn notice(zone: &Zone, peer: &Peer, id: u16, now: u64) -> Option<Vec<u8>> {
    let mut question = builder()?.question();
    let header = question.header_mut();
    header.set_id(id);
    header.set_opcode(Opcode::NOTIFY);
    header.set_aa(true);
    question.push((owner(&zone.apex)?, Rtype::SOA)).ok()?;
    let mut answer = question.answer();
    for soa in zone.set(&zone.apex, kind::SOA) {
        answer.push(line(&soa.name, soa, soa.ttl)?).ok()?;
    }
    let mut message = answer.additional();
    if let Some((name, secret)) = &peer.key {
        let key = Key::new(Algorithm::Sha256, secret, name.clone(), None, None).ok()?;
        ClientTransaction::request(key, &mut message, time(now)).ok()?;
    }
    Some(message.finish().into_target())
}
