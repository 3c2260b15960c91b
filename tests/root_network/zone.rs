//! DNS zones: as objects, and as the world outside is told of them; and what needs OVN.

use crate::common_root::{State, have, on, run, skip};
use crate::support::{Ask, state};
use crate::world::{HOST, OUTSIDE, World, host, host_try};
use std::net::UdpSocket;
use std::time::Duration;

/// The answer of the DNS server of the host to a question from outside (RFC 1035, section 4.1): its code, whether it is
/// authoritative, and all of it.
fn question(world: &World, name: &str, kind: u16) -> (u8, bool, Vec<u8>) {
    let mut asked = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        asked.push(u8::try_from(label.len()).unwrap());
        asked.extend(label.as_bytes());
    }
    asked.push(0);
    asked.extend(kind.to_be_bytes());
    asked.extend([0, 1]);
    let answer = world.outside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(&asked, (HOST, 5300)).unwrap();
        let mut answer = [0; 512];
        on(|| socket.recv(&mut answer)).map(|n| answer[..n].to_vec()).unwrap_or_default()
    });
    if answer.len() < 12 {
        return (255, false, answer);
    }
    (answer[3] & 15, answer[2] & 4 != 0, answer)
}

#[test]
fn the_world_is_told_of_zones() {
    let Some(state) = state("the_world_is_told_of_zones") else { return };
    let world = World::new(&state);
    let good = |words: &str| state.good(&words.split(' ').collect::<Vec<_>>());
    good("network zone create lab.example dns.nameservers=ns1.lab.example");
    good("network zone create 0.77.10.in-addr.arpa");
    good("network create testbr0 ipv4.address=10.77.0.1/24 ipv6.address=none");
    good("network set testbr0 dns.zone.forward=lab.example dns.zone.reverse.ipv4=0.77.10.in-addr.arpa");
    good("network zone record create lab.example www");
    good("network zone record entry add lab.example www A 10.77.0.200");
    let holds = |name: &str, kind: u16, data: &[u8]| {
        let (code, authoritative, answer) = question(&world, name, kind);
        code == 0 && authoritative && answer.windows(data.len()).any(|part| part == data)
    };
    // Nobody is asked as long as there is no address.
    assert_eq!(question(&world, "www.lab.example", 1).0, 255);
    good(&format!("config set core.dns_address={HOST}:5300"));
    assert!(holds("www.lab.example", 1, &[10, 77, 0, 200]));
    // An instance, from when it has started; its address is known before it has asked for one.
    state.launch("c1", &["-n", "testbr0"]).good().unwrap();
    assert!(holds("c1.lab.example", 1, &[10, 77, 0, 2]));
    assert!(holds("2.0.77.10.in-addr.arpa", 12, b"\x02c1"));
    good("network zone record entry add lab.example www TXT hello");
    assert!(holds("www.lab.example", 16, b"\x05hello"));
    good("network zone record entry remove lab.example www A 10.77.0.200");
    assert!(!holds("www.lab.example", 1, &[10, 77, 0, 200]));
    // One process says whatever it is told of; it is nobody, and may do nothing.
    let pid = pid(&state);
    wildcards_and_lifetimes(&state, &holds);
    hostile_packets(&world);
    transfers(&state, &world);
    others_have_it_too(&state, &world);
    assert_eq!(self::pid(&state), pid);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in ["Uid:\t65534\t65534\t65534\t65534", "Gid:\t65534\t65534\t65534\t65534", "CapPrm:\t0000000000000000"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    killed(&state, &holds);
    state.good(&["delete", "-f", "c1"]);
    assert!(!holds("c1.lab.example", 1, &[10, 77, 0, 2]));
    // An address that is taken, or nobody's, changes nothing.
    let taken = UdpSocket::bind((HOST, 5301)).unwrap();
    for (address, said) in [
        (format!("{HOST}:5301"), "Address already in use"),
        ("192.0.2.77".to_string(), "Cannot assign requested address"),
        ("nonsense".to_string(), "expecting an IP address"),
        ("0.0.0.0".to_string(), "expecting one address of the host"),
    ] {
        let out = state.run(&["config", "set", &format!("core.dns_address={address}")]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{address}: {out}");
        assert_eq!(good("config get core.dns_address"), format!("{HOST}:5300\n"));
        assert!(holds("www.lab.example", 16, b"\x05hello"), "{address}");
    }
    drop(taken);
    good("config unset core.dns_address");
    assert_eq!(question(&world, "www.lab.example", 1).0, 255);
    good("network delete testbr0");
    good("network zone delete lab.example");
    good("network zone delete 0.77.10.in-addr.arpa");
    drop(world);
    state.finish();
}

/// Names that nobody has are found under a wildcard, and nothing is kept longer than asked for.
fn wildcards_and_lifetimes(state: &State, holds: &dyn Fn(&str, u16, &[u8]) -> bool) {
    let zone = |words: &str| {
        let words: Vec<&str> = ["network", "zone", "record"].into_iter().chain(words.split(' ')).collect();
        state.good(&words)
    };
    let ttl = |seconds: u32| [&[0, 1, 0, 1][..], &seconds.to_be_bytes(), &[0, 4, 10, 77, 0, 201]].concat();
    assert!(!holds("anything.lab.example", 1, &[10, 77, 0, 201]));
    zone("create lab.example *");
    zone("entry add lab.example * A 10.77.0.201");
    zone("entry add lab.example * TXT any");
    zone("create lab.example *.sub");
    state.good(&["network", "zone", "record", "entry", "add", "lab.example", "*.sub", "MX", "5 mail.lab.example"]);
    for name in ["anything.lab.example", "a.b.lab.example"] {
        assert!(holds(name, 1, &ttl(300)), "{name}");
        assert!(holds(name, 16, b"\x03any"), "{name}");
    }
    assert!(holds("x.sub.lab.example", 15, b"\x00\x05\x04mail"));
    assert!(holds("www.lab.example", 16, b"\x05hello") && !holds("www.lab.example", 1, &[10, 77, 0, 201]));
    zone("entry add lab.example www A 10.77.0.201 --ttl 40");
    zone("entry add lab.example www A 10.77.0.203 --ttl 4000");
    assert!(holds("www.lab.example", 1, &ttl(40)), "its own");
    assert!(holds("anything.lab.example", 1, &ttl(300)));
    for name in ["*", "*.sub"] {
        zone(&format!("delete lab.example {name}"));
    }
    zone("entry remove lab.example www A 10.77.0.201");
    zone("entry remove lab.example www A 10.77.0.203");
    assert!(!holds("anything.lab.example", 1, &[10, 77, 0, 201]));
}

/// The server's process.
fn pid(state: &State) -> String {
    let text = std::fs::read_to_string(state.path("run/zones/process")).unwrap();
    text.split(' ').next().unwrap().to_string()
}

/// One that was killed is found, and comes back with the next command.
fn killed(state: &State, holds: &dyn Fn(&str, u16, &[u8]) -> bool) {
    let before = pid(state);
    // What does not concern it leaves it alone.
    state.good(&["network", "zone", "record", "create", "lab.example", "@", "user.x=y"]);
    state.good(&["config", "set", "core.shutdown_timeout=4"]);
    assert_eq!(pid(state), before);
    host(&format!("kill -9 {before}"));
    assert!(state.doctor().unwrap_err().contains("DNS server of zones"));
    state.good(&["doctor", "--fix"]);
    assert!(holds("c1.lab.example", 1, &[10, 77, 0, 2]));
    host(&format!("kill -9 {}", pid(state)));
    state.good(&["network", "zone", "record", "entry", "add", "lab.example", "www", "TXT", "again"]);
    assert!(holds("www.lab.example", 16, b"\x05again") && holds("www.lab.example", 16, b"\x05hello"));
    state.doctor().unwrap();
}

/// What comes from strangers does not stop it from answering others.
fn hostile_packets(world: &World) {
    use std::io::{Read, Write};
    world.outside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let mut seed = 1u32;
        for length in 0..600 {
            let byte = |_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            };
            let packet: Vec<u8> = (0..length).map(byte).collect();
            socket.send_to(&packet, (HOST, 5300)).unwrap();
        }
        let connect = || std::net::TcpStream::connect((HOST, 5300)).unwrap();
        // Those who only wait make room for the next.
        let mut idle: Vec<_> = (0..100).map(|_| connect()).collect();
        idle.iter_mut().for_each(|stream| drop(stream.write_all(&[0, 40, 1])));
        let mut long = connect();
        let _ = long.write_all(&[255; 9000]);
        long.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(on(|| long.read(&mut [0; 9])).map_or(true, |n| n == 0), "what is too long is not read");
        // Several questions in one go, one after the other.
        let mut stream = connect();
        let question = b"\0\x21\x12\x34\0\0\0\x01\0\0\0\0\0\0\x03www\x03lab\x07example\0\0\x10\0\x01";
        let all: Vec<u8> = (0..100).flat_map(|_| [&[0, 33], &question[2..]].concat()).collect();
        stream.write_all(&all).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answers = Vec::new();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        on(|| stream.read_to_end(&mut answers)).unwrap();
        assert_eq!(answers.windows(6).filter(|part| *part == b"\x05hello").count(), 100);
    });
}

/// What dig says outside.
fn dig(world: &World, words: &str) -> String {
    world.sh(&format!("dig @{HOST} -p 5300 +time=3 +tries=1 +noall +answer +authority +additional {words}"))
}

/// Keys in base64, of 32 bytes.
const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const OTHER: &str = "MTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// Only peers get all of a zone, and only of theirs.
fn transfers(state: &State, world: &World) {
    let zone = |words: &str| {
        let words: Vec<&str> = ["network", "zone"].into_iter().chain(words.split(' ')).collect();
        state.good(&words)
    };
    let reverse = "0.77.10.in-addr.arpa";
    zone(&format!("record create {reverse} 9"));
    zone(&format!("record entry add {reverse} 9 PTR host.elsewhere.example"));
    zone("record create lab.example sub");
    zone("record entry add lab.example sub NS ns.sub.lab.example --ttl 77");
    zone("record create lab.example ns.sub");
    zone("record entry add lab.example ns.sub A 10.77.0.209");
    if !have("dig") {
        return skip("the_world_is_told_of_zones", "no dig: transfers");
    }
    let referral = dig(world, "x.sub.lab.example");
    assert!(referral.contains("77\tIN\tNS\tns.sub.lab.example.") && referral.contains("10.77.0.209"), "{referral}");
    assert!(dig(world, "-x 10.77.0.9").contains("PTR\thost.elsewhere.example."));
    let all = |words: &str| {
        let said = dig(world, words);
        assert_eq!(said.contains("SOA"), !said.contains("Transfer failed"), "{said}");
        said
    };
    assert!(!all("axfr lab.example").contains("hello"));
    zone("set lab.example dns.nameservers=ns1.lab.example,ns2.lab.example");
    assert!(!all("axfr lab.example").contains("hello"), "another server is no peer");
    zone(&format!("set lab.example peers.ns2.address={OUTSIDE}"));
    let whole = all("axfr lab.example");
    for part in ["ns2.lab.example.", "\"hello\"", "c1.lab.example.", "77\tIN\tNS", "ns1.lab.example. hostmaster.ns1"] {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    assert!(!all(&format!("axfr {reverse}")).contains("PTR"), "a peer of one zone is one of no other");
    zone("create more.example");
    assert!(!all("axfr more.example").contains("SOA") && all("axfr lab.example").contains("hello"));
    zone("delete more.example");
    assert!(all("ixfr=1 lab.example").contains("hello"));
    // With a key, whoever has it; with an address too, whoever has it there.
    zone(&format!("set {reverse} peers.r.key={KEY}"));
    for address in [OUTSIDE, "192.0.2.1", ""] {
        zone(&format!("set {reverse} peers.r.address={address}"));
        let with = |key: &str| all(&format!("-y hmac-sha256:{key} axfr {reverse}"));
        let right = with(&format!("{reverse}_r:{KEY}"));
        assert_eq!(right.contains("PTR\tc1.lab.example."), address != "192.0.2.1", "{address}: {right}");
        for wrong in [format!("{reverse}_r:{OTHER}"), format!("{reverse}_q:{KEY}"), format!("lab.example_ns2:{KEY}")] {
            assert!(!with(&wrong).contains("PTR"), "{wrong}");
        }
        assert!(!all(&format!("axfr {reverse}")).contains("PTR"));
    }
}

/// A secondary server takes both zones, and is told of changes.
fn others_have_it_too(state: &State, world: &World) {
    if !have("nsd") || !have("dig") {
        return skip("the_world_is_told_of_zones", "no nsd: a secondary server");
    }
    let dir = state.path("nsd");
    std::fs::create_dir_all(&dir).unwrap();
    let at = dir.display();
    let text = format!(
        "server:\n  ip-address: {OUTSIDE}\n  port: 53\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{at}\"\n  xfrdir: \"{at}\"\n  database: \"\"\n  \
         pidfile: \"{at}/pid\"\n  xfrdfile: \"{at}/xfrd\"\n  zonelistfile: \"{at}/list\"\n  server-count: 1\n\
         remote-control:\n  control-enable: no\n\
         key:\n  name: 0.77.10.in-addr.arpa_r\n  algorithm: hmac-sha256\n  secret: {KEY}\n\
         zone:\n  name: lab.example\n  request-xfr: {HOST}@5300 NOKEY\n  allow-notify: {HOST} NOKEY\n\
         zone:\n  name: 0.77.10.in-addr.arpa\n  request-xfr: {HOST}@5300 0.77.10.in-addr.arpa_r\n  \
         allow-notify: {HOST} 0.77.10.in-addr.arpa_r\n"
    );
    std::fs::write(dir.join("conf"), text).unwrap();
    state.good(&["network", "zone", "set", "0.77.10.in-addr.arpa", &format!("peers.r.address={OUTSIDE}")]);
    let space = world.pid().to_string();
    let conf = dir.join("conf");
    let mut server = std::process::Command::new("nsenter");
    server.args(["-t", &space, "-n", "nsd", "-d", "-c"]).arg(&conf);
    let null = std::process::Stdio::null;
    let _server = Secondary(server.stdin(null()).stdout(null()).stderr(null()).spawn().unwrap());
    let soon = |words: &str, part: &str| {
        let words = format!("dig @{OUTSIDE} +time=1 +tries=1 +short {words}");
        let ask = || host_try(&words).unwrap_or_default();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while !ask().contains(part) {
            assert!(std::time::Instant::now() < until, "{words}: {}", ask());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    soon("c1.lab.example", "10.77.0.2");
    soon("-x 10.77.0.2", "c1.lab.example.");
    state.good(&["network", "zone", "record", "entry", "add", "lab.example", "www", "AAAA", "fd42::7"]);
    state.good(&["network", "zone", "record", "entry", "add", "0.77.10.in-addr.arpa", "9", "TXT", "told"]);
    soon("www.lab.example AAAA", "fd42::7");
    soon("9.0.77.10.in-addr.arpa TXT", "told");
}

/// It has children that end with it, but not when it is killed.
struct Secondary(std::process::Child);

impl Drop for Secondary {
    fn drop(&mut self) {
        let _ = host_try(&format!("kill {}", self.0.id()));
        let _ = self.0.wait();
    }
}

#[test]
fn zones_and_their_records() {
    let Some(state) = state("zones_and_their_records") else { return };
    let zone = |words: &str| {
        let words: Vec<&str> = ["network", "zone"].into_iter().chain(words.split(' ')).collect();
        state.good(&words)
    };
    assert_eq!(
        zone("create lab.example dns.nameservers=ns1.lab.example user.x=1"),
        "Network zone lab.example created\n"
    );
    zone("create 77.10.in-addr.arpa --description reverse");
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "dns.zone.forward=lab.example"]);
    state.good(&["network", "set", "testbr0", "dns.zone.reverse.ipv4=77.10.in-addr.arpa"]);
    assert_eq!(zone("list -f csv"), "77.10.in-addr.arpa,reverse,1\nlab.example,,1\n");
    let shown = zone("show lab.example");
    assert_eq!(
        shown,
        "description: \"\"\nconfig:\n  dns.nameservers: ns1.lab.example\n  user.x: \"1\"\nname: lab.example\nused_by:\n\
         - /1.0/networks/testbr0\nproject: default\n"
    );
    let edit = state.command(&["network", "zone", "edit", "lab.example"]);
    run(edit, Some(&shown.replace("\"\"", "the lab")), Duration::from_secs(20)).good().unwrap();
    zone("set lab.example network.nat=false");
    zone("unset lab.example user.x");
    assert_eq!(zone("get lab.example network.nat"), "false\n");
    assert_eq!(zone("get -p lab.example description"), "the lab\n");
    assert_eq!(zone("record create lab.example www --description web"), "Network zone record www created\n");
    zone("record entry add lab.example www A 10.77.0.5 --ttl 900");
    zone("record entry add lab.example www TXT hello");
    zone("record create lab.example @ user.y=2");
    assert_eq!(zone("record list lab.example -f csv"), "@,,\nwww,web,\"A 10.77.0.5\nTXT hello\"\n");
    assert_eq!(
        zone("record show lab.example www"),
        "description: web\nentries:\n- type: A\n  ttl: 900\n  value: 10.77.0.5\n- type: TXT\n  value: hello\nconfig: {}\nname: www\n"
    );
    zone("record entry remove lab.example www TXT hello");
    refusals(&state);
    assert_eq!(zone("record delete lab.example @"), "Network zone record @ deleted\n");
    state.good(&["network", "delete", "testbr0"]);
    assert_eq!(zone("delete lab.example"), "Network zone lab.example deleted\n");
    zone("create lab.example");
    assert_eq!(zone("record list lab.example -f csv"), "", "records go with their zone");
    zone("delete lab.example");
    zone("delete 77.10.in-addr.arpa");
    state.finish();
}

/// What is wrong is said, and changes nothing.
fn refusals(state: &State) {
    let refused = |words: &str, said: &str| {
        let words: Vec<&str> = ["network"].into_iter().chain(words.split(' ')).collect();
        let out = state.run(&words);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{words:?}: {out}");
    };
    refused("zone create lab.example", "The network zone already exists");
    refused("zone create bad..name", "Invalid network zone name");
    refused("zone create x.example colour=red", "Invalid config option \"colour\"");
    refused("zone show other.example", "Network zone not found");
    refused("zone delete lab.example", "Cannot delete a zone that is in use");
    refused("zone record show lab.example nowhere", "Network zone record not found");
    refused("zone record create lab.example www", "The network zone record already exists");
    refused("zone record entry add lab.example www A nonsense", "Invalid value \"nonsense\"");
    refused("zone record entry add lab.example www A 10.77.0.5", "Duplicate record for type \"A\"");
    refused("zone record entry remove lab.example www A 10.0.0.1", "Couldn't find a matching entry");
    refused("zone record entry add lab.example www NAPTR x", "Records of type \"NAPTR\" are not supported");
    refused("zone set lab.example peers.a.key=no!", "Invalid value for a base64 string");
    refused(
        &format!("zone set lab.example peers.{}.key=c2VjcmV0", "a".repeat(60)),
        "is too long for the name of a key",
    );
    refused("set testbr0 dns.zone.forward=other.example", "Network zone not found");
    refused("set testbr0 dns.zone.forward=lab.example,lab.example", "contains multiple zones from the same project");
    refused("set testbr0 dns.zone.forward=77.10.in-addr.arpa", "is not one for what the network names it for");
    refused("peer create testbr0 x y", "Network peers need OVN");
    refused("load-balancer list testbr0", "Network load balancers need OVN");
    refused("integration list", "Network integrations need OVN");
}
