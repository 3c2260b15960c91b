//! What is answered to one packet. Called by the role `nameserver`, for datagrams and connections alike; no I/O.

use super::data::{Record, Zones, owner};
use super::lookup::{Lines, Plan};
use super::transfer::Transfer;
use domain::base::iana::{Class, Opcode, OptRcode, Rcode, TsigRcode};
use domain::base::message_builder::{AdditionalBuilder, MessageBuilder, PushError, StaticCompressor};
use domain::base::name::ToLabelIter;
use domain::base::opt::OptRecord;
use domain::base::rdata::UnknownRecordData;
use domain::base::{Message, Name, Rtype};
use domain::rdata::tsig::Time48;
use domain::tsig::{Key, ServerError, ServerTransaction};
use std::net::IpAddr;
use std::rc::Rc;

/// Largest answer over UDP to one who can take more than 512 bytes: what most paths carry in one packet.
const DATAGRAM: usize = 1232;
const DATAGRAM_PLAIN: usize = 512;
const STREAM: usize = 65_535;
/// Bytes of the record that says how much we take.
const OPT: usize = 11;
/// The question for what has changed in a zone (RFC 1995).
pub(super) const IXFR: u16 = 251;

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// UDP.
    Datagram,
    /// TCP.
    Stream,
}

/// What goes back.
#[derive(Debug)]
pub enum Reply {
    /// Nothing.
    Nothing,
    /// One message.
    Message(Vec<u8>),
    /// A zone as a whole.
    Transfer(Box<Transfer>),
}

pub(super) type Target = StaticCompressor<Vec<u8>>;

/// A message to be filled.
pub(super) fn builder() -> Option<MessageBuilder<Target>> {
    MessageBuilder::from_target(StaticCompressor::new(Vec::new())).ok()
}

/// Answers a packet from an address. `now`: seconds since 1970.
pub fn reply(zones: &Rc<Zones>, packet: Vec<u8>, from: IpAddr, by: By, now: u64) -> Reply {
    let Ok(mut query) = Message::from_octets(packet) else { return Reply::Nothing };
    let header = query.header();
    if header.qr() {
        // Nobody is answered who answers.
        return Reply::Nothing;
    }
    if header.opcode() != Opcode::QUERY {
        return bare(&query, Rcode::NOTIMP);
    }
    let signed = match ServerTransaction::request(&**zones, &mut query, time(now)) {
        Ok(signed) => signed,
        Err(e) => return unsigned(&query, e),
    };
    let Some(asked) = Asked::read(&query, by) else { return bare(&query, Rcode::FORMERR) };
    let key = signed.as_ref().map(|signed| signed.key().name().clone());
    match Plan::of(zones, &asked, from, key.as_ref()) {
        Plan::Whole(apex) => {
            let signed = signed.map(Into::into);
            Reply::Transfer(Box::new(Transfer::new((Rc::clone(zones), apex), query, asked.size.is_some(), signed)))
        }
        Plan::Lines(lines) => message(&query, &asked, &lines, signed, now),
    }
}

pub(super) fn time(now: u64) -> Time48 {
    Time48::from_u64(now & 0xffff_ffff_ffff)
}

/// An answer without a question.
fn bare(query: &Message<Vec<u8>>, rcode: Rcode) -> Reply {
    let Some(mut answer) = builder() else { return Reply::Nothing };
    let header = answer.header_mut();
    header.set_id(query.header().id());
    header.set_qr(true);
    header.set_opcode(query.header().opcode());
    header.set_rd(query.header().rd());
    header.set_rcode(rcode);
    Reply::Message(answer.finish().into_target())
}

/// The answer to a packet that is not rightly signed.
fn unsigned(query: &Message<Vec<u8>>, e: ServerError<Key>) -> Reply {
    // The library says so for a signature that is wrong.
    let wrong = e.error() == TsigRcode::FORMERR;
    let built = builder().and_then(|builder| e.build_message(query, builder).ok());
    let Some(answer) = built else { return bare(query, Rcode::FORMERR) };
    let signed = answer.counts().arcount() > 0;
    let mut bytes = answer.finish().into_target();
    let end = bytes.len();
    if wrong && signed && end > 4 {
        bytes[end - 4..end - 2].copy_from_slice(&TsigRcode::BADSIG.to_int().to_be_bytes());
    }
    Reply::Message(bytes)
}

/// What a message asks.
pub(super) struct Asked {
    /// The name, as in [`super::data`].
    pub name: Vec<u8>,
    /// The type.
    pub kind: u16,
    /// The class.
    pub class: Class,
    /// How it came.
    pub by: By,
    /// The serial the asker has, if it asks for what has changed since.
    pub serial: Option<u32>,
    /// How much the asker takes, and the version of how it says so (RFC 6891).
    size: Option<u16>,
    version: u8,
}

impl Asked {
    fn read(query: &Message<Vec<u8>>, by: By) -> Option<Self> {
        let question = query.sole_question().ok()?;
        let name = question.qname();
        let labels: Vec<&[u8]> = name.iter_labels().map(|label| label.as_slice()).filter(|l| !l.is_empty()).collect();
        let mut key = Vec::new();
        for label in labels.iter().rev() {
            key.push(u8::try_from(label.len()).ok()?);
            key.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        let opt = query.opt();
        let kind = question.qtype().to_int();
        Some(Self {
            name: key,
            kind,
            class: question.qclass(),
            by,
            size: opt.as_ref().map(OptRecord::udp_payload_size),
            version: opt.as_ref().map_or(0, OptRecord::version),
            serial: (kind == IXFR).then(|| serial(query)).flatten(),
        })
    }

    fn most(&self) -> usize {
        match (self.by, self.size) {
            (By::Stream, _) => STREAM,
            (By::Datagram, None) => DATAGRAM_PLAIN,
            (By::Datagram, Some(size)) => usize::from(size).clamp(DATAGRAM_PLAIN, DATAGRAM),
        }
    }
}

/// The serial in the SOA record of the authority section.
fn serial(query: &Message<Vec<u8>>) -> Option<u32> {
    let record = query.authority().ok()?.next()?.ok()?;
    let record = record.into_record::<UnknownRecordData<_>>().ok()??;
    let data: &[u8] = record.data().data();
    // The last five numbers; a compressed name before them does not matter.
    let at = data.len().checked_sub(20)?;
    (record.rtype() == Rtype::SOA).then(|| data[at..at + 4].try_into().ok().map(u32::from_be_bytes)).flatten()
}

/// What is sent for it.
fn message(
    query: &Message<Vec<u8>>,
    asked: &Asked,
    lines: &Lines<'_>,
    signed: Option<ServerTransaction<Key>>,
    now: u64,
) -> Reply {
    let opt_size = if asked.size.is_some() { OPT } else { 0 };
    let end = opt_size + signed.as_ref().map_or(0, |signed| usize::from(signed.key().compose_len()));
    let most = asked.most().saturating_sub(end);
    // If not all lines fit, none stand there, and the asker is told to come over TCP.
    let built = filled(query, lines, most).or_else(|| {
        let mut empty = filled(query, &Lines { rcode: lines.rcode, ..Lines::default() }, STREAM)?;
        empty.header_mut().set_aa(lines.authoritative);
        empty.header_mut().set_tc(true);
        Some(empty)
    });
    let Some(mut answer) = built else { return bare(query, Rcode::SERVFAIL) };
    answer.clear_push_limit();
    let mut done = asked.size.map_or(Ok(()), |_| opt(&mut answer, asked.version));
    if let Some(signed) = signed {
        done = done.and_then(|()| signed.answer(&mut answer, time(now)));
    }
    match done {
        Ok(()) => Reply::Message(answer.finish().into_target()),
        Err(_) => bare(query, Rcode::SERVFAIL),
    }
}

/// Says how much we take, and to a version that there is none yet that we know only the first.
pub(super) fn opt(answer: &mut AdditionalBuilder<Target>, version: u8) -> Result<(), PushError> {
    answer.opt(|opt| {
        opt.set_udp_payload_size(u16::try_from(DATAGRAM).unwrap_or(0));
        if version != 0 {
            opt.set_rcode(OptRcode::BADVERS);
        }
        Ok(())
    })
}

/// A message with these lines; none if they do not fit.
fn filled(query: &Message<Vec<u8>>, lines: &Lines<'_>, most: usize) -> Option<AdditionalBuilder<Target>> {
    let mut builder = builder()?;
    builder.set_push_limit(most);
    let mut section = builder.start_answer(query, lines.rcode).ok()?;
    section.header_mut().set_aa(lines.authoritative);
    for (name, set) in &lines.answer {
        for record in *set {
            section.push(line(name.as_deref().unwrap_or(&record.name), record, record.ttl)?).ok()?;
        }
    }
    let mut section = section.authority();
    for (set, most) in &lines.authority {
        for record in *set {
            section.push(line(&record.name, record, record.ttl.min(*most))?).ok()?;
        }
    }
    let mut section = section.additional();
    for record in lines.additional.iter().copied().flatten() {
        section.push(line(&record.name, record, record.ttl)?).ok()?;
    }
    Some(section)
}

/// A record for the library.
type Line<'a> = (Name<Vec<u8>>, Class, u32, UnknownRecordData<&'a [u8]>);

pub(super) fn line<'a>(name: &[u8], record: &'a Record, ttl: u32) -> Option<Line<'a>> {
    let data = UnknownRecordData::from_octets(Rtype::from_int(record.kind), &*record.data).ok()?;
    Some((owner(name)?, Class::IN, ttl, data))
}
