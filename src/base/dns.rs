//! DNS messages (RFC 1035, EDNS0 of RFC 6891): a question about the addresses of a name, and what a reply says.
//!
//! Used by `host::dns`. Replies are hostile: the question must be the one that was asked, names are bounded, pointers only lead
//! backwards, and a message that is not sound as a whole gives nothing. No I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a reply that we tell servers to be able to take over UDP; what most paths carry in one packet.
pub const UDP_SIZE: u16 = 1232;

const CLASS_IN: u16 = 1;
const CNAME: u16 = 5;
const OPT: u16 = 41;
/// Aliases followed within one reply.
const ALIASES: usize = 16;
/// Records of a reply that are looked at.
const RECORDS: usize = 256;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The addresses; none if the name has none of this kind.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoName,
    /// The reply did not fit: ask over TCP.
    Truncated,
    /// The server does not understand EDNS0: ask without.
    NoEdns,
    /// The server failed or refused: ask another one.
    Failed(u8),
}

/// A host name in lower case without the final dot, as it can stand in a question: labels of 1 to 63 letters, digits, `-`
/// and `_`, at most 253 bytes. `None`: anything else.
pub fn name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let sound = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
    };
    (text.len() <= 253 && text.split('.').all(sound)).then(|| text.to_ascii_lowercase())
}

/// A question about `name` (as [`name`] gives it).
pub fn question(id: u16, name: &str, kind: Kind, edns: bool) -> Vec<u8> {
    let mut message = Vec::with_capacity(name.len() + 32);
    message.extend(id.to_be_bytes());
    // Recursion desired; one question, and perhaps one additional record.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.number().to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    if edns {
        message.push(0);
        message.extend(OPT.to_be_bytes());
        message.extend(UDP_SIZE.to_be_bytes());
        message.extend([0; 6]);
    }
    message
}

/// Reads the reply to [`question`]. `None`: it is no reply to that question, or damaged; wait for another one.
pub fn reply(message: &[u8], id: u16, name: &str, kind: Kind) -> Option<Reply> {
    let mut at = Reader { message, at: 0 };
    let (their_id, flags) = (at.u16()?, at.u16()?);
    // A response (bit 15) to a standard query (bits 11 to 14).
    if their_id != id || flags & 0xf800 != 0x8000 {
        return None;
    }
    let (questions, answers) = (at.u16()?, at.u16()?);
    at.skip(4)?;
    let rcode = u8::try_from(flags & 15).ok()?;
    if questions == 0 && rcode == 1 {
        return Some(Reply::NoEdns);
    }
    if questions != 1 || at.name()? != name || at.u16()? != kind.number() || at.u16()? != CLASS_IN {
        return None;
    }
    match rcode {
        0 if flags & 0x0200 != 0 => return Some(Reply::Truncated),
        0 => {}
        3 => return Some(Reply::NoName),
        // FORMERR, NOTIMP
        1 | 4 => return Some(Reply::NoEdns),
        other => return Some(Reply::Failed(other)),
    }
    let records = (0..usize::from(answers).min(RECORDS)).map(|_| record(&mut at)).collect::<Option<Vec<_>>>()?;
    Some(Reply::Addresses(addresses(&records, name, kind)))
}

/// The addresses of `name`, or of what it is an alias of.
fn addresses(records: &[Record], name: &str, kind: Kind) -> Vec<IpAddr> {
    let mut owner = name;
    for _ in 0..ALIASES {
        let alias = records.iter().find_map(|r| match &r.data {
            Data::Alias(target) if r.owner == owner => Some(target.as_str()),
            _ => None,
        });
        match alias {
            Some(target) => owner = target,
            None => break,
        }
    }
    let address = |r: &Record| match r.data {
        Data::Address(address) if r.owner == owner && address.is_ipv4() == (kind == Kind::A) => Some(address),
        _ => None,
    };
    records.iter().filter_map(address).collect()
}

struct Record {
    owner: String,
    data: Data,
}

enum Data {
    Address(IpAddr),
    Alias(String),
    Other,
}

fn record(at: &mut Reader<'_>) -> Option<Record> {
    let owner = at.name()?;
    let (kind, class) = (at.u16()?, at.u16()?);
    at.skip(4)?;
    let length = usize::from(at.u16()?);
    let end = at.at.checked_add(length).filter(|end| *end <= at.message.len())?;
    let data = match (class, kind) {
        (CLASS_IN, 1) => Data::Address(Ipv4Addr::from(<[u8; 4]>::try_from(&at.message[at.at..end]).ok()?).into()),
        (CLASS_IN, 28) => Data::Address(Ipv6Addr::from(<[u8; 16]>::try_from(&at.message[at.at..end]).ok()?).into()),
        (CLASS_IN, CNAME) => {
            let target = at.name()?;
            if at.at != end {
                return None;
            }
            Data::Alias(target)
        }
        _ => Data::Other,
    };
    at.at = end;
    Some(Record { owner, data })
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn skip(&mut self, n: usize) -> Option<()> {
        self.at = self.at.checked_add(n).filter(|at| *at <= self.message.len())?;
        Some(())
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.message.get(self.at..self.at.checked_add(2)?)?;
        self.at += 2;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name in lower case, its labels joined by dots. Bytes that no host name has become `?`, which equals no question.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut at = self.at;
        // A pointer must lead to before the place where this stretch of the name began.
        let mut floor = at;
        let mut jumped = false;
        loop {
            let length = *self.message.get(at)?;
            match length {
                0 => {
                    if !jumped {
                        self.at = at + 1;
                    }
                    return Some(name);
                }
                1..=63 => {
                    let label = self.message.get(at + 1..at + 1 + usize::from(length))?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    let letter = |b: &u8| match b {
                        b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_') => b.to_ascii_lowercase() as char,
                        _ => '?',
                    };
                    name.extend(label.iter().map(letter));
                    if name.len() > 253 {
                        return None;
                    }
                    at += 1 + usize::from(length);
                }
                0xc0.. => {
                    let low = *self.message.get(at + 1)?;
                    if !jumped {
                        self.at = at + 2;
                        jumped = true;
                    }
                    let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                    if target >= floor {
                        return None;
                    }
                    (at, floor) = (target, target);
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
        [id, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect()
    }

    /// A reply to the question about `a.example`, with these records behind the question (which stands at byte 12).
    fn message(flags: u16, records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut m = header(7, flags, [1, u16::try_from(records.len()).unwrap(), 0, 0]);
        m.extend(b"\x01A\x07Example\x00\x00\x01\x00\x01");
        for (owner, kind, data) in records {
            m.extend(*owner);
            m.extend(kind.to_be_bytes());
            m.extend([0, 1, 0, 0, 0, 9]);
            m.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            m.extend(*data);
        }
        m
    }

    fn read(m: &[u8]) -> Option<Reply> {
        reply(m, 7, "a.example", Kind::A)
    }

    #[test]
    fn questions_are_as_in_the_rfc() {
        let q = question(0x0102, "a.example", Kind::Aaaa, true);
        let want = b"\x01\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x01a\x07example\x00\x00\x1c\x00\x01\x00\x00\x29\x04\xd0\0\0\0\0\0\0";
        assert_eq!(q, want);
        assert_eq!(question(1, "a", Kind::A, false).len(), 12 + 3 + 4);
    }

    #[test]
    fn addresses_of_aliases() {
        let m = message(
            0x8180,
            &[
                (b"\xc0\x0c", 5, b"\x01b\xc0\x0e"),
                (b"\x01b\x07example\0", 1, &[192, 0, 2, 1]),
                (b"\x01c\x07example\0", 1, &[192, 0, 2, 9]),
                (b"\xc0\x0c", 1, &[192, 0, 2, 8]),
                (b"\x01b\x07example\0", 16, b"text"),
            ],
        );
        assert_eq!(read(&m), Some(Reply::Addresses(vec![[192, 0, 2, 1].into()])));
        assert_eq!(read(&message(0x8180, &[])), Some(Reply::Addresses(Vec::new())));
        // An alias of itself ends.
        assert_eq!(read(&message(0x8180, &[(b"\xc0\x0c", 5, b"\xc0\x0c")])), Some(Reply::Addresses(Vec::new())));
    }

    #[test]
    fn what_is_no_reply_to_the_question() {
        let good = message(0x8180, &[(b"\xc0\x0c", 1, &[192, 0, 2, 1])]);
        assert!(read(&good).is_some());
        assert_eq!(reply(&good, 8, "a.example", Kind::A), None);
        assert_eq!(reply(&good, 7, "b.example", Kind::A), None);
        assert_eq!(reply(&good, 7, "a.example", Kind::Aaaa), None);
        for flags in [0x0180, 0x8980] {
            assert_eq!(read(&message(flags, &[])), None, "{flags:x}");
        }
        for n in 0..good.len() {
            assert_eq!(read(&good[..n]), None, "{n} bytes");
        }
        // A pointer to itself, one forwards, a reserved label, an address of three bytes.
        for owner in [&b"\xc0\x1b"[..], b"\xc0\x40", b"\x40x", b"\xff\xff"] {
            assert_eq!(read(&message(0x8180, &[(owner, 1, &[1, 2, 3, 4])])), None, "{owner:?}");
        }
        assert_eq!(read(&message(0x8180, &[(b"\xc0\x0c", 1, &[1, 2, 3])])), None);
    }

    #[test]
    fn codes() {
        assert_eq!(read(&message(0x8183, &[])), Some(Reply::NoName));
        assert_eq!(read(&message(0x8380, &[])), Some(Reply::Truncated));
        assert_eq!(read(&message(0x8182, &[])), Some(Reply::Failed(2)));
        assert_eq!(read(&message(0x8181, &[])), Some(Reply::NoEdns));
        assert_eq!(read(&header(7, 0x8181, [0; 4])), Some(Reply::NoEdns));
    }

    #[test]
    fn names() {
        assert_eq!(name("Images.Example.").as_deref(), Some("images.example"));
        for bad in ["", ".", "a..b", "-a", "a b", "ä", &"a".repeat(64), &"a.".repeat(128)] {
            assert_eq!(name(bad), None, "{bad}");
        }
    }
}
