use super::*;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use proptest::prelude::*;

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(HEADER + payload.len()).expect("short").to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes.resize(attr::align(bytes.len()), 0);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(4 + value.len()).expect("short").to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(attr::align(bytes.len()), 0);
    bytes
}

fn said(kind: u16, flags: u16, payload: &[u8]) -> Option<Refusal> {
    let bytes = message(kind, flags, 7, payload);
    let all: Vec<_> = messages(&bytes).collect();
    assert_eq!((all.len(), all[0].sequence), (1, 7));
    refusal(&all[0])
}

#[test]
fn reads_what_the_kernel_refuses() {
    let number = (-libc::EEXIST).to_ne_bytes();
    assert_eq!(said(ERROR, 0, &[0; 20]), None);
    assert_eq!(said(DONE, 0, &[]), None);
    assert_eq!(said(DONE, 0, &number).expect("no").text, "File exists");
    assert_eq!(said(ERROR, 0, &[]).expect("no").errno, libc::EPROTO);
    let words = [attribute(9, b"x"), attribute(MESSAGE_TEXT, b"Not today.\0")].concat();
    // The header of the request only, the whole request of 24 bytes, and the end of a dump.
    let capped = [&number[..], &[0; HEADER], &words].concat();
    assert_eq!(said(ERROR, CAPPED | WITH_ATTRIBUTES, &capped).expect("no").text, "Not today");
    assert_eq!(said(ERROR, CAPPED, &capped).expect("no").text, "File exists");
    let whole = [&number[..], &24u32.to_ne_bytes(), &[0; 20], &words].concat();
    assert_eq!(said(ERROR, WITH_ATTRIBUTES, &whole).expect("no").text, "Not today");
    assert_eq!(said(DONE, WITH_ATTRIBUTES, &[&number[..], &words].concat()).expect("no").text, "Not today");
    let e = Error::from(said(ERROR, 0, &number).expect("no"));
    assert_eq!((e.to_string(), e.errno()), ("File exists".to_string(), Some(libc::EEXIST)));
}

#[test]
fn walks_attributes() {
    let bytes = [attribute(3, b"eth0\0"), attribute(4 | 0x8000, &1500u32.to_ne_bytes()), attribute(5, &[])].concat();
    let all: Vec<_> = Attrs::new(&bytes).collect();
    assert_eq!(all.iter().map(|(kind, value)| (*kind, value.len())).collect::<Vec<_>>(), [(3, 5), (4, 4), (5, 0)]);
    assert_eq!((attr::text_of(all[0].1).as_str(), attr::u32_of(all[1].1)), ("eth0", Some(1500)));
    assert_eq!((attr::u16_of(all[2].1), attr::ip_of(all[1].1).is_some(), attr::mac_of(all[0].1)), (None, true, None));
    // A length that is too small, and one that goes past the end.
    for length in [0u16, 3, 200] {
        let mut bad = bytes.clone();
        bad[..2].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(Attrs::new(&bad).count(), 0);
    }
    assert_eq!(attr::text_of(b"a\x1b[31m\xff\0b"), "a\u{fffd}[31m\u{fffd}");
}

#[test]
fn encodes_requests_one_behind_the_other() {
    let mut socket = Socket::route().expect("a socket");
    let mut bytes = Vec::new();
    for name in ["x", "longer"] {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.into()));
        socket.encode(Request { message: RouteNetlinkMessage::NewLink(link), flags: 0x400 }, NLM_F_ACK, &mut bytes);
    }
    let all: Vec<_> = messages(&bytes).map(|m| (m.kind, m.flags, m.sequence)).collect();
    assert_eq!(all, [(libc::RTM_NEWLINK, 0x405, 1), (libc::RTM_NEWLINK, 0x405, 2)]);
    let second = messages(&bytes).nth(1).expect("two");
    assert_eq!(Attrs::behind(second.payload, 16).find(libc::IFLA_IFNAME).map(attr::text_of).as_deref(), Some("longer"));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>, flags: u16) {
        for one in messages(&bytes) {
            let _ = refusal(&one);
        }
        let _ = refusal(&Message { kind: ERROR, flags, sequence: 0, payload: &bytes });
        for (_, value) in Attrs::new(&bytes) {
            prop_assert!(value.len() <= bytes.len());
            let _ = (attr::text_of(value), attr::ip_of(value), attr::u64_of(value));
        }
    }
}
