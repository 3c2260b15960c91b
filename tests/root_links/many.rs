//! Costs of one port more on a bridge that has many.

use super::support::{alone, elsewhere, spec};
use stapes::host::links::{Bridge, End, Kind, LinkSpec, spec as change};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn the_two_hundredth_port_costs_what_the_first_does() {
    alone("the_two_hundredth_port_costs_what_the_first_does", |links| {
        let guest = elsewhere();
        let mut bridge = |name: &str| {
            links.create(&spec(name, Kind::Bridge(Bridge::default()))).unwrap();
            links.get(name).unwrap().index
        };
        let (full, empty) = (bridge("full0"), bridge("empty0"));
        let mut add = |master: u32, n: usize| {
            let (outer, inner) = (format!("v{n}"), format!("e{n}"));
            let began = Instant::now();
            let peer = End { name: &inner, up: true, namespace: Some(guest.as_fd()), ..End::default() };
            links.create(&LinkSpec { master: Some(master), ..spec(&outer, Kind::Veth(peer)) }).unwrap();
            links.target(&outer).unwrap();
            began.elapsed()
        };
        for n in 0..200 {
            add(full, n);
        }
        // By turns, so that both see the same of whatever else goes on.
        let mut times = (Vec::new(), Vec::new());
        for n in (200..240).step_by(2) {
            times.0.push(add(full, n));
            times.1.push(add(empty, n + 1));
        }
        let (many, few) = (middle(times.0), middle(times.1));
        eprintln!("a port more on a bridge that has 200: {many:?}, on one that has few: {few:?}");
        // If each looked at all of them it would be ten times as long.
        assert!(many < few * 5 + Duration::from_millis(1), "{many:?} {few:?}");
        assert_eq!((links.ports_of(full).unwrap().len(), links.ports_of(empty).unwrap().len()), (220, 20));
        links.run_all((0..240).map(|n| change::delete(&format!("v{n}"))).collect()).unwrap();
        assert_eq!(links.ports_of(full).unwrap().len(), 0);
    });
}
