//! Proxies of instances that run: they come, change and go at once, or nothing changes; those of the firewall follow the
//! addresses of their instance.

use crate::common_root::State;
use crate::support::{Ask, state};
use crate::world::{HOST, World, get, host};
use std::io::{Read, Write};

const SERVE: &str = "mkdir -p /www; echo c1 > /www/name; httpd -p 80 -h /www; httpd -p 81 -h /www";

fn device(state: &State, words: &str) -> String {
    let words: Vec<&str> = ["config", "device"].into_iter().chain(words.split(' ')).collect();
    state.good(&words)
}

fn refused(state: &State, words: &str, said: &str) {
    let before = everything(state);
    let out = state.run(&words.split(' ').collect::<Vec<_>>());
    out.clean_failure().unwrap();
    assert!(out.stderr.contains(said), "{out}");
    assert_eq!(everything(state), before, "{words}");
}

/// The records, and what of the firewall is ours.
fn everything(state: &State) -> [String; 3] {
    let shown = |name: &str| state.run(&["config", "show", name]).stdout;
    let rules = host("nft list ruleset");
    let empty = |family: &str, table: &str| format!("table {family} {table} {{\n}}\n");
    let tag = stapes::ops::load::tag(&state.layout()).unwrap_or_default();
    let table = format!("stapes-{tag}");
    let rules = rules.replace(&empty("inet", &table), "").replace(&empty("bridge", &table), "");
    [shown("c1"), state.good(&["profile", "show", "default"]), rules]
}

/// What stands in the files of proxies of an instance.
fn files(state: &State, name: &str) -> usize {
    std::fs::read_dir(state.path(&format!("run/instances/default_{name}/proxies"))).into_iter().flatten().count()
}

#[test]
fn a_process_comes_changes_and_goes() {
    let Some(state) = state("a_process_comes_changes_and_goes") else { return };
    state.launch("c1", &[]).good().unwrap();
    state.sh("c1", SERVE);
    device(&state, "add c1 web proxy listen=tcp:127.0.0.1:8000 connect=tcp:127.0.0.1:80");
    assert_eq!(get("127.0.0.1", 8000), "c1");
    assert_eq!(files(&state, "c1"), 1);
    // Not in our session and not in our cgroup: it outlives whoever added it.
    let file = std::fs::read_to_string(state.path("run/instances/default_c1/proxies/web")).unwrap();
    let pid = file.split(' ').next().unwrap();
    let group = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(stat.rsplit(") ").next().unwrap().split(' ').nth(3), Some(pid), "it leads its session");
    assert!(group(pid).contains("monitors"), "{}", group(pid));
    // Another address, and back: what it does not say any more is free.
    device(&state, "set c1 web listen=tcp:127.0.0.1:8001");
    assert_eq!((get("127.0.0.1", 8000).as_str(), get("127.0.0.1", 8001).as_str()), ("", "c1"));
    device(&state, "set c1 web listen=tcp:127.0.0.1:8000 connect=tcp:127.0.0.1:81");
    assert_eq!((get("127.0.0.1", 8000).as_str(), get("127.0.0.1", 8001).as_str()), ("c1", ""));
    device(&state, "set c1 web proxy_protocol=true");
    device(&state, "unset c1 web proxy_protocol");
    assert_eq!(get("127.0.0.1", 8000), "c1");
    // What says nothing about it leaves it alone, and its connections.
    let mut kept = std::net::TcpStream::connect("127.0.0.1:8000").unwrap();
    device(&state, "set c1 web user.x=1");
    device(&state, "add c1 other proxy listen=unix:@stapes-live connect=tcp:127.0.0.1:80");
    device(&state, "remove c1 other");
    kept.write_all(b"GET /name HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("c1\n"), "{answer}");
    // Refused is refused as a whole, and what there was goes on.
    let taken = std::net::TcpListener::bind("127.0.0.1:8002").unwrap();
    let in_use = "Failed to start device \"web\": Failed to listen on tcp:127.0.0.1:8002";
    refused(&state, "config device set c1 web listen=tcp:127.0.0.1:8002", in_use);
    assert_eq!(get("127.0.0.1", 8000), "c1");
    refused(&state, "config device add c1 two proxy listen=tcp:127.0.0.1:8002 connect=tcp:127.0.0.1:80", "8002");
    refused(&state, "config device add c1 two proxy listen=udp:127.0.0.1:8 connect=tcp:127.0.0.1:80", "not supported");
    assert_eq!(files(&state, "c1"), 1);
    drop(taken);
    // A socket that is a file goes with it.
    let socket = state.path("web.sock");
    device(&state, &format!("add c1 file proxy listen=unix:{} connect=tcp:127.0.0.1:80", socket.display()));
    assert!(socket.exists());
    device(&state, "remove c1 file");
    assert!(!socket.exists());
    device(&state, "remove c1 web");
    assert_eq!((get("127.0.0.1", 8000).as_str(), files(&state, "c1")), ("", 0));
    state.doctor().unwrap();
    state.good(&["delete", "-f", "c1"]);
    state.finish();
}

#[test]
fn a_profile_brings_proxies_to_all_or_none() {
    let Some(state) = state("a_profile_brings_proxies_to_all_or_none") else { return };
    let add = |name: &str, words: &str| {
        let words: Vec<&str> =
            ["profile", "device", "add", "default", name, "proxy"].into_iter().chain(words.split(' ')).collect();
        state.run(&words)
    };
    for name in ["c1", "c2"] {
        state.launch(name, &[]).good().unwrap();
        state.sh(name, SERVE);
    }
    // Both cannot have the same port.
    let before = everything(&state);
    let out = add("web", "listen=tcp:127.0.0.1:8000 connect=tcp:127.0.0.1:80");
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Failed to listen on tcp:127.0.0.1:8000"), "{out}");
    assert_eq!(everything(&state), before);
    assert_eq!((get("127.0.0.1", 8000).as_str(), files(&state, "c1"), files(&state, "c2")), ("", 0, 0));
    // On the other side each has its own.
    add("out", "bind=instance listen=tcp:127.0.0.1:3000 connect=tcp:127.0.0.1:8500").good().unwrap();
    let server = std::net::TcpListener::bind("127.0.0.1:8500").unwrap();
    for name in ["c1", "c2"] {
        let asked = std::thread::scope(|scope| {
            scope.spawn(|| state.try_sh(name, "echo hello | nc -w 2 127.0.0.1 3000"));
            let (mut stream, _) = server.accept().unwrap();
            let mut text = [0; 6];
            stream.read_exact(&mut text).unwrap();
            String::from_utf8(text.to_vec()).unwrap()
        });
        assert_eq!(asked, "hello\n", "{name}");
    }
    state.good(&["profile", "device", "remove", "default", "out"]);
    assert_eq!((files(&state, "c1"), files(&state, "c2")), (0, 0));
    assert!(!state.try_sh("c1", "echo hello | nc -w 2 127.0.0.1 3000").ok());
    state.good(&["delete", "-f", "c1", "c2"]);
    state.finish();
}

#[test]
fn the_firewall_follows_devices_and_addresses() {
    let Some(state) = state("the_firewall_follows_devices_and_addresses") else { return };
    let world = World::new(&state);
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"]);
    state.good(&["create", "test", "c1", "-n", "testbr0", "-d", "eth0,ipv4.address=10.77.0.11"]);
    state.good(&["start", "c1"]);
    let at = |last: u32| {
        state.sh(
            "c1",
            &format!(
                "ip addr flush dev eth0; ip addr add 10.77.0.{last}/24 dev eth0; ip route add default via 10.77.0.1"
            ),
        );
    };
    at(11);
    state.sh("c1", SERVE);
    device(&state, &format!("add c1 web proxy listen=tcp:{HOST}:8000 connect=tcp:0.0.0.0:80 nat=true"));
    assert_eq!(world.get(HOST, 8000), "c1");
    // The address of its interface changes.
    device(&state, "set c1 eth0 ipv4.address=10.77.0.21");
    at(21);
    assert_eq!(world.get(HOST, 8000), "c1");
    assert!(!host("nft list ruleset").contains("10.77.0.11"));
    // The subnet of its network does: whoever asks from within it is answered through the host.
    assert!(!host("nft list ruleset").contains("10.77.0.0/20"));
    state.good(&["network", "set", "testbr0", "ipv4.address=10.77.0.1/20"]);
    let rules = host("nft list ruleset");
    let of_proxy = rules.split("chain ").filter(|chain| chain.contains(".c1.web"));
    assert!(of_proxy.clone().any(|chain| chain.contains("10.77.0.0/20")), "{rules}");
    assert!(of_proxy.clone().all(|chain| !chain.contains("10.77.0.0/24")), "{rules}");
    assert_eq!(world.get(HOST, 8000), "c1");
    // Without one it would carry nowhere, and to that of another it may not.
    let said =
        "Failed to start device \"web\": Proxy connect IP cannot be used with any of the instance NICs static IPs";
    refused(&state, "config device unset c1 eth0 ipv4.address", said);
    refused(&state, "config device set c1 web connect=tcp:10.77.0.99:80", said);
    assert_eq!(world.get(HOST, 8000), "c1");
    // From the firewall to a process and back.
    device(&state, "set c1 web listen=tcp:127.0.0.1:8000 connect=tcp:127.0.0.1:81 nat=false");
    assert_eq!((get("127.0.0.1", 8000).as_str(), world.get(HOST, 8000).as_str()), ("c1", ""));
    assert!(!host("nft list ruleset").contains(".c1.web"));
    device(&state, &format!("set c1 web listen=tcp:{HOST}:8003 connect=tcp:0.0.0.0:80 nat=true"));
    assert_eq!((get("127.0.0.1", 8000).as_str(), world.get(HOST, 8003).as_str()), ("", "c1"));
    assert_eq!(files(&state, "c1"), 0);
    // Through a profile, to an instance with another address.
    device(&state, "remove c1 web");
    assert!(!host("nft list ruleset").contains(".c1.web"));
    let listen = format!("listen=tcp:{HOST}:8004");
    state.good(&["profile", "device", "add", "default", "web", "proxy", &listen, "connect=tcp:0.0.0.0:80", "nat=true"]);
    assert_eq!(world.get(HOST, 8004), "c1");
    state.good(&["profile", "device", "remove", "default", "web"]);
    assert_eq!(world.get(HOST, 8004), "");
    assert!(!host("nft list ruleset").contains(".c1.web"));
    state.doctor().unwrap();
    state.good(&["delete", "-f", "c1"]);
    state.good(&["network", "delete", "testbr0"]);
    drop(world);
    state.finish();
}
