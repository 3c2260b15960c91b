//! What `list` and `info` tell of the interfaces of a running instance.

use super::support::{alone, net, spec};
use stapes::host::links::{AddressOptions, End, Kind, LinkSpec, Links, address};
use stapes::ops::state_net;
use stapes::sys::ns;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A process in a network namespace of its own.
struct Guest(Child);

impl Guest {
    fn new() -> Self {
        let start = || {
            ns::unshare(libc::CLONE_NEWNET).expect("a network namespace");
            Command::new("sleep").arg("300").stdout(Stdio::null()).spawn().expect("started")
        };
        Self(std::thread::spawn(start).join().expect("a thread"))
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    fn net(&self) -> OwnedFd {
        ns::open(self.pid(), "net").unwrap()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn interfaces_of_an_instance() {
    alone("interfaces_of_an_instance", |links| {
        let guest = Guest::new();
        let inside = guest.net();
        let end =
            End { name: "eth0", mac: Some([0x10, 0x66, 0x6a, 0, 0, 9]), mtu: Some(1400), up: true, ..End::default() };
        let end = End { namespace: Some(inside.as_fd()), ..end };
        links.create(&LinkSpec { ..spec("veth9", Kind::Veth(end)) }).unwrap();
        let mut there = Links::open_in(inside.as_fd()).unwrap();
        let on = there.target("eth0").unwrap();
        let options = AddressOptions { nodad: true, ..AddressOptions::default() };
        there.run(address::add(&on, net("10.7.7.7/24"), options)).unwrap();
        there.run(address::add(&on, net("fd42::7/64"), options)).unwrap();
        // A pair of the instance's own, one end of which has a namespace of its own: not ours.
        let nested = super::support::elsewhere();
        let far = End { name: "far", up: true, namespace: Some(nested.as_fd()), ..End::default() };
        there.create(&spec("own0", Kind::Veth(far))).unwrap();

        let all = state_net::all(&[guest.pid()], true).pop().unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["eth0", "lo", "own0"]);
        let eth0 = &all["eth0"];
        assert_eq!((eth0.host_name.as_str(), eth0.hwaddr.as_str(), eth0.mtu), ("veth9", "10:66:6a:00:00:09", 1400));
        assert_eq!((eth0.state.as_str(), eth0.kind.as_str()), ("up", "broadcast"));
        let said: Vec<String> =
            eth0.addresses.0.iter().map(|a| format!("{} {}/{} {}", a.family, a.address, a.netmask, a.scope)).collect();
        assert_eq!(said[..2], ["inet 10.7.7.7/24 global", "inet6 fd42::7/64 global"]);
        assert!(said[2].starts_with("inet6 fe80::") && said[2].ends_with("/64 link"), "{said:?}");
        // Those who only wait for an address are told no more.
        let few = state_net::interfaces(guest.pid());
        assert_eq!(few.keys().collect::<Vec<_>>(), ["eth0", "lo", "own0"]);
        assert_eq!((few["eth0"].addresses.0.len(), few["eth0"].host_name.as_str()), (eth0.addresses.0.len(), ""));
        assert_eq!((all["own0"].host_name.as_str(), all["lo"].kind.as_str()), ("", "loopback"));
    });
}

#[test]
fn fifty_instances_cost_little() {
    alone("fifty_instances_cost_little", |links| {
        let guests: Vec<Guest> = (0..50).map(|_| Guest::new()).collect();
        for (n, guest) in guests.iter().enumerate() {
            let (inside, outer) = (guest.net(), format!("veth{n}"));
            let end = End { name: "eth0", up: true, namespace: Some(inside.as_fd()), ..End::default() };
            links.create(&spec(&outer, Kind::Veth(end))).unwrap();
            let mut there = Links::open_in(inside.as_fd()).unwrap();
            let on = there.target("eth0").unwrap();
            there.run(address::add(&on, net(&format!("10.0.{n}.5/24")), AddressOptions::default())).unwrap();
        }
        let once = || {
            let began = Instant::now();
            let pids: Vec<i32> = guests.iter().map(Guest::pid).collect();
            for (n, all) in state_net::all(&pids, true).iter().enumerate() {
                let eth0 = &all["eth0"];
                assert_eq!(eth0.addresses.0[0].address, format!("10.0.{n}.5"));
                assert_eq!(eth0.host_name, format!("veth{n}"));
            }
            began.elapsed()
        };
        let forks = || {
            let began = Instant::now();
            guests.iter().for_each(|_| assert!(Command::new("true").status().unwrap().success()));
            began.elapsed()
        };
        let (best, floor) = ((0..5).map(|_| once()).min().unwrap(), (0..5).map(|_| forks()).min().unwrap());
        // A number for whoever reads it: how busy the machine is decides, too.
        eprintln!("interfaces of 50 instances: {best:?}; a process for each: {floor:?}");
    });
}
