//! The texts for nft and dnsmasq, given to the real programs: each golden text loads – twice, on nothing and on itself – and
//! goes again without a trace; dnsmasq takes its arguments, becomes ready, and answers. Everything happens in network
//! namespaces made for it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;

use common_root::{have, skip};
use rustix::process::geteuid;
use stapes::base::names::NetworkName;
use stapes::model::network::bridge::Bridge;
use stapes::network::nft::Tables;
use stapes::network::nft::coexist::{self, Ruleset};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn can_run(test: &str, programs: &[&str]) -> bool {
    if !geteuid().is_root() {
        skip(test, "not root");
        return false;
    }
    match programs.iter().find(|p| !have(p)) {
        Some(program) => {
            skip(test, &format!("{program} is missing"));
            false
        }
        None => true,
    }
}

fn golden(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(kind)
}

/// A network namespace of its own, held by a sleeping process; ends with the value.
struct Namespace(std::process::Child);

impl Namespace {
    fn new() -> Self {
        let child =
            Command::new("unshare").args(["-n", "sh", "-c", "echo; exec sleep 300"]).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        let namespace = Self(child);
        namespace.good("ip link set lo up");
        namespace
    }

    fn run(&self, script: &str, input: &str) -> (bool, String) {
        let mut child = Command::new("nsenter")
            .args(["-t", &self.0.id().to_string(), "-n", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).to_string() + &String::from_utf8_lossy(&out.stderr);
        (out.status.success(), text)
    }

    fn good(&self, script: &str) -> String {
        let (ok, text) = self.run(script, "");
        assert!(ok, "{script}: {text}");
        text
    }

    /// Checks a transaction, then carries it out.
    fn nft(&self, what: &str, text: &str) {
        for command in ["nft -c -f -", "nft -f -"] {
            let (ok, said) = self.run(command, text);
            assert!(ok, "{command} {what}: {said}\n{text}");
        }
    }

    fn rules(&self) -> String {
        self.good("nft list ruleset")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Can a chain of the family bridge track connections and answer?
fn tracks_bridges(namespace: &Namespace) -> bool {
    let rules = "add table bridge probe\nadd chain bridge probe c { type filter hook input priority 0; }\n\
        add rule bridge probe c ct state established accept\nadd rule bridge probe c reject\n";
    namespace.run("nft -c -f -", rules).0
}

fn texts() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = std::fs::read_dir(golden("nft"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| (p.file_stem().unwrap().to_string_lossy().to_string(), std::fs::read_to_string(&p).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn every_transaction_loads_and_goes() {
    const NAME: &str = "every_transaction_loads_and_goes";
    if !can_run(NAME, &["nft", "ip", "unshare", "nsenter"]) {
        return;
    }
    let namespace = Namespace::new();
    namespace.good("ip link add net0 type bridge && ip link add veth0 type veth peer name veth1");
    let bridges = tracks_bridges(&namespace);
    if !bridges {
        skip(NAME, "ACLs of NICs: the kernel does not track connections on bridges");
    }
    let (down, up): (Vec<_>, Vec<_>) = texts().into_iter().partition(|(name, _)| name.ends_with("-down"));
    assert!(up.len() > 10 && down.len() > 5);
    // Taking away what is not there is no error.
    for (name, text) in &down {
        namespace.nft(name, text);
    }
    let empty = namespace.rules();
    assert!(!empty.contains("chain") && !empty.contains("set set."), "{empty}");
    for (name, text) in up.iter().filter(|(name, _)| bridges || name != "bridge-acl") {
        namespace.nft(name, text);
        let lines = || {
            let rules = namespace.rules();
            let mut lines: Vec<String> = rules.lines().map(String::from).collect();
            // The order of chains is that of their making.
            lines.sort();
            lines
        };
        let once = lines();
        namespace.nft(name, text);
        assert_eq!(once, lines(), "{name} changes something the second time");
    }
    // A set goes when no rule names it.
    let (sets, down): (Vec<_>, Vec<_>) = down.iter().partition(|(name, _)| name == "set-down");
    for (name, text) in down.into_iter().chain(sets) {
        namespace.nft(name, text);
    }
    assert_eq!(namespace.rules(), empty);
    // Half a transaction is none.
    let half =
        texts().into_iter().find(|(name, _)| name == "network").unwrap().1 + "add rule inet stapes nowhere drop\n";
    assert!(!namespace.run("nft -f -", &half).0);
    assert_eq!(namespace.rules(), empty);
}

const DOCKER: &str = "add table ip filter\nadd chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }\nadd chain ip filter DOCKER-USER\n\
    add rule ip filter FORWARD counter jump DOCKER-USER\nadd rule ip filter FORWARD iifname \"docker0\" counter accept\n";

const UFW: &str = "add table ip filter\nadd chain ip filter INPUT { type filter hook input priority 0; policy drop; }\n\
    add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }\n\
    add chain ip filter ufw-after-input\nadd chain ip filter ufw-after-forward\nadd chain ip filter ufw-reject-forward\n\
    add rule ip filter INPUT counter jump ufw-after-input\nadd rule ip filter FORWARD counter jump ufw-after-forward\n\
    add rule ip filter FORWARD counter jump ufw-reject-forward\nadd rule ip filter ufw-reject-forward counter reject\n\
    add rule ip filter ufw-after-input udp dport 67 counter drop\n";

fn bridge() -> Bridge {
    let config = [("ipv4.address", "10.77.0.1/24")].map(|(k, v)| (k.to_string(), v.to_string())).into();
    Bridge::read(&config, None).unwrap()
}

/// Two hosts with this one between them, as instance and outside world. True if the instance reaches the world and back.
fn reaches(namespace: &Namespace) -> bool {
    namespace.run("ip netns exec wt-guest ping -c 1 -W 1 10.78.0.2", "").0
}

fn with_hosts(namespace: &Namespace) {
    // Named namespaces are mounts, so they are made in a mount namespace of their own by the caller's nsenter.
    namespace.good("sysctl -qw net.ipv4.ip_forward=1");
    for (net, link, peer, own, other) in
        [("wt-guest", "net0", "eth0", "10.77.0.1", "10.77.0.2"), ("wt-world", "wan0", "eth0", "10.78.0.1", "10.78.0.2")]
    {
        namespace.good(&format!(
            "ip netns add {net} && ip link add {link} type veth peer name {peer} netns {net} && ip address add {own}/24 dev {link} \
             && ip link set {link} up && ip -n {net} address add {other}/24 dev {peer} && ip -n {net} link set {peer} up \
             && ip -n {net} route add default via {own}"
        ));
    }
}

struct Netns;

impl Drop for Netns {
    fn drop(&mut self) {
        for name in ["wt-guest", "wt-world"] {
            let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
        }
    }
}

/// Row Docker FORWARD DROP of the security cases.
#[test]
fn beside_docker_and_ufw() {
    if !can_run("beside_docker_and_ufw", &["nft", "ip", "ping", "unshare", "nsenter"]) {
        return;
    }
    let _netns = Netns;
    let namespace = Namespace::new();
    with_hosts(&namespace);
    let (tables, name) = (Tables::new(None), NetworkName::parse("net0").unwrap());
    let read = || Ruleset::parse(&namespace.good("nft -j -a list ruleset")).unwrap();
    assert!(reaches(&namespace), "the hosts do not work");
    for (what, rules) in [("docker", DOCKER), ("ufw", UFW)] {
        namespace.nft(what, rules);
        let before = namespace.rules();
        let listed_before = have("iptables-nft") && namespace.run("iptables-nft -S", "").0;
        assert!(!reaches(&namespace), "{what} does not drop");
        let fix = coexist::up(&tables, &name, &bridge(), &read());
        namespace.nft(what, &fix.script);
        assert!(reaches(&namespace), "{what}: {}", fix.script);
        assert_eq!(coexist::up(&tables, &name, &bridge(), &read()).script, "", "{what}: again");
        if listed_before {
            let listed = namespace.good("iptables-nft -S");
            assert!(listed.contains("-i net0") && !listed.contains("incompatible"), "{listed}");
        }
        namespace.nft(what, &coexist::down(&tables, &name, &read()).script);
        let counters =
            |text: &str| text.split_whitespace().filter(|w| !w.bytes().all(|c| c.is_ascii_digit())).collect::<String>();
        assert_eq!(counters(&namespace.rules()), counters(&before), "{what}: what was there has changed");
        namespace.good("nft delete table ip filter");
    }
}

#[test]
fn dnsmasq_takes_its_arguments() {
    if !can_run("dnsmasq_takes_its_arguments", &["dnsmasq"]) {
        return;
    }
    for entry in std::fs::read_dir(golden("dnsmasq")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let args: Vec<String> = match path.extension().and_then(|e| e.to_str()) {
            // Its own files are not there.
            Some("args") => text.lines().filter(|l| !l.starts_with("--conf-file")).map(String::from).collect(),
            _ => vec![format!("--conf-file={}", path.display())],
        };
        let out = Command::new("dnsmasq").arg("--test").arg("--conf-file=/dev/null").args(&args).output().unwrap();
        assert!(out.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&out.stderr));
    }
}

/// A question and the answer's length and code; asked in the namespace by a short program.
const ASK: &str = r#"
import socket, struct, sys
name, kind, server, port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
q = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.sendto(struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + q + struct.pack(">HH", kind, 1), (server, port))
a = s.recv(4096)
print("code", a[3] & 15, "authoritative", (a[2] >> 2) & 1, "answers", struct.unpack(">H", a[6:8])[0], a.hex())
"#;

#[test]
fn dnsmasq_becomes_ready_and_answers() {
    const NAME: &str = "dnsmasq_becomes_ready_and_answers";
    if !can_run(NAME, &["dnsmasq", "ip", "unshare", "nsenter", "python3"]) {
        return;
    }
    let namespace = Namespace::new();
    namespace.good("ip link add net0 type bridge && ip address add 10.0.0.1/24 dev net0 && ip -6 address add fd42::1/64 dev net0 nodad && ip link set net0 up");
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir(path("dnsmasq.hosts")).unwrap();
    std::fs::create_dir(path("dnsmasq.names")).unwrap();
    std::fs::write(path("dnsmasq.conf"), "").unwrap();
    let text = std::fs::read_to_string(golden("dnsmasq/default.args")).unwrap();
    let own = dir.path().display().to_string();
    let args = text.replace("=/run/", &format!("={own}/")).replace("=/state/", &format!("={own}/")).replace('\n', " ");
    // Its end means it is ready.
    namespace.good(&format!("dnsmasq {args}"));
    let pid = std::fs::read_to_string(path("dnsmasq.pid")).unwrap();
    let ask = |name: &str, kind: u8, server: &str, port: u16| {
        let script = path("ask.py");
        std::fs::write(&script, ASK).unwrap();
        namespace.good(&format!("python3 {} {name} {kind} {server} {port}", script.display()))
    };
    let answer = ask("_gateway.incus", 1, "10.0.0.1", 53);
    assert!(answer.starts_with("code 0") && answer.contains("0a000001"), "{answer}");
    // A file of a NIC counts at once, before any lease.
    std::fs::write(path("dnsmasq.hosts/default_c1.eth0"), "10:66:6a:00:00:01,10.0.0.9,c1\n").unwrap();
    std::fs::write(path("dnsmasq.names/default_c1.eth0"), "10.0.0.9 c1.incus\n").unwrap();
    let log = || std::fs::read_to_string(path("dnsmasq.log")).unwrap_or_default();
    let found = (0..50).any(|_| ask("c1.incus", 1, "10.0.0.1", 53).contains("0a000009"));
    assert!(found && log().contains("dnsmasq.hosts/default_c1.eth0"), "{}", log());
    assert!(ask("gone.incus", 1, "10.0.0.1", 53).starts_with("code 3"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let uid = status.lines().find(|l| l.starts_with("Uid:")).unwrap();
    assert!(!uid.contains("\t0\t"), "it is still root: {uid}");
    // A second one cannot have the port, and says so.
    let (ok, said) = namespace.run(&format!("dnsmasq {}", args.replace("dnsmasq.pid", "other.pid")), "");
    assert!(!ok && said.contains("in use"), "{said}");
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}
