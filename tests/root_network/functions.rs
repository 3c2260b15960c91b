//! Virtual functions of a network card (`nictype=sriov`): the guest has a card with some where QEMU knows one. They belong to
//! the machine's own network, so it is from there that they are passed on.

use crate::common_root::{State, skip, with_the_network};
use crate::support::{Ask, state};
use crate::types::{add_device, refused};
use crate::world::host;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// There is one card.
static CARD: Mutex<()> = Mutex::new(());

/// The interface of a card with virtual functions, which nobody else uses meanwhile; the state folder of the test.
fn card(test: &str) -> Option<(State, String, MutexGuard<'static, ()>)> {
    let state = state(test)?;
    let alone = CARD.lock().unwrap_or_else(PoisonError::into_inner);
    match std::env::var("STAPES_TEST_CARD").ok().filter(|name| !name.is_empty()) {
        Some(card) => Some((state, card, alone)),
        None => {
            skip(test, "no network card with virtual functions (STAPES_TEST_CARD names the interface of one)");
            None
        }
    }
}

/// What the card says of a virtual function.
fn told(card: &str, id: usize) -> String {
    let shown = host(&format!("ip link show {card}"));
    let line = shown.lines().find(|l| l.trim().starts_with(&format!("vf {id} ")));
    line.unwrap_or_else(|| panic!("no function {id}: {shown}")).trim().to_string()
}

/// Names and addresses of the interfaces of virtual functions that the host has.
fn functions(card: &str) -> Vec<String> {
    let mut all = Vec::new();
    for id in 0..7 {
        if let Ok(names) = std::fs::read_dir(format!("/sys/class/net/{card}/device/virtfn{id}/net")) {
            all.extend(names.map(|name| name.unwrap().file_name().into_string().unwrap()));
        }
    }
    all
}

fn volatile(state: &State, key: &str) -> String {
    state.good(&["config", "get", "c1", &format!("volatile.eth0.{key}")]).trim().to_string()
}

/// One is chosen, told of and given back; the card's functions come to be with the first.
#[test]
fn virtual_functions_are_passed_on() {
    let test = "virtual_functions_are_passed_on";
    let Some((state, card, _alone)) = card(test) else { return };
    with_the_network(|| {
        state.good(&["create", "test", "c1"]);
        let options = format!(
            "nictype=sriov parent={card} name=inner0 vlan=5 mtu=1400 hwaddr=02:00:00:00:00:51 security.mac_filtering=true"
        );
        add_device(&state, "c1", "eth0", &options);
        state.good(&["start", "c1"]);
        let inside = state.sh("c1", "ip -o link show inner0");
        assert!(
            inside.contains("02:00:00:00:00:51") && inside.contains("mtu 1400") && inside.contains("UP"),
            "{inside}"
        );
        let zero = told(&card, 0);
        for part in ["02:00:00:00:00:51", "vlan 5", "spoof checking on"] {
            assert!(zero.contains(part), "{part}: {zero}");
        }
        assert_eq!(
            (volatile(&state, "last_state.vf.id"), volatile(&state, "last_state.vf.parent")),
            ("0".into(), card.clone())
        );
        let name = volatile(&state, "host_name");
        assert!(!functions(&card).contains(&name), "it is the instance's now");

        // Another one gets another, by what the card is.
        state.good(&["network", "create", "vfnet", "--type=sriov", &format!("parent={card}")]);
        state.launch("c2", &["-n", "vfnet"]).good().unwrap();
        state.sh("c2", "ip -o link show eth0");
        assert!(told(&card, 1).contains("spoof checking off"), "{}", told(&card, 1));
        let device = std::fs::read_link(format!("/sys/class/net/{card}/device")).unwrap();
        let address = device.file_name().unwrap().to_str().unwrap();
        add_device(&state, "c2", "eth1", &format!("nictype=sriov pci={address} name=eth1"));
        state.sh("c2", "ip -o link show eth1");
        state.good(&["config", "device", "remove", "c2", "eth1"]);

        // While it runs.
        state.good(&["config", "device", "set", "c1", "eth0", "vlan=6"]);
        assert!(told(&card, 0).contains("vlan 6"), "{}", told(&card, 0));
        assert!(state.sh("c1", "ip -o link show inner0").contains("02:00:00:00:00:51"));
        state.good(&["config", "device", "remove", "c1", "eth0"]);
        let zero = told(&card, 0);
        assert!(!zero.contains("vlan") && !zero.contains("02:00:00:00:00:51"), "{zero}");
        assert!(functions(&card).contains(&name), "{name}: {:?}", functions(&card));
        assert_eq!(volatile(&state, "last_state.vf.id") + &volatile(&state, "host_name"), "");
        add_device(&state, "c1", "eth0", &options);
        assert!(told(&card, 0).contains("vlan 5"));

        // Without a monitor the kernel would keep the settings, and any name.
        let init = state.init("c1");
        let stat = std::fs::read_to_string(format!("/proc/{init}/stat")).unwrap();
        host(&format!("kill -9 {}", stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap()));
        state.good(&["start", "c1"]);
        assert!(told(&card, 0).contains("vlan 5"));
        state.good(&["delete", "-f", "c1", "c2"]);
        for id in 0..2 {
            let shown = told(&card, id);
            assert!(shown.contains("spoof checking on") && !shown.contains("vlan"), "{shown}");
            assert!(!shown.contains("02:00:00:00:00:51"), "{shown}");
        }
        let back = functions(&card);
        assert!(back.contains(&name) && back.len() == 7, "{name}: {back:?}");
        state.good(&["network", "delete", "vfnet"]);
    });
    state.finish();
}

/// There are so many of them, and an instance that gets none leaves none changed.
#[test]
fn virtual_functions_run_out() {
    let test = "virtual_functions_run_out";
    let Some((state, card, _alone)) = card(test) else { return };
    with_the_network(|| {
        state.good(&["create", "test", "c1"]);
        for n in 0..8 {
            add_device(&state, "c1", &format!("eth{n}"), &format!("nictype=sriov parent={card} vlan=7"));
        }
        refused(&state, "c1", &format!("All virtual functions on parent device \"{card}\" are already in use"));
        let shown = host(&format!("ip link show {card}"));
        assert!(!shown.contains("vlan") && functions(&card).len() == 7, "{shown}");
        state.good(&["delete", "c1"]);
        state.good(&["create", "test", "c1"]);
        add_device(&state, "c1", "eth0", "nictype=sriov vendorid=1af4");
        refused(&state, "c1", "Couldn't find a matching NIC");
        state.good(&["delete", "c1"]);
    });
    state.finish();
}

/// Killed at any step, the next command gives the function back or has it all: the card is what it was in the end.
#[test]
fn a_kill_leaves_no_function_changed() {
    let test = "a_kill_leaves_no_function_changed";
    let Some((mut state, card, _alone)) = card(test) else { return };
    match std::env::var_os("STAPES_FAULTS_BIN").filter(|bin| !bin.is_empty()) {
        Some(bin) => state.bin = bin.into(),
        None => return skip(test, "no binary with fault points (STAPES_FAULTS_BIN)"),
    }
    with_the_network(|| {
        state.good(&["create", "test", "c1"]);
        let add = format!(
            "config device add c1 eth0 nic nictype=sriov parent={card} name=eth0 vlan=9 hwaddr=02:00:00:00:00:59 security.mac_filtering=true"
        );
        let add = add.as_str();
        let plugged = [add, "start c1"];
        let rows: [(&[&str], &str, &[&str]); 3] = [
            (&[add], "start c1", &["nic.function", "nic.unbound", "nic.bound", "start.connected", "start.running"]),
            (&["start c1"], add, &["nic.function", "nic.bound", "live.nic.noted", "live.nic.in"]),
            (
                &plugged,
                "config device remove c1 eth0",
                &["live.nic.out", "nic.unbound", "nic.removed", "live.nic.ended"],
            ),
        ];
        let words = |text: &str| state.run(&text.split(' ').collect::<Vec<_>>());
        for (before, verb, points) in rows {
            for point in points {
                for text in before {
                    words(text).good().unwrap();
                }
                let args: Vec<&str> = verb.split(' ').collect();
                let mut command = state.command(&args);
                command.env("STAPES_FAULT", format!("kill:{point}"));
                let out = crate::common_root::run(command, None, crate::common_root::PATIENCE);
                assert!(out.code().is_none(), "{verb} does not pass {point}: {out}");
                state.good(&["config", "set", "c1", "user.next=1"]);
                let has = state.good(&["config", "show", "c1"]).contains("vlan: \"9\"");
                let runs = state.good(&["list", "-f", "csv", "-c", "s"]).contains("RUNNING");
                assert_eq!(told(&card, 0).contains("vlan 9"), has && runs, "{verb}, {point}: {}", told(&card, 0));
                state.run(&["stop", "-f", "c1"]);
                assert!(!told(&card, 0).contains("vlan 9"), "{verb}, {point}");
                assert_eq!(functions(&card).len(), 7, "{verb}, {point}");
                state.run(&["config", "device", "remove", "c1", "eth0"]);
            }
        }
        state.good(&["delete", "c1"]);
    });
    state.finish();
}
