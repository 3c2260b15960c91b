//! DNS zones: as objects, and as the world outside is told of them; and what needs OVN.

use crate::common_root::{State, on, run};
use crate::support::{Ask, state};
use crate::world::{HOST, OUTSIDE, World, host};
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
    wildcards_and_lifetimes(&state, &holds);
    transfers(&state, &world);
    // What does not concern it does not start it anew.
    let pid = || std::fs::read_to_string(state.path("run/zones/zones.pid")).unwrap();
    let before = pid();
    good("network zone record create lab.example @ user.x=y");
    good("config set core.shutdown_timeout=4");
    assert_eq!(pid(), before);
    // One that was killed is found, and mended.
    host(&format!("kill -9 {}", before.trim()));
    assert!(state.doctor().unwrap_err().contains("DNS server of zones"));
    state.good(&["doctor", "--fix"]);
    assert!(holds("c1.lab.example", 1, &[10, 77, 0, 2]));
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
    zone("entry add lab.example www A 10.77.0.202 --ttl 40");
    zone("entry add lab.example www A 10.77.0.203 --ttl 4000");
    assert!(holds("anything.lab.example", 1, &ttl(40)), "the shortest counts for all");
    for name in ["*", "*.sub"] {
        zone(&format!("delete lab.example {name}"));
    }
    zone("entry remove lab.example www A 10.77.0.202");
    zone("entry remove lab.example www A 10.77.0.203");
    assert!(!holds("anything.lab.example", 1, &[10, 77, 0, 201]));
}

/// Only peers get all of a zone.
fn transfers(state: &State, world: &World) {
    let all = || {
        let mut asked = vec![0, 29, 0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        asked.extend(b"\x03lab\x07example\0\0\xfc\0\x01");
        let told = world.outside(|| {
            use std::io::{Read, Write};
            let mut stream = std::net::TcpStream::connect((HOST, 5300)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.write_all(&asked).unwrap();
            let mut answer = vec![0; 4096];
            let n = on(|| stream.read(&mut answer)).unwrap_or(0);
            answer[..n].to_vec()
        });
        told.windows(6).any(|part| part == b"\x05hello")
    };
    let set = |words: &str| state.good(&["network", "zone", "set", "lab.example", words]);
    assert!(!all());
    set("dns.nameservers=ns1.lab.example,ns2.lab.example");
    assert!(!all(), "another server is no peer");
    set(&format!("peers.ns2.address={OUTSIDE}"));
    assert!(all());
    // To dnsmasq a peer is one of all zones: one that another zone does not have may have none.
    state.good(&["network", "zone", "create", "more.example"]);
    assert!(!all());
    let out = state.run(&["network", "zone", "set", "lab.example", "user.x=y"]);
    assert!(out.ok() && out.stderr.contains("zone more.example is served beside it"), "{out}");
    state.good(&["network", "zone", "set", "more.example", &format!("peers.other.address={OUTSIDE}")]);
    assert!(all());
    state.good(&["network", "zone", "set", "more.example", &format!("peers.third.address={HOST}")]);
    assert!(all());
    state.good(&["network", "zone", "delete", "more.example"]);
    state.good(&["network", "zone", "unset", "lab.example", "peers.ns2.address"]);
    assert!(!all());
    set("dns.nameservers=ns1.lab.example");
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
    refused(
        "zone record entry add lab.example www NS ns.elsewhere.example",
        "Records of type \"NS\" in zones are not supported",
    );
    refused(
        "zone record entry add lab.example www PTR c1.lab.example",
        "Records of type \"PTR\" in zones are not supported",
    );
    refused("zone set lab.example peers.a.key=c2VjcmV0", "TSIG keys of peers (\"peers.a.key\") are not supported");
    refused("zone create key.example peers.a.key=c2VjcmV0", "TSIG keys of peers (\"peers.a.key\") are not supported");
    refused("set testbr0 dns.zone.forward=other.example", "Network zone not found");
    refused("set testbr0 dns.zone.forward=lab.example,lab.example", "contains multiple zones from the same project");
    refused("set testbr0 dns.zone.forward=77.10.in-addr.arpa", "is not one for what the network names it for");
    refused("peer create testbr0 x y", "Network peers need OVN");
    refused("load-balancer list testbr0", "Network load balancers need OVN");
    refused("integration list", "Network integrations need OVN");
}
