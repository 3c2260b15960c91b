//! Beside other firewalls, their own programs and rules: a network passes, and passes again with the next command after they
//! were reloaded, which forgets what was added among their rules.

use crate::common_root::{State, have, skip};
use crate::packets::{Fate, Open, tcp};
use crate::support::{Ask, state};
use crate::world::{HOST, OUTSIDE, World, host, host_try};
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A network with NAT, an instance `c1` in it, and one that does not run.
struct Lan {
    state: State,
    world: World,
    c1: i32,
}

impl Lan {
    fn new(state: State, world: World) -> Self {
        state.good(&[
            "network",
            "create",
            "testbr0",
            "ipv4.address=10.77.0.1/24",
            "ipv4.nat=true",
            "ipv6.address=none",
        ]);
        state.launch("c1", &["-n", "testbr0", "-d", "eth0,ipv4.address=10.77.0.11"]).good().unwrap();
        state.good(&["create", "test", "c2", "-n", "testbr0"]);
        state.sh("c1", "ip addr add 10.77.0.11/24 dev eth0; ip route add default via 10.77.0.1");
        let c1 = state.init("c1");
        Self { state, world, c1 }
    }

    fn out(&self) -> Fate {
        tcp(self.c1, OUTSIDE, 80)
    }

    /// The network passes; `reload` of the other firewall closes it, which doctor says, and the next start opens it.
    fn passes_again(&self, reload: impl Fn()) {
        assert_eq!(self.out(), Open, "beside it");
        self.state.doctor().unwrap();
        reload();
        assert_ne!(self.out(), Open, "it was reloaded");
        let said = self.state.run(&["doctor", "-f", "csv"]);
        assert!(!said.ok() && said.stdout.contains("have been taken away: testbr0"), "{said}");
        self.state.good(&["start", "c2"]);
        assert_eq!(self.out(), Open, "a start of another has seen to it");
        self.state.doctor().unwrap();
        reload();
        assert_ne!(self.out(), Open);
        self.state.good(&["doctor", "--fix"]);
        assert_eq!(self.out(), Open, "doctor has seen to it");
        self.state.good(&["stop", "-f", "c2"]);
    }

    fn finish(self) {
        self.finish_with(|| ());
    }

    /// `end` ends what the test itself began.
    fn finish_with(self, end: impl FnOnce()) {
        self.state.good(&["delete", "-f", "c1", "c2"]);
        self.state.good(&["network", "delete", "testbr0"]);
        let left = host("nft list ruleset");
        assert!(!left.contains("testbr0"), "left: {left}");
        drop(self.world);
        end();
        self.state.finish();
    }
}

/// Nobody else sees what is mounted from now on.
fn own_mounts() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    host("mount --make-rprivate /");
}

/// A folder or file of the machine that may be changed in this test alone.
fn own_copy(state: &State, path: &str) {
    let copy = state.path(&path.replace('/', "_"));
    host(&format!("cp -a {path} {}", copy.display()));
    host(&format!("mount --bind {} {path}", copy.display()));
}

/// The chains that Docker makes.
const DOCKER: &str = "*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
";

fn restore(state: &State) -> bool {
    let file = state.path("docker.rules");
    std::fs::write(&file, DOCKER).unwrap();
    let mut command = Command::new("iptables-nft-restore");
    command.stdin(File::open(file).unwrap()).status().unwrap().success()
}

/// A program that writes down how often it was asked, in the place of nft.
fn counted(state: &State) -> std::path::PathBuf {
    let (real, log, script) = (state.path("nft.real"), state.path("nft.log"), state.path("nft.counted"));
    let nft = host("which nft").trim().to_string();
    std::fs::copy(&nft, &real).unwrap();
    std::fs::write(&script, format!("#!/bin/sh\necho x >> {}\nexec {} \"$@\"\n", log.display(), real.display()))
        .unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    host(&format!("mount --bind {} {nft}", script.display()));
    log
}

#[test]
fn docker_is_restarted() {
    const NAME: &str = "docker_is_restarted";
    let Some(state) = state(NAME) else { return };
    if !have("iptables-nft-restore") || !restore(&state) {
        return skip(NAME, "no iptables-nft-restore, or not on this kernel");
    }
    let world = World::new(&state);
    own_mounts();
    let lan = Lan::new(state, world);
    lan.passes_again(|| assert!(restore(&lan.state)));
    assert!(host("iptables-nft -S FORWARD").contains("-o testbr0"), "its own program still reads it");
    // Nothing has changed since: nobody asks nft. A change of somebody else is looked at once.
    lan.state.good(&["start", "c2"]);
    let log = counted(&lan.state);
    let calls = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    lan.state.good(&["restart", "-f", "c2"]);
    assert_eq!(calls(), 0);
    host("nft add table inet somebody");
    let before = calls();
    lan.state.good(&["restart", "-f", "c2"]);
    assert_eq!(calls() - before, 1, "one look");
    lan.state.good(&["restart", "-f", "c2"]);
    assert_eq!(calls() - before, 1, "one look is enough");
    host(&format!("umount {}", host("which nft").trim()));
    lan.finish();
}

/// `nft flush ruleset`, with which Debian's own service begins, takes all of ours as well.
#[test]
fn everything_is_flushed() {
    let Some(state) = state("everything_is_flushed") else { return };
    let world = World::new(&state);
    let lan = Lan::new(state, world);
    let good = |words: &str| lan.state.good(&words.split(' ').collect::<Vec<_>>());
    good("network acl create web");
    good("network acl rule add web egress action=allow");
    good("network acl rule add web ingress action=allow protocol=tcp destination_port=80");
    good("network set testbr0 security.acls=web");
    good("network forward create testbr0 203.0.113.1");
    good("network forward port add testbr0 203.0.113.1 tcp 8080 10.77.0.11 80");
    good("config device set c1 eth0 security.mac_filtering=true");
    good("config device add c1 far nic nictype=routed ipv4.address=10.66.0.2 ipv4.gateway=none limits.priority=3");
    good(&format!("config device add c1 web proxy listen=tcp:{HOST}:8000 connect=tcp:0.0.0.0:80 nat=true"));
    good("start c2");
    lan.state.sh("c1", "mkdir /www; echo c1 > /www/name; httpd -p 80 -h /www");
    let rules = || {
        let mut lines: Vec<String> = host("nft list ruleset").lines().map(str::to_string).collect();
        lines.sort();
        lines
    };
    let whole = rules();
    assert!(whole.iter().any(|l| l.contains("netprio.c1.far")) && whole.iter().any(|l| l.contains("prert.c1.far")));
    for mend in ["restart -f c2", "doctor --fix"] {
        host("nft flush ruleset");
        assert_ne!(lan.out(), Open);
        assert!(!lan.state.run(&["doctor"]).ok());
        good(mend);
        assert_eq!(rules(), whole, "{mend}");
        assert_eq!(lan.out(), Open);
        assert_eq!(lan.world.get(HOST, 8000), "c1");
        lan.state.doctor().unwrap();
    }
    good("network set testbr0 security.acls=");
    good("network acl delete web");
    good("network forward delete testbr0 203.0.113.1");
    lan.finish();
}

/// The same where no network is up, and the only rules are those of single interfaces.
#[test]
fn everything_is_flushed_of_routed_interfaces() {
    let Some(state) = state("everything_is_flushed_of_routed_interfaces") else { return };
    let good = |words: &str| state.good(&words.split(' ').collect::<Vec<_>>());
    for (name, address) in [("c1", "10.66.0.2"), ("c2", "10.66.0.3")] {
        good(&format!("create test {name}"));
        good(&format!("config device add {name} far nic nictype=routed ipv4.address={address} limits.priority=3"));
        good(&format!("start {name}"));
    }
    let rules = || host("nft list ruleset");
    let whole = rules();
    assert!(["c1", "c2"].iter().all(|c| whole.contains(&format!("prert.{c}.far"))), "{whole}");
    for (flush, mend) in [
        ("flush ruleset", "restart -f c2"),
        ("delete table netdev", "restart -f c2"),
        ("flush ruleset", "config device set c2 far limits.priority=4"),
        ("flush ruleset", "doctor --fix"),
    ] {
        let table = whole.lines().find_map(|l| l.strip_prefix("table netdev ")?.split(' ').next()).unwrap();
        host(&format!("nft {flush}{}", if flush.contains("table") { format!(" {table}") } else { String::new() }));
        assert!(!state.run(&["doctor"]).ok());
        good(mend);
        let now = rules();
        for chain in ["prert.c1.far", "prert.c2.far", "netprio.c1.far", "netprio.c2.far"] {
            assert!(now.contains(chain), "{mend}: {chain}: {now}");
        }
        state.doctor().unwrap();
    }
    good("delete -f c1 c2");
    assert!(!rules().contains("table"), "{}", rules());
    state.finish();
}

#[test]
fn ufw_is_reloaded() {
    const NAME: &str = "ufw_is_reloaded";
    let Some(state) = state(NAME) else { return };
    if !have("ufw") || !host_try("iptables -V").is_ok_and(|v| v.contains("nf_tables")) {
        return skip(NAME, "no ufw with iptables-nft");
    }
    own_mounts();
    for path in ["/etc/ufw", "/etc/default/ufw"] {
        own_copy(&state, path);
    }
    if let Err(e) = host_try("ufw --force enable") {
        return skip(NAME, &format!("ufw cannot be enabled here: {e}"));
    }
    let world = World::new(&state);
    let lan = Lan::new(state, world);
    lan.passes_again(|| drop(host("ufw reload")));
    // Names and leases too.
    lan.state.sh("c1", "nslookup c1.incus 10.77.0.1");
    // What the administrator denies stays denied.
    host("ufw route deny in on testbr0 to 203.0.113.2 port 80 proto tcp");
    assert_ne!(lan.out(), Open);
    host("ufw route delete deny in on testbr0 to 203.0.113.2 port 80 proto tcp");
    assert_eq!(lan.out(), Open);
    lan.finish();
}

/// A process of the test's own; it ends with this.
struct Helper(Child);

impl Helper {
    fn new(words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn firewalld_is_reloaded() {
    const NAME: &str = "firewalld_is_reloaded";
    let Some(state) = state(NAME) else { return };
    if ["firewalld", "firewall-cmd", "dbus-daemon"].iter().any(|program| !have(program)) {
        return skip(NAME, "no firewalld or dbus-daemon");
    }
    own_mounts();
    for path in ["/run/dbus", "/run/firewalld"] {
        let _ = std::fs::create_dir(path);
        host(&format!("mount -t tmpfs tmpfs {path}"));
    }
    own_copy(&state, "/etc/firewalld");
    // A bus that begins nothing by itself.
    let file = state.path("bus.conf");
    let listen = "<type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>";
    let policy = "<policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/><allow send_type=\"method_call\"/>\
                  <allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy>";
    std::fs::write(&file, format!("<busconfig>{listen}{policy}</busconfig>\n")).unwrap();
    let config = format!("--config-file={}", file.display());
    let bus = Helper::new(&["dbus-daemon", &config, "--nofork", "--nopidfile"]);
    let daemon = Helper::new(&["firewalld", "--nofork", "--nopid"]);
    let end = Instant::now() + Duration::from_secs(60);
    while !host_try("firewall-cmd --state").is_ok_and(|said| said.contains("running")) {
        if Instant::now() > end {
            return skip(NAME, "firewalld does not run here");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    if !host("nft list tables").contains("firewalld") {
        return skip(NAME, "firewalld cannot set its rules on this kernel");
    }
    let world = World::new(&state);
    let lan = Lan::new(state, world);
    lan.passes_again(|| drop(host("firewall-cmd --reload")));
    assert_eq!(host("firewall-cmd --get-zone-of-interface=testbr0").trim(), "trusted");
    lan.finish_with(|| drop((daemon, bus)));
}
