//! The resolver against a server on loopback in this process.

use super::*;
use std::net::TcpListener;

/// A server's answer to question `n` (0 is A, 1 is AAAA).
type Script = fn(&[u8]) -> Vec<Vec<u8>>;

/// A DNS server on a port of loopback; over TCP it answers with what `tcp` says. Ends with the test process.
fn serve(udp: Script, tcp: Option<Script>) -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    if let Some(tcp) = tcp {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut question = vec![0; 2];
                stream.read_exact(&mut question).unwrap();
                let mut question = vec![0; usize::from(question[1])];
                stream.read_exact(&mut question).unwrap();
                for answer in tcp(&question) {
                    let length = u16::try_from(answer.len()).unwrap();
                    stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).unwrap();
                }
            }
        });
    }
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        loop {
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            for answer in udp(&buffer[..n]) {
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    port
}

fn is_a(question: &[u8]) -> bool {
    let end = 12 + question[12..].iter().position(|b| *b == 0).unwrap();
    question[end + 2] == 1
}

/// The question turned into a reply with these flags and, for A, this address.
fn answer(question: &[u8], flags: u16, address: Option<[u8; 4]>) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|b| *b == 0).unwrap() + 5;
    let mut reply = question[..end].to_vec();
    reply[2..4].copy_from_slice(&flags.to_be_bytes());
    reply[7] = u8::from(address.is_some());
    reply[11] = 0;
    if let Some(address) = address {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address);
    }
    reply
}

fn good(question: &[u8]) -> Vec<Vec<u8>> {
    vec![answer(question, 0x8180, is_a(question).then_some([192, 0, 2, 7]))]
}

fn resolver(dir: &tempfile::TempDir, port: u16, conf: &str) -> Resolver {
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("hosts"), "192.0.2.99 static.example\n").unwrap();
    std::fs::write(path("resolv.conf"), format!("nameserver 127.0.0.1\n{conf}\n")).unwrap();
    Resolver { hosts: path("hosts"), conf: path("resolv.conf"), port }
}

fn resolve(udp: Script, tcp: Option<Script>, conf: &str, name: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    match resolver(&dir, serve(udp, tcp), conf).resolve(name) {
        Ok(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(e) => format!("{e:#}"),
    }
}

#[test]
fn asks_the_server_and_reads_hosts() {
    assert_eq!(resolve(good, None, "", "images.example"), "192.0.2.7");
    assert_eq!(resolve(good, None, "", "static.example"), "192.0.2.99");
    assert_eq!(resolve(good, None, "", "::1"), "::1");
    let local = resolve(good, None, "", "localhost");
    assert!(local.contains("127.0.0.1"), "{local}");
}

#[test]
fn forged_replies_are_passed_over() {
    let forged: Script = |question| {
        let mut id = answer(question, 0x8180, Some([192, 0, 2, 66]));
        id[0] ^= 1;
        let mut name = answer(question, 0x8180, Some([192, 0, 2, 66]));
        name[13] = b'x';
        let mut all = vec![id, name, b"junk".to_vec(), Vec::new()];
        all.extend(good(question));
        all
    };
    assert_eq!(resolve(forged, None, "", "images.example"), "192.0.2.7");
}

#[test]
fn truncation_leads_to_tcp() {
    let short: Script = |question| vec![answer(question, 0x8380, None)];
    assert_eq!(resolve(short, Some(good), "", "images.example"), "192.0.2.7");
    assert_eq!(resolve(short, Some(good), "options use-vc", "images.example"), "192.0.2.7");
}

#[test]
fn old_servers_are_asked_without_edns() {
    let old: Script = |question| match question[11] {
        1 => vec![answer(question, 0x8181, None)],
        _ => good(question),
    };
    assert_eq!(resolve(old, None, "", "images.example"), "192.0.2.7");
}

#[test]
fn search_domains() {
    let one: Script = |question| match question[12..].starts_with(b"\x06images\x04corp\x07example\0") {
        true => good(question),
        false => vec![answer(question, 0x8183, None)],
    };
    assert_eq!(resolve(one, None, "search other.example corp.example", "images"), "192.0.2.7");
    let none = resolve(one, None, "search other.example", "images");
    assert!(none.contains("Failed resolving \"images\"") && none.contains("No such host"), "{none}");
}

#[test]
fn silence_and_failure_have_their_words() {
    let silent = resolve(|_| Vec::new(), None, "options timeout:1 attempts:1", "images.example");
    assert!(silent.contains("Name server 127.0.0.1") && silent.contains("No answer in time"), "{silent}");
    let broken = resolve(|q| vec![answer(q, 0x8182, None)], None, "options attempts:1", "images.example");
    assert!(broken.contains("The server failed"), "{broken}");
    assert!(resolve(good, None, "", "not a name").contains("Invalid host name"));
}
