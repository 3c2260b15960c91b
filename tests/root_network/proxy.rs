//! Proxies: bytes really go from one side of an instance to the other, by a process and by the firewall.

use crate::common_root::{State, on};
use crate::support::{Ask, state};
use crate::world::{HOST, OUTSIDE, World, ask, echo_once, get, host, inside};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

fn add(state: &State, device: &str) {
    let words: Vec<&str> = ["config", "device", "add", "c1"].into_iter().chain(device.split(' ')).collect();
    state.good(&words);
}

/// The processes of proxies of this state's instance `c1`.
fn processes(state: &State) -> Vec<(i32, String)> {
    let own = std::fs::read_link("/proc/thread-self/ns/user").unwrap();
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let file = std::fs::read_link(entry.path().join("fd/5")).unwrap_or_default();
        if words.starts_with(b"stapes-proxy\0default/c1 ") && file.starts_with(&state.dir) {
            let space = std::fs::read_link(entry.path().join("ns/user")).unwrap();
            all.push((pid, if space == own { "host" } else { "instance" }.to_string()));
        }
    }
    all
}

fn ask_stream(mut stream: UnixStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    stream.write_all(b"GET /name HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit("\r\n\r\n").next().unwrap().trim().to_string()
}

const SERVE: &str = "mkdir -p /www; echo c1 > /www/name; httpd -p 80 -h /www";

/// All bytes of both directions, each of which ends by itself; `base` is the host's id of root in the instance.
fn carries_whole(root: &std::path::Path, base: u32) {
    let bind = || Ok(UnixListener::bind(root.join("tmp/inside.sock")).unwrap());
    let server = stapes::sys::cred::with_fs_ids(base, base, bind).unwrap();
    std::fs::set_permissions(root.join("tmp/inside.sock"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let client = UnixStream::connect_addr(&SocketAddr::from_abstract_name("stapes-test").unwrap()).unwrap();
    let (mut there, _) = server.accept().unwrap();
    let user = nix::sys::socket::getsockopt(&there, nix::sys::socket::sockopt::PeerCredentials).unwrap();
    assert_eq!(user.uid(), base + 1000, "who connects is the user of the device");
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&data).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut whole = Vec::new();
        there.read_to_end(&mut whole).unwrap();
        assert!(whole == data, "{} of {} bytes", whole.len(), data.len());
        there.write_all(b"thanks").unwrap();
        drop(there);
        let mut answer = String::new();
        (&client).read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "thanks", "one direction ends before the other");
    });
}

/// Through the proxies in the instance to what only the host reaches.
fn reaches_the_world(state: &State, root: &std::path::Path) {
    let who = "GET /cgi-bin/who HTTP/1.0\r\n\r\n";
    assert!(inside(state, "c1", || ask("127.0.0.1", 3000, who)).contains(&format!("seen as {HOST}")));
    let there = state.sh("c1", "stat -c '%u %g %a %F' /run/host.sock");
    assert_eq!(there, "1000 1000 660 socket");
    let mut stream = UnixStream::connect(root.join("run/host.sock")).unwrap();
    stream.write_all(who.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(&format!("seen as {HOST}")), "{answer}");
}

fn carries_datagrams(state: &State, world: &World) {
    let echo = echo_once(inside(state, "c1", || UdpSocket::bind("127.0.0.1:5000").unwrap()));
    let udp = world.outside(|| UdpSocket::bind((OUTSIDE, 0)).unwrap());
    udp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    udp.send_to(b"hello", (HOST, 5000)).unwrap();
    let mut packet = [0; 64];
    let (n, from) = on(|| udp.recv_from(&mut packet)).unwrap();
    assert_eq!((&packet[..n], from.to_string()), (&b"hello"[..], format!("{HOST}:5000")));
    echo.join().unwrap();
}

fn says_who_asks(state: &State, world: &World) {
    let server = inside(state, "c1", || TcpListener::bind("127.0.0.1:81").unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(&stream), &mut line).unwrap();
        stream.write_all(b"ok").unwrap();
        line
    });
    world.outside(|| ask(HOST, 8001, "x"));
    let line = asked.join().unwrap();
    assert!(line.starts_with(&format!("PROXY TCP4 {OUTSIDE} {HOST} ")) && line.ends_with(" 8001\r\n"), "{line:?}");
}

/// What listens on the host has nothing else left of it; each is small.
fn are_small(state: &State) {
    let all = processes(state);
    let there = all.iter().filter(|(_, where_)| where_ == "instance").count();
    assert_eq!((all.len(), there), (8, 6), "{all:?}");
    let pss = |pid: &str| -> u32 {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = rollup.lines().find_map(|l| l.strip_prefix("Pss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let monitor = std::fs::read_to_string(format!("/proc/{}/stat", all[0].0)).unwrap();
    let monitor = pss(monitor.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap());
    for (pid, _) in &all {
        let own = pss(&pid.to_string());
        assert!(own < monitor + monitor / 2 + 200, "{own} kB, the monitor has {monitor} kB");
    }
}

#[test]
fn a_process_carries_between_all_kinds_of_sockets() {
    let Some(state) = state("a_process_carries_between_all_kinds_of_sockets") else { return };
    let world = World::new(&state);
    state.good(&["create", "test", "c1"]);
    let socket = state.path("web.sock");
    for device in [
        &format!("web proxy listen=tcp:{HOST}:8000 connect=tcp:127.0.0.1:80"),
        "many proxy listen=tcp:127.0.0.1:9000-9001,9005 connect=tcp:127.0.0.1:80",
        &format!("file proxy listen=unix:{} connect=tcp:127.0.0.1:80 mode=0600", socket.display()),
        "abstract proxy listen=unix:@stapes-test connect=unix:/tmp/inside.sock security.uid=1000 security.gid=1000",
        &format!("out proxy bind=instance listen=tcp:127.0.0.1:3000 connect=tcp:{OUTSIDE}:80"),
        &format!(
            "outfile proxy bind=instance listen=unix:/run/host.sock connect=tcp:{OUTSIDE}:80 uid=1000 gid=1000 mode=0660"
        ),
        &format!("udp proxy listen=udp:{HOST}:5000 connect=udp:127.0.0.1:5000"),
        &format!("header proxy listen=tcp:{HOST}:8001 connect=tcp:127.0.0.1:81 proxy_protocol=true"),
    ] {
        add(&state, device);
    }
    state.good(&["start", "c1"]);
    // It listens already; whoever is there first is served when somebody serves.
    assert_eq!(ask(HOST, 8000, "x"), "", "nobody serves yet");
    state.sh("c1", SERVE);
    assert_eq!(world.get(HOST, 8000), "c1");
    assert_eq!(get(HOST, 8000), "c1");
    for port in [9000, 9001, 9005] {
        assert_eq!(get("127.0.0.1", port), "c1");
    }
    assert_eq!(ask_stream(UnixStream::connect(&socket).unwrap()), "c1");
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o7777, 0o600);
    let pid = state.good(&["list", "c1", "-f", "csv", "-c", "p"]).trim().to_string();
    let root = std::path::PathBuf::from(format!("/proc/{pid}/root"));
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    let base: u32 = map.split_whitespace().nth(1).unwrap().parse().unwrap();
    carries_whole(&root, base);
    reaches_the_world(&state, &root);
    carries_datagrams(&state, &world);
    says_who_asks(&state, &world);
    are_small(&state);
    // They begin again with it, and end with it.
    state.good(&["restart", "-f", "c1"]);
    state.sh("c1", SERVE);
    assert_eq!(world.get(HOST, 8000), "c1");
    state.good(&["stop", "-f", "c1"]);
    assert_eq!(processes(&state), []);
    assert!(!socket.exists());
    assert!(TcpListener::bind((HOST, 8000)).is_ok());
    state.good(&["delete", "c1"]);
    drop(world);
    state.finish();
}

#[test]
fn what_cannot_be_proxied_fails_the_start_and_leaves_nothing() {
    let Some(state) = state("what_cannot_be_proxied_fails_the_start_and_leaves_nothing") else { return };
    state.good(&["create", "test", "c1"]);
    add(&state, "first proxy listen=tcp:127.0.0.1:8000 connect=tcp:127.0.0.1:80");
    add(&state, "second proxy listen=tcp:127.0.0.1:8002 connect=tcp:127.0.0.1:80");
    let taken = TcpListener::bind("127.0.0.1:8002").unwrap();
    let refused = |said: &str| {
        let out = state.run(&["start", "c1"]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{said}: {out}");
        assert_eq!(state.good(&["list", "-f", "csv", "-c", "ns"]), "c1,STOPPED\n");
        assert_eq!(processes(&state), []);
        state.doctor().unwrap();
    };
    refused("Failed to start device \"second\": Failed to listen on tcp:127.0.0.1:8002: Address already in use");
    drop(taken);
    state.good(&["start", "c1"]);
    state.good(&["stop", "-f", "c1"]);
    state.good(&["config", "device", "remove", "c1", "first"]);
    for (options, said) in [
        ("listen=udp:127.0.0.1:1 connect=tcp:127.0.0.1:1", "Proxying udp <-> tcp is not supported by this version"),
        ("listen=unix:relative connect=tcp:127.0.0.1:1", "must be absolute"),
        ("listen=unix:/nowhere/x.sock connect=tcp:127.0.0.1:1", "No such file or directory"),
        ("listen=tcp:192.0.2.1:1 connect=tcp:127.0.0.1:1", "annot assign requested address"),
        (
            "listen=tcp:127.0.0.1:1 connect=tcp:127.0.0.1:1 nat=true",
            "Proxy connect IP cannot be used with any of the instance NICs static IPs",
        ),
    ] {
        add(&state, &format!("bad proxy {options}"));
        refused(said);
        state.good(&["config", "device", "remove", "c1", "bad"]);
    }
    // Somebody else's file stays.
    let file = state.path("file");
    std::fs::write(&file, "precious").unwrap();
    add(&state, &format!("bad proxy listen=unix:{} connect=tcp:127.0.0.1:1", file.display()));
    refused("Address already in use");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    state.good(&["delete", "c1"]);
    state.finish();
}

/// Whoever is killed: a proxy goes with its instance, and the next start has its address.
#[test]
fn a_proxy_ends_with_its_instance() {
    let Some(state) = state("a_proxy_ends_with_its_instance") else { return };
    state.good(&["create", "test", "c1"]);
    add(&state, "web proxy listen=tcp:127.0.0.1:8000 connect=tcp:127.0.0.1:80");
    state.good(&["start", "c1"]);
    let first = state.good(&["list", "c1", "-f", "csv", "-c", "p"]);
    host(&format!("kill -9 {}", first.trim()));
    let gone = || processes(&state).is_empty();
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !gone() && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(gone(), "{:?}", processes(&state));
    state.run(&["stop", "-f", "c1"]);
    state.good(&["start", "c1"]);
    // It is killed itself: the instance lives, and a restart brings it back.
    host(&format!("kill -9 {}", processes(&state)[0].0));
    state.good(&["restart", "-f", "c1"]);
    state.sh("c1", SERVE);
    assert_eq!(get("127.0.0.1", 8000), "c1");
    state.good(&["delete", "-f", "c1"]);
    state.finish();
}

#[test]
fn the_firewall_carries_with_nat() {
    let Some(state) = state("the_firewall_carries_with_nat") else { return };
    let world = World::new(&state);
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"]);
    for (name, last) in [("c1", 11), ("c2", 12)] {
        state.good(&["create", "test", name, "-n", "testbr0"]);
        state.good(&["config", "device", "set", name, "eth0", &format!("ipv4.address=10.77.0.{last}")]);
    }
    add(&state, &format!("web proxy listen=tcp:{HOST}:8000 connect=tcp:0.0.0.0:80 nat=true"));
    add(&state, "all proxy listen=tcp:0.0.0.0:8100-8101 connect=tcp:10.77.0.11:80 nat=true");
    add(&state, &format!("udp proxy listen=udp:{HOST}:5000 connect=udp:0.0.0.0:5000 nat=true"));
    state.good(&["start", "c1", "c2"]);
    for (name, last) in [("c1", 11), ("c2", 12)] {
        state.sh(name, &format!("ip addr add 10.77.0.{last}/24 dev eth0; ip route add default via 10.77.0.1; {SERVE}"));
    }
    assert_eq!(processes(&state), [], "no process is needed");
    assert_eq!(world.get(HOST, 8000), "c1");
    assert_eq!((world.get(HOST, 8100), world.get(HOST, 8101)), ("c1".into(), "c1".into()));
    assert_eq!((get(HOST, 8000), get(HOST, 8100)), ("c1".into(), "c1".into()), "the host itself");
    for name in ["c1", "c2"] {
        assert_eq!(inside(&state, name, || get(HOST, 8000)), "c1", "{name}");
        assert_eq!(inside(&state, name, || get("10.77.0.1", 8100)), "c1", "{name}");
    }
    let echo = echo_once(inside(&state, "c1", || UdpSocket::bind("0.0.0.0:5000").unwrap()));
    let udp = world.outside(|| UdpSocket::bind((OUTSIDE, 0)).unwrap());
    udp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    udp.send_to(b"hello", (HOST, 5000)).unwrap();
    let mut packet = [0; 64];
    let (n, from) = on(|| udp.recv_from(&mut packet)).unwrap();
    assert_eq!((&packet[..n], from.to_string()), (&b"hello"[..], format!("{HOST}:5000")));
    echo.join().unwrap();
    for chain in ["prert", "out", "pstrt"] {
        assert!(host("nft list ruleset").contains(&format!("chain {chain}.c1.web")));
    }
    state.good(&["stop", "-f", "c1"]);
    assert!(!host("nft list ruleset").contains(".c1."));
    assert_eq!(world.get(HOST, 8000), "");
    state.good(&["config", "device", "set", "c1", "web", "connect=tcp:10.77.0.99:80"]);
    let out = state.run(&["start", "c1"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Proxy connect IP cannot be used with any of the instance NICs static IPs"), "{out}");
    assert!(!host("nft list ruleset").contains(".c1."));
    state.good(&["delete", "-f", "c1", "c2"]);
    state.good(&["network", "delete", "testbr0"]);
    drop(world);
    state.finish();
}

#[test]
fn run_publishes_ports() {
    let Some(state) = state("run_publishes_ports") else { return };
    let words =
        ["run", "--publish", "127.0.0.1:8000:80", "-p", "5000:5000/udp", "-p", "default", "test", "--", "sh", "-c"];
    let serve = "mkdir /www; echo c1 > /www/name; httpd -f -p 80 -h /www";
    let mut child = state.command(&words).arg(serve).spawn().unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while get("127.0.0.1", 8000) != "c1" && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(get("127.0.0.1", 8000), "c1");
    let out = state.run(&["run", "--publish", "8000:80", "test", "--", "sleep", "5"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Failed to start device \"publish0\": Failed to listen on tcp:[::]:8000"), "{out}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGTERM).unwrap();
    child.wait().unwrap();
    assert_eq!(get("127.0.0.1", 8000), "");
    let out = state.run(&["run", "--publish", "nonsense", "test", "--", "true"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Bad port \"nonsense\""), "{out}");
    state.finish();
}
