//! Real clients on a managed bridge: Debian with systemd, ISC's DHCP client, and commands that ask nobody.

use crate::common_root::{self, debian};
use crate::support::{Ask, state};
use crate::world::{HOST, OUTSIDE, World, host};

/// Debian's networkd takes a lease, its resolver finds another instance by name, and the world is behind NAT.
#[test]
fn debian_takes_a_lease_and_finds_the_other_by_name() {
    const NAME: &str = "debian_takes_a_lease_and_finds_the_other_by_name";
    let Some(state) = debian::debian(NAME) else { return };
    let world = World::new(&state);
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv4.nat=true"]);
    for name in ["web", "db"] {
        state.good(&["launch", "debian", name, "-n", "testbr0"]);
    }
    for name in ["web", "db"] {
        let up = debian::up(&state, name);
        assert_eq!(up.stdout.trim(), "running", "{up}");
        for family in ["ipv4", "ipv6"] {
            state.good(&["wait", name, family, "--interval", "1", "--timeout", "60"]);
        }
    }
    let leases = state.good(&["network", "list-leases", "testbr0", "-f", "csv"]);
    assert!(leases.contains("web,") && leases.contains("db,") && leases.contains("DYNAMIC"), "{leases}");
    let seen = state.good(&["exec", "web", "--", "ping", "-c", "1", "-W", "5", "db.incus"]);
    assert!(seen.contains("1 received"), "{seen}");
    let script = format!("exec 3<>/dev/tcp/{OUTSIDE}/80; printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
    let said = state.good(&["exec", "db", "--", "bash", "-c", &script]);
    assert!(said.contains(&format!("seen as {HOST}")), "{said}");
    let listed = state.good(&["list", "-f", "csv", "-c", "n46"]);
    assert!(listed.lines().all(|l| l.contains("10.77.0.") && l.contains("fd42:")), "{listed}");
    drop(world);
    state.good(&["delete", "-f", "web", "db"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

#[test]
fn iscs_client_takes_a_lease() {
    const NAME: &str = "iscs_client_takes_a_lease";
    let Some(state) = state(NAME) else { return };
    if !common_root::have("dhclient") {
        return common_root::skip(NAME, "no dhclient (apt-get install isc-dhcp-client)");
    }
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"]);
    state.launch("c1", &["-n", "testbr0"]).good().unwrap();
    let files = state.path("dhclient");
    let (leases, pid) = (files.with_extension("leases"), files.with_extension("pid"));
    let client = format!("dhclient -1 -sf /bin/true -lf {} -pf {} eth0", leases.display(), pid.display());
    host(&format!("nsenter -t {} -n -- {client}", state.init("c1")));
    // It is in the background before it says who it is.
    eventually("its number", || std::fs::read_to_string(&pid).is_ok_and(|p| p.ends_with('\n')));
    let lease = std::fs::read_to_string(leases).unwrap();
    let pid = std::fs::read_to_string(pid).unwrap();
    host(&format!("kill {}", pid.trim()));
    for said in ["fixed-address 10.77.0.", "option routers 10.77.0.1;", "option domain-name-servers 10.77.0.1;"] {
        assert!(lease.contains(said), "{said}: {lease}");
    }
    let leases = || state.good(&["network", "list-leases", "testbr0", "-f", "csv"]);
    assert!(leases().contains("c1,") && leases().contains("DYNAMIC"), "{}", leases());
    // It says no farewell: that is done for it.
    state.good(&["delete", "-f", "c1"]);
    assert!(!leases().contains("DYNAMIC"), "{}", leases());
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

/// Waits until something is so, for as long as a lease may take to go.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < end, "{what}: not within 20 seconds");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// An address of IPv6 is given back as well, whatever its client calls itself; while dnsmasq runs, and when it has ended.
#[test]
fn leases_of_ipv6_end_with_their_instance() {
    const NAME: &str = "leases_of_ipv6_end_with_their_instance";
    let Some(state) = state(NAME) else { return };
    if !common_root::have("dhclient") {
        return common_root::skip(NAME, "no dhclient (apt-get install isc-dhcp-client)");
    }
    state.good(&[
        "network",
        "create",
        "testbr0",
        "ipv4.address=none",
        "ipv6.address=fd42:77::1/64",
        "ipv6.dhcp.stateful=true",
    ]);
    let file = state.path("state/projects/default/networks/testbr0/dnsmasq.leases");
    let leases = || std::fs::read_to_string(&file).unwrap();
    let held = |client: &String| leases().lines().any(|l| l.contains(" fd42:77::") && l.ends_with(client.as_str()));
    let mut clients = Vec::new();
    // Two call themselves by their MAC addresses (DUID-LL); one by a number of its own, and says its name.
    let own = "default-duid \"\\000\\002\\000\\000\\253\\021\\001\\002\\003\\004\";\n";
    let named = "send fqdn.fqdn \"c2\";\nsend fqdn.encoded on;\n";
    for (name, known, config) in [("c1", "", ""), ("c2", own, named), ("c3", "", "")] {
        state.launch(name, &["-n", "testbr0"]).good().unwrap();
        let file = |ending: &str| state.path(&format!("{name}.{ending}")).display().to_string();
        let (kept, pid, conf) = (file("leases"), file("pid"), file("conf"));
        std::fs::write(&kept, known).unwrap();
        std::fs::write(&conf, config).unwrap();
        // As long as it is not known that the address on the link is nobody else's, it cannot be sent from.
        let enter = format!("nsenter -t {} -n --", state.init(name));
        eventually("the address of the link", || {
            let there = host(&format!("{enter} ip -6 addr show dev eth0 scope link"));
            there.contains("fe80:") && !there.contains("tentative")
        });
        host(&format!("{enter} dhclient -6 -1 -D LL -cf {conf} -sf /bin/true -lf {kept} -pf {pid} eth0"));
        let running = || std::fs::read_to_string(&pid).unwrap_or_default();
        eventually("dhclient says its number", || !running().is_empty());
        host(&format!("kill {}", running().trim()));
        clients.push(match name {
            "c2" => "00:02:00:00:ab:11:01:02:03:04".to_string(),
            _ => state.good(&["config", "get", name, "volatile.eth0.hwaddr"]).trim().to_string(),
        });
        eventually("the lease is noted", || held(clients.last().unwrap()));
    }
    for (name, client) in ["c1", "c2"].into_iter().zip(&clients) {
        state.good(&["delete", "-f", name]);
        eventually("the lease has gone", || !held(client));
        assert!(held(&clients[2]), "{}", leases());
    }
    state.good(&["stop", "-f", "c3"]);
    assert!(held(&clients[2]), "it keeps it as long as it is there");
    state.good(&["delete", "c3"]);
    assert!(!held(&clients[2]), "{}", leases());
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

/// What `run` runs has its address, its router and its names from the first moment on.
#[test]
fn a_command_has_its_network_at_once() {
    let Some(state) = state("a_command_has_its_network_at_once") else { return };
    // As mktemp(1) makes it: dnsmasq, which is nobody, must come to its files all the same.
    std::fs::set_permissions(state.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let world = World::new(&state);
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv4.nat=true"]);
    state.launch("c1", &["-n", "testbr0", "-c", "user.x=y"]).good().unwrap();
    let run = |script: &str| state.good(&["run", "test", "-n", "testbr0", "--name", "job", "--", "sh", "-c", script]);
    let said = run(&format!("wget -qO- http://{OUTSIDE}/cgi-bin/who"));
    assert_eq!(said, format!("seen as {HOST}\n"));
    let said = run("ip -o addr show dev eth0; ip route; ip -6 route; cat /etc/resolv.conf /etc/hosts /etc/hostname");
    for part in [
        "inet 10.77.0.2/24",
        "inet6 fd42:",
        "default via 10.77.0.1",
        "default via fd42:",
        "search incus\nnameserver 10.77.0.1\n",
        "10.77.0.2\tjob.incus job\n",
        "\njob\n",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let named = run("for n in 1 2 3 4 5; do nslookup job.incus 10.77.0.1 && break; sleep 0.3; done");
    assert!(named.contains("10.77.0.2"), "{named}");
    // One that was given is kept; two at once have two.
    let given = ["-d", "eth0,ipv4.address=10.77.0.77", "-n", "testbr0", "test", "--", "ip", "-o", "-4", "addr"];
    assert!(state.good(&[&["run"], &given[..]].concat()).contains("10.77.0.77/24"));
    let both = std::thread::scope(|scope| {
        let job = || {
            let out =
                state.good(&["run", "-n", "testbr0", "test", "--", "sh", "-c", "ip -o -4 addr show dev eth0; sleep 1"]);
            out.split_whitespace().find(|w| w.starts_with("10.77.")).unwrap().to_string()
        };
        [scope.spawn(job), scope.spawn(job)].map(|t| t.join().unwrap())
    });
    assert_ne!(both[0], both[1]);
    // Nothing of it is left, and what was kept is as the image had it.
    assert!(!state.good(&["network", "list-leases", "testbr0", "-f", "csv"]).contains("job"));
    drop(world);
    state.good(&["delete", "-f", "c1"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}
