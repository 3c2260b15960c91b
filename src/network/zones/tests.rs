//! What is told, and what is answered to sound and to hostile questions.

use super::answer::{By, Reply, reply};
use super::data::{Zones, name_of, unwired, wire};
use super::text::{Served, check, parse, told};
use crate::base::names::ZoneName;
use crate::model::instance::Config;
use crate::model::network::zone::{ZoneEntry, ZoneLine, ZoneRecord, address_line, record_lines};
use domain::base::iana::{Opcode, Rcode};
use domain::base::rdata::UnknownRecordData;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::tsig::Time48;
use domain::tsig::{Algorithm, ClientSequence, ClientTransaction, Key};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::str::FromStr;

const NOW: u64 = 1_800_000_000;
/// `secret` in base64.
const SECRET: &str = "c2VjcmV0";
const PEER: &str = "192.0.2.3";
const SIGNER: &str = "192.0.2.4";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn listen() -> SocketAddr {
    "127.0.0.1:5353".parse().expect("address")
}

fn zone(name: &str) -> ZoneName {
    ZoneName::parse(name).expect("zone")
}

fn options(entries: &[(&str, &str)]) -> Config {
    entries.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
}

/// Lines of a zone: name, type, value, lifetime.
fn lines(zone: &ZoneName, all: &[(&str, &str, &str, u64)]) -> Vec<ZoneLine> {
    let one = |(name, kind, value, ttl): &(&str, &str, &str, u64)| {
        let entries = vec![ZoneEntry { kind: (*kind).into(), ttl: *ttl, value: (*value).into() }];
        let record = ZoneRecord { format: 1, description: String::new(), config: Config::new(), entries };
        record_lines(zone, name, &record).expect("record")
    };
    all.iter().flat_map(one).collect()
}

const FORWARD: &[(&str, &str, &str, u64)] = &[
    ("@", "A", "10.0.0.77", 60),
    ("@", "MX", "10 mail.example.net.", 0),
    ("_dns._udp", "SRV", "1 2 53 ns.example.net", 0),
    ("@", "TXT", "\"v=x, y\" \"a \\\"b\\\"\"", 0),
    ("@", "CAA", "0 issue \"ca.example.net\"", 0),
    ("www", "CNAME", "c1.example.net", 30),
    ("out", "CNAME", "www.elsewhere.example", 0),
    ("loop", "CNAME", "loop.example.net", 0),
    ("*", "TXT", "any", 0),
    ("*.deep", "A", "10.0.0.78", 0),
    ("a.b.c", "A", "10.0.0.79", 0),
    ("sub", "NS", "ns.elsewhere.example", 0),
    ("sub", "NS", "ns.sub.example.net", 0),
    ("ns.sub", "A", "10.0.0.80", 0),
    ("many", "A", "10.0.0.81", 900),
    ("many", "A", "10.0.0.82", 40),
];

/// A forward zone with a peer and one that signs, and a reverse zone with another peer.
fn text(before: &str, now: u32, more: &[(&str, &str, &str, u64)]) -> super::text::Told {
    let (forward, reverse) = (zone("example.net"), zone("0.0.10.in-addr.arpa"));
    let mut names: Vec<_> =
        ["10.0.0.9", "fd42::9"].iter().filter_map(|a| address_line(&forward, "c1", ip(a), "example.net")).collect();
    names.extend(lines(&forward, FORWARD));
    names.extend(lines(&forward, more));
    let mut addresses: Vec<_> = address_line(&reverse, "c1", ip("10.0.0.9"), "example.net").into_iter().collect();
    addresses.extend(lines(&reverse, &[("10", "PTR", "host.example.net", 0)]));
    let own = options(&[
        ("dns.nameservers", "ns1.example.net, ns2.example.net."),
        ("peers.a.address", PEER),
        ("peers.b.address", SIGNER),
        ("peers.b.key", SECRET),
    ]);
    let other = options(&[("peers.c.address", "192.0.2.5"), ("dns.contact", "admin.example.net")]);
    let served = [
        Served { name: &forward, options: &own, lines: &names },
        Served { name: &reverse, options: &other, lines: &addresses },
    ];
    told(&served, listen(), before, now)
}

fn zones() -> Rc<Zones> {
    let (at, zones) = parse(&text("", 7, &[]).text).expect("sound");
    assert_eq!(at, listen());
    Rc::new(zones)
}

fn name(text: &str) -> Name<Vec<u8>> {
    Name::from_str(text).expect("name")
}

/// A question; `size`: what the asker takes over UDP.
fn question(about: &str, kind: u16, size: Option<u16>) -> MessageBuilder<Vec<u8>> {
    let mut question = MessageBuilder::new_vec().question();
    question.header_mut().set_id(4711);
    question.push((name(about), Rtype::from_int(kind))).expect("room");
    let mut all = question.additional();
    if let Some(size) = size {
        all.opt(|opt| {
            opt.set_udp_payload_size(size);
            Ok(())
        })
        .expect("room");
    }
    MessageBuilder::clone(all.as_builder())
}

/// Name, type, lifetime, data.
type Line = (String, u16, u32, Vec<u8>);

/// What came back, section by section.
#[derive(Debug, PartialEq)]
struct Said {
    rcode: Rcode,
    flags: (bool, bool),
    sections: [Vec<Line>; 3],
    size: usize,
}

fn said(message: &[u8]) -> Said {
    let message = Message::from_octets(message.to_vec()).expect("sound");
    let mut sections = [Vec::new(), Vec::new(), Vec::new()];
    let mut at = Some(message.answer().expect("sound"));
    for section in &mut sections {
        let mut records = at.expect("three");
        for record in records.by_ref() {
            let record = record.expect("sound").into_record::<UnknownRecordData<_>>().expect("sound").expect("any");
            let data: &[u8] = record.data().data();
            let (kind, ttl) = (record.rtype().to_int(), record.ttl().as_secs());
            section.push((record.owner().to_string().to_lowercase(), kind, ttl, data.to_vec()));
        }
        at = records.next_section().expect("sound");
    }
    let header = message.header();
    Said { rcode: header.rcode(), flags: (header.aa(), header.tc()), sections, size: message.as_slice().len() }
}

fn answer(zones: &Rc<Zones>, packet: Vec<u8>, from: &str, by: By) -> Option<Said> {
    match reply(zones, packet, ip(from), by, NOW) {
        Reply::Message(message) => Some(said(&message)),
        _ => None,
    }
}

fn ask(about: &str, kind: u16) -> Said {
    answer(&zones(), question(about, kind, Some(4096)).finish(), "192.0.2.99", By::Datagram).expect("an answer")
}

/// Types and lifetimes of the answer.
fn kinds(said: &Said) -> Vec<(u16, u32)> {
    said.sections[0].iter().map(|(_, kind, ttl, _)| (*kind, *ttl)).collect()
}

#[test]
fn names_go_both_ways() {
    assert_eq!(&*name_of("A.example.net"), b"\x03net\x07example\x01a");
    assert_eq!(wire(&name_of("a.example.net")), b"\x01a\x07example\x03net\0");
    assert_eq!(unwired(&wire(&name_of("a.example.net"))), name_of("a.example.net"));
    assert_eq!(wire(b""), b"\0");
    // Cut short.
    assert_eq!(unwired(b"\x05ab"), name_of(""));
}

#[test]
fn records_are_answered() {
    let a = ask("c1.EXAMPLE.net", 1);
    assert_eq!((a.rcode, a.flags), (Rcode::NOERROR, (true, false)));
    assert_eq!(a.sections[0], [("c1.example.net".to_string(), 1, 300, vec![10, 0, 0, 9])]);
    assert_eq!(ask("c1.example.net", 28).sections[0][0].3[..3], [0xfd, 0x42, 0]);
    assert_eq!(kinds(&ask("example.net", 2)), [(2, 300), (2, 300)]);
    assert_eq!(ask("example.net", 15).sections[0][0].3, b"\0\x0a\x04mail\x07example\x03net\0");
    assert_eq!(ask("_dns._udp.example.net", 33).sections[0][0].3, b"\0\x01\0\x02\0\x35\x02ns\x07example\x03net\0");
    assert_eq!(ask("example.net", 16).sections[0][0].3, b"\x06v=x, y\x05a \"b\"");
    assert_eq!(ask("example.net", 257).sections[0][0].3, b"\0\x05issueca.example.net");
    assert_eq!(ask("9.0.0.10.in-addr.arpa", 12).sections[0][0].3, b"\x02c1\x07example\x03net\0");
    assert_eq!(ask("10.0.0.10.in-addr.arpa", 12).sections[0][0].3, b"\x04host\x07example\x03net\0");
    let soa = ask("example.net", 6);
    let want = b"\x03ns1\x07example\x03net\0\x0ahostmaster\x03ns1\x07example\x03net\0\0\0\0\x07";
    assert_eq!(soa.sections[0][0].3[..want.len()], want[..]);
    let reverse = ask("0.0.10.in-addr.arpa", 6).sections[0][0].3.clone();
    assert!(reverse.windows(7).any(|part| part == b"\x05admin\x07"));
    assert_eq!(ask("0.0.10.in-addr.arpa", 2).sections[0][0].3, b"\x010\x010\x0210\x07in-addr\x04arpa\0");
    // One lifetime for all of one name and type.
    assert_eq!(kinds(&ask("many.example.net", 1)), [(1, 40), (1, 40)]);
    assert_eq!(kinds(&ask("example.net", 1)), [(1, 60)]);
}

#[test]
fn aliases_wildcards_and_delegations() {
    let alias = ask("www.example.net", 1);
    assert_eq!(kinds(&alias), [(5, 30), (1, 300)]);
    assert_eq!(kinds(&ask("www.example.net", 5)), [(5, 30)]);
    assert_eq!(kinds(&ask("out.example.net", 1)), [(5, 300)]);
    assert_eq!(kinds(&ask("loop.example.net", 1)).len(), 9);
    let wild = ask("nobody.example.net", 16);
    assert_eq!(wild.sections[0][0].0, "nobody.example.net");
    assert_eq!(ask("x.y.example.net", 16).sections[0].len(), 1);
    assert_eq!(ask("x.deep.example.net", 1).sections[0][0].3, [10, 0, 0, 78]);
    // What is there is under no wildcard, nor is what lies below it.
    for (about, kind, rcode) in [
        ("c1.example.net", 16, Rcode::NOERROR),
        ("b.c.example.net", 16, Rcode::NOERROR),
        ("deep.example.net", 16, Rcode::NOERROR),
        ("x.deep.example.net", 16, Rcode::NOERROR),
        ("x.c1.example.net", 1, Rcode::NXDOMAIN),
        ("x.b.c.example.net", 16, Rcode::NXDOMAIN),
        ("77.0.0.10.in-addr.arpa", 12, Rcode::NXDOMAIN),
        ("any.example.net", 1, Rcode::NOERROR),
    ] {
        let none = ask(about, kind);
        assert_eq!((none.rcode, none.flags.0, none.sections[0].len()), (rcode, true, 0), "{about}");
        assert_eq!(none.sections[1].iter().map(|r| (r.1, r.2)).collect::<Vec<_>>(), [(6, 30)], "{about}");
    }
    for about in ["sub.example.net", "x.sub.example.net", "ns.sub.example.net"] {
        let referral = ask(about, 1);
        assert_eq!((referral.rcode, referral.flags.0, referral.sections[0].len()), (Rcode::NOERROR, false, 0));
        assert_eq!(referral.sections[1].len(), 2, "{about}");
        assert!(referral.sections[2].iter().any(|r| (r.1, &r.3[..]) == (1, &[10, 0, 0, 80])), "{about}");
    }
    assert!(ask("sub.example.net", 43).flags.0, "about a delegation the zone above is asked");
}

#[test]
fn what_is_not_ours_is_refused() {
    for (about, kind, rcode) in [
        ("example.org", 1, Rcode::REFUSED),
        ("net", 1, Rcode::REFUSED),
        (".", 2, Rcode::REFUSED),
        ("example.net", 252, Rcode::REFUSED),
        ("example.net", 251, Rcode::REFUSED),
        ("example.net", 250, Rcode::NOTIMP),
        ("example.net", 253, Rcode::NOTIMP),
        ("example.net", 41, Rcode::NOTIMP),
    ] {
        let no = ask(about, kind);
        assert_eq!((no.rcode, no.flags.0), (rcode, false), "{about} {kind}");
        assert!(no.sections[0].is_empty() && no.sections[1].is_empty());
    }
    let zones = zones();
    let mut chaos = question("example.net", 16, None).finish();
    let end = chaos.len();
    chaos[end - 1] = 3;
    assert_eq!(answer(&zones, chaos, PEER, By::Datagram).expect("answer").rcode, Rcode::REFUSED);
    let two = |n: u8| {
        let mut packet = question("example.net", 1, None).finish();
        packet[5] = n;
        packet
    };
    for packet in [two(0), two(2)] {
        assert_eq!(answer(&zones, packet, PEER, By::Datagram).expect("answer").rcode, Rcode::FORMERR);
    }
    for opcode in [Opcode::NOTIFY, Opcode::UPDATE, Opcode::STATUS] {
        let mut packet = question("example.net", 6, None);
        packet.header_mut().set_opcode(opcode);
        assert_eq!(answer(&zones, packet.finish(), PEER, By::Datagram).expect("answer").rcode, Rcode::NOTIMP);
    }
    let mut response = question("example.net", 1, None);
    response.header_mut().set_qr(true);
    assert!(answer(&zones, response.finish(), PEER, By::Datagram).is_none(), "no two servers answer each other");
    assert!(answer(&zones, vec![0; 11], PEER, By::Stream).is_none());
}

#[test]
fn datagrams_have_bounds() {
    let more: Vec<String> = (0..60).map(|i| format!("\"{i:0>100}\"")).collect();
    let more: Vec<_> = more.iter().map(|text| ("big", "TXT", text.as_str(), 0)).collect();
    let zones = Rc::new(parse(&text("", 7, &more).text).expect("sound").1);
    for (size, most) in [(None, 512), (Some(100), 512), (Some(1232), 1232), (Some(65_535), 1232)] {
        let packet = question("big.example.net", 16, size).finish();
        let cut = answer(&zones, packet, PEER, By::Datagram).expect("answer");
        assert!(cut.flags.1 && cut.size <= most && cut.sections[0].is_empty(), "{size:?}: {}", cut.size);
        assert_eq!(cut.sections[2].len(), usize::from(size.is_some()), "it says what we take");
    }
    let whole = answer(&zones, question("big.example.net", 16, None).finish(), PEER, By::Stream).expect("answer");
    assert!(!whole.flags.1 && whole.sections[0].len() == 60);
    // The question that asks for most gets least (RFC 8482).
    let any = |by| answer(&zones, question("example.net", 255, None).finish(), PEER, by).expect("answer").sections;
    assert_eq!(any(By::Datagram)[0].len(), 1);
    assert_eq!(any(By::Stream)[0].len(), 7);
    // A version of EDNS that there is none yet.
    let mut packet = question("example.net", 1, Some(1232)).finish();
    let at = packet.len() - 5;
    packet[at] = 1;
    let Reply::Message(said) = reply(&zones, packet, ip(PEER), By::Datagram, NOW) else { panic!("no answer") };
    assert_eq!(Message::from_octets(said).expect("sound").opt_rcode().to_int(), 16);
}

fn key(name: &str, secret: &[u8], algorithm: Algorithm) -> Key {
    Key::new(algorithm, secret, Name::from_str(name).expect("name"), None, None).expect("key")
}

/// All records of a transfer, if one is let in.
fn transfer(zones: &Rc<Zones>, about: &str, from: &str, key: Option<Key>) -> Result<Vec<(String, u16)>, Rcode> {
    let mut query = question(about, 252, None).additional();
    let mut sequence = key.map(|key| ClientSequence::request(key, &mut query, Time48::from_u64(NOW)).expect("signed"));
    let mut transfer = match reply(zones, query.finish(), ip(from), By::Stream, NOW) {
        Reply::Transfer(transfer) => transfer,
        Reply::Message(message) => return Err(said(&message).rcode),
        Reply::Nothing => panic!("nothing"),
    };
    let mut all = Vec::new();
    while let Some(message) = transfer.next(NOW) {
        let mut message = Message::from_octets(message).expect("sound");
        if let Some(sequence) = &mut sequence {
            sequence.answer(&mut message, Time48::from_u64(NOW)).expect("rightly signed");
        }
        let said = said(message.as_slice());
        assert!(said.flags.0 && said.size <= 16 << 10 && said.sections[1].is_empty());
        all.extend(said.sections[0].iter().map(|(name, kind, ..)| (name.clone(), *kind)));
    }
    sequence.map_or(Ok(()), ClientSequence::done).expect("all are signed");
    Ok(all)
}

#[test]
fn peers_get_their_zone_and_no_other() {
    let zones = zones();
    let whole = transfer(&zones, "example.net", PEER, None).expect("let in");
    assert_eq!((whole[0].1, whole[whole.len() - 1].1), (6, 6));
    assert_eq!(whole.iter().filter(|(_, kind)| *kind == 6).count(), 2);
    assert_eq!(whole.len(), 2 + 2 + 2 + FORWARD.len());
    let reverse = transfer(&zones, "0.0.10.in-addr.arpa", "192.0.2.5", None).expect("let in");
    assert_eq!(reverse.iter().map(|(_, kind)| *kind).collect::<Vec<_>>(), [6, 2, 12, 12, 6]);
    for (about, from) in [
        ("0.0.10.in-addr.arpa", PEER),
        ("example.net", "192.0.2.5"),
        ("example.net", SIGNER),
        ("example.net", "192.0.2.99"),
        ("c1.example.net", PEER),
        ("elsewhere.example", PEER),
    ] {
        assert_eq!(transfer(&zones, about, from, None), Err(Rcode::REFUSED), "{about} {from}");
    }
    let udp = answer(&zones, question("example.net", 252, None).finish(), PEER, By::Datagram).expect("answer");
    assert_eq!(udp.rcode, Rcode::REFUSED);
}

#[test]
fn keys_are_asked_for() {
    let zones = zones();
    for algorithm in [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512] {
        let right = key("example.net_b.", b"secret", algorithm);
        assert!(transfer(&zones, "example.net", SIGNER, Some(right.clone())).is_ok(), "{algorithm}");
        // Its key is one thing, where it comes from another.
        assert_eq!(transfer(&zones, "example.net", "192.0.2.99", Some(right.clone())), Err(Rcode::REFUSED));
        assert_eq!(transfer(&zones, "0.0.10.in-addr.arpa", SIGNER, Some(right)), Err(Rcode::REFUSED));
    }
    for (name, secret) in [("example.net_b.", &b"wrong"[..]), ("example.net_a.", b"secret"), ("example.net_c.", b"")] {
        let wrong = key(name, secret, Algorithm::Sha256);
        assert_eq!(transfer(&zones, "example.net", SIGNER, Some(wrong)), Err(Rcode::NOTAUTH), "{name}");
    }
    let ask = |now: u64, change: &dyn Fn(&mut Vec<u8>)| {
        let mut query = question("example.net", 6, Some(512)).additional();
        let key = key("example.net_b.", b"secret", Algorithm::Sha256);
        let signed = ClientTransaction::request(key, &mut query, Time48::from_u64(now)).expect("signed");
        let mut query = query.finish();
        change(&mut query);
        let Reply::Message(said) = reply(&zones, query, ip("192.0.2.99"), By::Datagram, NOW) else { panic!("nothing") };
        let mut message = Message::from_octets(said.clone()).expect("sound");
        let judged = signed.answer(&mut message, Time48::from_u64(now));
        (judged.is_ok(), message.header().rcode(), said)
    };
    let (good, rcode, _) = ask(NOW, &|_| {});
    assert_eq!((good, rcode), (true, Rcode::NOERROR), "others may sign, too");
    let (good, rcode, said) = ask(NOW, &|query| query[14] ^= 0x01);
    assert_eq!((good, rcode, &said[said.len() - 4..]), (false, Rcode::NOTAUTH, &[0, 16, 0, 0][..]));
    assert_eq!(ask(NOW - 1000, &|_| {}).1, Rcode::NOTAUTH, "an old packet");
}

#[test]
fn what_has_changed_is_all_or_nothing() {
    let zones = zones();
    let incremental = |serial: u32| {
        let mut query = question("example.net", 251, None).authority();
        let numbers: Vec<u8> = [serial, 1, 1, 1, 1].iter().flat_map(|n| n.to_be_bytes()).collect();
        let data = [&b"\0\0"[..], &numbers].concat();
        let soa = UnknownRecordData::from_octets(Rtype::SOA, data).expect("short");
        query.push((name("example.net"), 0u32, soa)).expect("room");
        query.finish()
    };
    assert!(matches!(reply(&zones, incremental(6), ip(PEER), By::Stream, NOW), Reply::Transfer(_)));
    for (serial, by) in [(7, By::Stream), (6, By::Datagram)] {
        let one = answer(&zones, incremental(serial), PEER, by).expect("answer");
        assert_eq!(kinds(&one), [(6, 3600)]);
    }
    assert_eq!(answer(&zones, incremental(6), "192.0.2.99", By::Stream).expect("answer").rcode, Rcode::REFUSED);
}

#[test]
fn serials_rise_with_their_zone_alone() {
    let first = text("", 100, &[]).text;
    assert_eq!(text(&first, 200, &[]).text, first, "nothing has changed");
    let more: &[(&str, &str, &str, u64)] = &[("new", "A", "10.0.0.1", 0)];
    for (now, serial) in [(200, 200), (50, 101)] {
        let second = text(&first, now, more).text;
        assert!(second.contains(&format!("zone example.net {serial}\n")), "{second}");
        assert!(second.contains("zone 0.0.10.in-addr.arpa 100\n"), "{second}");
    }
}

#[test]
fn what_cannot_be_served_is_named() {
    assert_eq!(text("", 7, &[]).left_out, Vec::<String>::new());
    let label = "a".repeat(60);
    let long = [label.as_str(); 4].join(".");
    let bad: &[(&str, &str, &str, u64)] = &[
        ("c1", "CNAME", "www.example.net", 0),
        ("@", "CNAME", "www.example.net", 0),
        ("two", "CNAME", "c1.example.net", 0),
        ("two", "CNAME", "www.example.net", 0),
        (&long, "A", "10.0.0.1", 0),
    ];
    let left = text("", 7, bad).left_out;
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(left[0].starts_with("example.net: ") && left.iter().any(|l| l.contains("too long")), "{left:?}");
    let name = zone("example.net");
    assert!(check(&name, &options(&[(&format!("peers.{label}.key"), SECRET)])).is_err());
    assert!(check(&name, &options(&[("peers.a.key", SECRET), ("peers.b.address", PEER)])).is_ok());
    for text in ["", "zone x 1\n", "listen 127.0.0.1:53\nzone x y\n", "listen 127.0.0.1:53\nzone x 1\na 1 1 0\n"] {
        assert!(parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_packet_is_too_much(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..120, stream in any::<bool>()) {
        let zones = zones();
        let by = if stream { By::Stream } else { By::Datagram };
        let mut signed = question("x.example.net", 1, Some(1232)).additional();
        let key = key("example.net_b.", b"secret", Algorithm::Sha256);
        ClientTransaction::request(key, &mut signed, Time48::from_u64(NOW)).expect("signed");
        let mut changed = signed.finish();
        for (place, byte) in changed.iter_mut().skip(at).zip(&bytes) {
            *place ^= byte & byte.rotate_left(3) & byte.rotate_left(5);
        }
        let mut bare = question("x.example.net", 255, None).finish();
        bare.truncate(12);
        bare.extend(&bytes);
        for packet in [bytes, changed, bare] {
            match reply(&zones, packet, ip(PEER), by, NOW) {
                Reply::Message(message) => prop_assert!(by == By::Stream || message.len() <= 1232),
                Reply::Transfer(mut transfer) => while transfer.next(NOW).is_some() {},
                Reply::Nothing => {}
            }
        }
    }
}
