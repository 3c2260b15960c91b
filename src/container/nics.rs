//! The network interfaces of a container, made by the monitor in the network namespace of process 1 before that goes on.
//!
//! A pair is made with its inner end straight in there, under its final name: nothing is ever moved or renamed but an
//! interface of the host that is passed on. All that is made here ends with the namespace; an interface of the host comes
//! back by itself, under the name it has inside.

use super::plan::Plan;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::links::{self, Change, End, Kind, LinkSpec, Links, MacVlan, route, spec, sysctl, tc};
use crate::model::nic::{HostEnd, Link, MacvlanMode, Nic};
use crate::sys::clone::Child;
use crate::sys::ns;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Interfaces of the host that a container has. Its namespace stays for them until they are given back.
#[derive(Debug)]
pub struct Lent {
    net: OwnedFd,
    taken: Vec<Taken>,
}

/// One of them: its name inside, and as it was on the host.
#[derive(Debug)]
struct Taken {
    inside: String,
    before: links::Link,
}

impl Lent {
    /// Takes them back, as they were. To be called when the container has ended; without it the kernel gives them to the
    /// first network namespace, some time later.
    ///
    /// # Errors
    /// The kernel refuses, for one that is gone too.
    pub fn give_back(self) -> Result<()> {
        let own = ns::open_own_net().context("Failed opening the network namespace")?;
        let mut inside = Links::open_in(self.net.as_fd())?;
        let back = |taken: &Taken| {
            let target = inside.target(&taken.inside)?;
            let down = spec::change(&target, &Change { up: Some(false), ..Change::default() });
            let before = &taken.before;
            let out = Change {
                namespace: Some(own.as_fd()),
                name: Some(&before.name),
                up: Some(before.is_up()),
                mtu: Some(before.mtu),
                mac: before.mac,
                ..Change::default()
            };
            inside.run_all(vec![down, spec::change(&target, &out)])
        };
        let failed = self.taken.iter().map(back).filter_map(Result::err).collect();
        Error::join(failed).map_or(Ok(()), |e| Err(e.context("Failed taking network interfaces back")))
    }
}

/// Makes them all; what of the host is lent to the container comes back.
///
/// # Errors
/// `Failed to start device "eth0": …`; what was made goes with the child.
pub(super) fn make(plan: &Plan, child: &Child) -> Result<Option<Lent>> {
    if plan.nics.is_empty() {
        return Ok(None);
    }
    let net = ns::open(child.pid(), "net").context("Failed opening the network namespace")?;
    let mut host = Links::open()?;
    let mut taken = Vec::new();
    for nic in &plan.nics {
        let fail = || format!("Failed to start device \"{}\"", nic.device);
        if let Link::Physical { parent } = &nic.link {
            taken.push(Taken { inside: nic.name.clone(), before: host.get(parent).with_context(fail)? });
        }
        one(&mut host, nic, net.as_fd()).with_context(fail)?;
        fault::point("container.nic")?;
    }
    Ok((!taken.is_empty()).then_some(Lent { net, taken }))
}

fn one(host: &mut Links, nic: &Nic, net: BorrowedFd<'_>) -> Result<()> {
    let inner =
        End { name: &nic.name, mac: nic.hwaddr, mtu: nic.mtu, up: true, namespace: Some(net), ..End::default() };
    match &nic.link {
        Link::Veth(outer) => pair(host, inner, outer),
        Link::Macvlan { parent, mode } => {
            let lower = host.target(parent)?;
            let kind = Kind::MacVlan(kernel_mode(*mode));
            host.create(&LinkSpec { end: inner, kind, master: None, lower: Some(lower.index) })
        }
        Link::Physical { parent } => {
            let target = host.target(parent)?;
            let down = spec::change(&target, &Change { up: Some(false), ..Change::default() });
            let into = Change {
                namespace: Some(net),
                name: Some(&nic.name),
                up: Some(true),
                mtu: nic.mtu,
                mac: nic.hwaddr,
                ..Change::default()
            };
            host.run_all(vec![down, spec::change(&target, &into)])
        }
    }
}

fn kernel_mode(mode: MacvlanMode) -> MacVlan {
    match mode {
        MacvlanMode::Bridge => MacVlan::Bridge,
        MacvlanMode::Vepa => MacVlan::Vepa,
        MacvlanMode::Private => MacVlan::Private,
        MacvlanMode::Passthru => MacVlan::Passthru,
    }
}

/// The host's end is set up last: by then it is a port with its flags, and what the host has of addresses on it is settled.
fn pair(host: &mut Links, inner: End<'_>, outer: &HostEnd) -> Result<()> {
    let bridge = outer.bridge.as_ref().map(|port| host.target(&port.bridge)).transpose()?;
    let end = End { name: &outer.name, mtu: inner.mtu, tx_queue: outer.tx_queue, ..End::default() };
    let inner = End { tx_queue: outer.tx_queue, ..inner };
    host.create(&LinkSpec { end, kind: Kind::Veth(inner), master: bridge.map(|b| b.index), lower: None })?;
    let target = host.target(&outer.name)?;
    let mut steps = Vec::new();
    if let Some(port) = &outer.bridge {
        // The host itself has nothing to say on a port.
        if sysctl::has_ipv6() {
            sysctl::set(sysctl::Family::V6, &outer.name, &[(sysctl::Setting::DisableIpv6, 1)])?;
        }
        let flags = links::Port { isolated: Some(port.isolated), ..links::Port::default() };
        steps.push(spec::change_port(&target, &flags));
    }
    steps.extend(outer.ingress.into_iter().flat_map(|rate| tc::limit_ingress(&target, rate)));
    steps.extend(outer.egress.into_iter().flat_map(|rate| tc::limit_egress(&target, rate)));
    steps.push(spec::change(&target, &Change { up: Some(true), ..Change::default() }));
    steps.extend(outer.routes.iter().map(|net| route::add(&links::Route::on(*net, target.index))));
    host.run_all(steps)
}

/// Ends what is left of them on the host, by name; nothing left is fine. Called when the container has ended: its namespace
/// takes the interfaces along, but not at once.
///
/// # Errors
/// The kernel refuses.
pub fn remove<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    let steps: Vec<_> = names.map(spec::delete).collect();
    if steps.is_empty() { Ok(()) } else { Links::open()?.run_all(steps) }
}
