//! The network interfaces of a container, made by the monitor in the network namespace of process 1 before that goes on.
//!
//! A pair is made with its inner end straight in there, under its final name: nothing is ever moved or renamed but an
//! interface of the host that is passed on. All that is made here ends with the namespace; an interface of the host is taken
//! back by whoever ends the container. In a container that runs, `ops` plugs interfaces in and out one by one, here as well.

use super::plan::Plan;
use super::{nic_inside, nic_routed, nic_vlans};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::links::{self, Change, End, IpVlan, Kind, LinkSpec, Links, MacVlan, Target, route, spec, sysctl, tc};
use crate::model::nic::{HostEnd, IpvlanMode, Link, MacvlanMode, Nic};
use crate::store::plugged::{Before, Board, Hardware, Plugged};
use crate::sys::clone::Child;
use crate::sys::{ns, process};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The network namespace of a container. It is kept, so that what it has of the host when it ends can be taken back.
#[derive(Debug)]
pub struct Lent {
    net: OwnedFd,
    run_dir: PathBuf,
}

impl Lent {
    /// That of the process `pid`, whose container has this run folder.
    ///
    /// # Errors
    /// ENOENT if the process has ended.
    pub fn of(pid: i32, run_dir: &Path) -> Result<Self> {
        let net = ns::open(pid, "net").context("Failed opening the network namespace")?;
        Ok(Self { net, run_dir: run_dir.to_path_buf() })
    }

    /// Takes interfaces of the host back, as they were. To be called when the container has ended; without it, when the
    /// monitor was killed, the kernel gives hardware to the first network namespace, under the name it has inside, some time
    /// later: [`restore`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn give_back(self) -> Result<()> {
        let board = Board::read(&self.run_dir)?;
        let lent: Vec<&Plugged> = board.all().iter().filter(|p| p.before.is_some()).collect();
        if lent.is_empty() {
            return Ok(());
        }
        let mut host = Links::open()?;
        let failed = lent.into_iter().filter_map(|p| unplug(&mut host, self.net.as_fd(), p).err()).collect();
        Error::join(failed).map_or(Ok(()), |e| Err(e.context("Failed taking network interfaces back")))
    }
}

/// Makes them all, and notes them in the run folder.
///
/// # Errors
/// `Failed to start device "eth0": …`; what was made goes with the child.
pub(super) fn make(plan: &Plan, child: &Child) -> Result<Lent> {
    let lent = Lent::of(child.pid(), &plan.run_dir)?;
    if plan.nics.is_empty() && Board::read(&plan.run_dir)?.all().is_empty() {
        return Ok(lent);
    }
    let mut host = Links::open()?;
    let mut all = Vec::new();
    for nic in &plan.nics {
        all.push(noted(&mut host, nic).with_context(|| failed(nic))?);
    }
    Board::begin(&plan.run_dir, all.clone())?;
    fault::point("container.nics")?;
    for plugged in &mut all {
        whole(&mut host, &plugged.nic, lent.net.as_fd()).with_context(|| failed(&plugged.nic))?;
        fault::point("container.nic")?;
        settle(plugged, lent.net.as_fd()).with_context(|| failed(&plugged.nic))?;
    }
    Board::begin(&plan.run_dir, all)?;
    Ok(lent)
}

fn failed(nic: &Nic) -> String {
    format!("Failed to start device \"{}\"", nic.device)
}

/// What is noted of an interface before it is made.
///
/// # Errors
/// Not found: the interface of the host that is to be passed on.
pub fn noted(host: &mut Links, nic: &Nic) -> Result<Plugged> {
    let before = match nic.link.lent() {
        None => None,
        Some(_) => {
            let link = lent(host, &nic.link)?;
            let (up, mtu, mac, device) = (link.is_up(), link.mtu, link.mac, hardware(&link));
            Some(Before { name: link.name, index: link.index, up, mtu, mac, device })
        }
    };
    Ok(Plugged { done: false, filtered: false, inside: None, before, nic: nic.clone() })
}

fn hardware(link: &links::Link) -> Option<Hardware> {
    let links::Device { bus, name, mac } = link.device.clone();
    (!name.is_empty()).then_some(Hardware { bus, name, mac })
}

/// How long the kernel may take to give hardware back after the last process of its network namespace.
const RETURN: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Has hardware that the kernel gave back, because nobody took it back before, be what it was. To be called when the container
/// has ended; what does not come back in time is not waited for. Virtual functions are not meant: they get their driver anew.
///
/// # Errors
/// The kernel refuses.
pub fn restore(board: &Board) -> Result<()> {
    let lent = board.all().iter().filter(|plugged| !matches!(plugged.nic.link, Link::Function(_)));
    let mut missing: Vec<&Before> = lent.filter_map(|plugged| plugged.before.as_ref()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (mut host, end) = (Links::open()?, Instant::now() + RETURN);
    loop {
        let mut left = Vec::new();
        for before in missing {
            if !restore_one(&mut host, before).with_context(|| format!("Failed restoring \"{}\"", before.name))? {
                left.push(before);
            }
        }
        if left.is_empty() || Instant::now() >= end {
            return Ok(());
        }
        missing = left;
        process::pause(PAUSE);
    }
}

/// False if it is not there.
fn restore_one(host: &mut Links, before: &Before) -> Result<bool> {
    let Some(own) = &before.device else { return Ok(true) };
    let Some(link) = host.list()?.into_iter().find(|link| hardware(link).as_ref() == Some(own)) else {
        return Ok(false);
    };
    if (&link.name, link.mtu, link.mac, link.is_up()) == (&before.name, before.mtu, before.mac, before.up) {
        return Ok(true);
    }
    let down = spec::change(&link.target(), &Change { up: Some(false), ..Change::default() });
    host.run(down)?;
    // Whoever names interfaces on the host may have made that a further name of it.
    host.run(spec::forget_name(&link.target(), &before.name))?;
    host.run(spec::change(&link.target(), &as_before(before)))?;
    Ok(true)
}

fn as_before(before: &Before) -> Change<'_> {
    let (name, up, mtu) = (Some(before.name.as_str()), Some(before.up), Some(before.mtu));
    Change { name, up, mtu, mac: before.mac, ..Change::default() }
}

/// Notes what is known once it is there: its number inside, where it is not ended from the host.
fn settle(plugged: &mut Plugged, net: BorrowedFd<'_>) -> Result<()> {
    if plugged.nic.link.host_end().is_none() {
        plugged.inside = Some(Links::open_in(net)?.get(&plugged.nic.name)?.index);
    }
    plugged.done = true;
    Ok(())
}

/// Makes one in the network namespace `net` of a container that runs; `plugged` was noted before, and is to be noted again.
///
/// # Errors
/// The kernel refuses.
pub fn plug(host: &mut Links, net: BorrowedFd<'_>, plugged: &mut Plugged) -> Result<()> {
    whole(host, &plugged.nic, net)?;
    fault::point("container.plugged")?;
    settle(plugged, net)
}

/// Takes one out of the network namespace `net`, whatever of it is there. An interface of the host becomes what it was.
///
/// # Errors
/// The kernel refuses.
pub fn unplug(host: &mut Links, net: BorrowedFd<'_>, plugged: &Plugged) -> Result<()> {
    if let Some(end) = plugged.nic.link.host_end() {
        return host.run(spec::delete(&end.name));
    }
    let mut inside = Links::open_in(net)?;
    let found = match plugged.inside {
        Some(index) => inside.at(index)?,
        None => inside.find(&plugged.nic.name)?,
    };
    let Some(found) = found else { return Ok(()) };
    match &plugged.before {
        None => inside.run(spec::delete_at(&found.target())),
        // It was not passed on yet: what has its name inside is another's.
        Some(before) if !plugged.done && host.at(before.index)?.is_some_and(|l| l.name == before.name) => Ok(()),
        Some(before) => back(&mut inside, &found.target(), before),
    }
}

/// Moves an interface from `inside` into our namespace.
fn back(inside: &mut Links, target: &Target, before: &Before) -> Result<()> {
    let own = ns::open_own_net().context("Failed opening the network namespace")?;
    let down = spec::change(target, &Change { up: Some(false), ..Change::default() });
    let out = Change { namespace: Some(own.as_fd()), ..as_before(before) };
    inside.run_all(vec![down, spec::change(target, &out)])
}

/// Looks whether the bridge or the interface of the host that one is made on is there.
///
/// # Errors
/// [`crate::error::Kind::NotFound`].
pub fn check(host: &mut Links, nic: &Nic) -> Result<()> {
    let on = match &nic.link {
        Link::Veth(end) => end.bridge.as_ref().map(|port| &port.bridge),
        Link::Macvlan { parent, .. } | Link::Physical { parent } | Link::Ipvlan { parent, .. } => Some(parent),
        Link::Routed(_) | Link::Function(_) => None,
    };
    on.map_or(Ok(()), |name| host.get(name).map(drop))
}

/// True if one that has no end on the host is in the network namespace `net`.
///
/// # Errors
/// The kernel refuses.
pub fn is_inside(net: BorrowedFd<'_>, plugged: &Plugged) -> Result<bool> {
    let Some(index) = plugged.inside else { return Ok(false) };
    Ok(Links::open_in(net)?.at(index)?.is_some())
}

/// True if a name is free in the network namespace `net`.
///
/// # Errors
/// The kernel refuses.
pub fn is_free(net: BorrowedFd<'_>, name: &str) -> Result<bool> {
    Ok(Links::open_in(net)?.find(name)?.is_none())
}

/// One with what it has inside.
fn whole(host: &mut Links, nic: &Nic, net: BorrowedFd<'_>) -> Result<()> {
    one(host, nic, net)?;
    nic_inside::configure(nic, net)
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
        Link::Physical { .. } | Link::Function(_) => pass_on(host, inner, &nic.link),
        Link::Routed(routed) => nic_routed::make(host, inner, routed),
        Link::Ipvlan { parent, mode } => {
            let lower = host.target(parent)?;
            let kind = Kind::IpVlan(match mode {
                IpvlanMode::L2 => IpVlan::L2,
                IpvlanMode::L3s => IpVlan::L3s,
            });
            host.create(&LinkSpec { end: inner, kind, master: None, lower: Some(lower.index) })
        }
    }
}

/// The interface of the host that is passed on. Whoever names interfaces there may be about to name that of a virtual function,
/// whose driver was bound just now.
fn lent(host: &mut Links, own: &Link) -> Result<links::Link> {
    let name = own.lent().unwrap_or_default();
    let found = match own {
        Link::Function(function) => host.of_device(&function.device)?.into_iter().next(),
        _ => return host.get(name),
    };
    found.ok_or_else(|| Error::not_found(format!("Network interface \"{name}\" not found")))
}

/// Moves an interface of the host into the container.
fn pass_on(host: &mut Links, inner: End<'_>, own: &Link) -> Result<()> {
    let link = lent(host, own)?;
    let down = spec::change(&link.target(), &Change { up: Some(false), ..Change::default() });
    let into = Change {
        namespace: inner.namespace,
        name: Some(inner.name),
        up: Some(true),
        mtu: inner.mtu,
        // A card that gave it its address lets nobody set one, be it the same.
        mac: inner.mac.filter(|mac| link.mac != Some(*mac)),
        ..Change::default()
    };
    host.run_all(vec![down, spec::change(&link.target(), &into)])
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
    create_pair(host, inner, outer, bridge.map(|b| b.index))?;
    let target = host.target(&outer.name)?;
    let mut steps = Vec::new();
    if let Some(port) = &outer.bridge {
        // The host itself has nothing to say on a port.
        if sysctl::has_ipv6() {
            sysctl::set(sysctl::Family::V6, &outer.name, &[(sysctl::Setting::DisableIpv6, 1)])?;
        }
        let flags =
            links::Port { isolated: Some(port.isolated), hairpin: Some(port.hairpin), ..links::Port::default() };
        steps.push(spec::change_port(&target, &flags));
        steps.extend(nic_vlans::steps(host, &target, port)?);
    }
    steps.extend(limits(&target, outer));
    if outer.connected {
        steps.push(spec::change(&target, &Change { up: Some(true), ..Change::default() }));
        steps.extend(outer.routes.iter().map(|net| route::add(&links::Route::on(*net, target.index))));
    }
    host.run_all(steps)
}

/// Has the host's end be `new`; `old`: what is there of it. They differ in what can be changed while it is there.
///
/// # Errors
/// Not found: it is gone. The kernel refuses.
pub fn adjust(host: &mut Links, old: &HostEnd, new: &HostEnd) -> Result<()> {
    let target = host.target(&new.name)?;
    let mut steps = Vec::new();
    if let Some(port) = &new.bridge {
        let flags =
            links::Port { isolated: Some(port.isolated), hairpin: Some(port.hairpin), ..links::Port::default() };
        steps.push(spec::change_port(&target, &flags));
    }
    steps.extend(match new.ingress {
        Some(rate) => tc::limit_ingress(&target, rate),
        None => vec![tc::remove_ingress(&target)],
    });
    steps.extend(match new.egress {
        Some(rate) => tc::limit_egress(&target, rate),
        None => vec![tc::remove_egress(&target)],
    });
    // An end that is down has no routes.
    steps.push(spec::change(&target, &Change { up: Some(new.connected), ..Change::default() }));
    let gone = old.routes.iter().filter(|net| !new.routes.contains(net));
    steps.extend(gone.map(|net| route::remove(&links::Route::on(*net, target.index))));
    host.run_all(steps)?;
    fault::point("container.adjusted")?;
    if !new.connected || new.routes.is_empty() {
        return Ok(());
    }
    let mut there = Vec::new();
    for v4 in [true, false] {
        there.extend(host.routes(v4, Some(route::MAIN), Some(target.index))?.into_iter().map(|r| r.to));
    }
    let missing = new.routes.iter().filter(|net| !there.contains(net));
    host.run_all(missing.map(|net| route::add(&links::Route::on(*net, target.index))).collect())
}

/// Makes a pair whose end on the host is not up yet.
pub(super) fn create_pair(host: &mut Links, inner: End<'_>, outer: &HostEnd, master: Option<u32>) -> Result<()> {
    let end = End { name: &outer.name, mtu: inner.mtu, tx_queue: outer.tx_queue, ..End::default() };
    let inner = End { tx_queue: outer.tx_queue, ..inner };
    host.create(&LinkSpec { end, kind: Kind::Veth(inner), master, lower: None })
}

/// The steps that set its limits.
pub(super) fn limits(target: &links::Target, outer: &HostEnd) -> Vec<links::Step> {
    let ingress = outer.ingress.into_iter().flat_map(|rate| tc::limit_ingress(target, rate));
    ingress.chain(outer.egress.into_iter().flat_map(|rate| tc::limit_egress(target, rate))).collect()
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
