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

/// What `run` runs has its address, its router and its names from the first moment on.
#[test]
fn a_command_has_its_network_at_once() {
    let Some(state) = state("a_command_has_its_network_at_once") else { return };
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
