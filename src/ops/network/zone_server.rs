//! The DNS server of zones: one process of ours at the address of `core.dns_address`, for as long as there is a zone. It is handed
//! everything when it starts, and again whenever something it is told of has changed: a zone or a record, a network that names a
//! zone, an instance there that starts or goes. `network::zones` says what it answers, `nameserver` is the process.
//!
//! What it is to say is made from the records under one lock, and compared with what it was told: whoever changes something
//! calls [`follow`] afterwards, and the last one to do so sees everything. The text is noted before it is handed over and gets its
//! name afterwards, so what a killed command left open is handed over again.

use super::{leases, zones};
use crate::base::names::{ProjectName, ZoneName};
use crate::base::time;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::network::bridge::{IPV4_NAT, IPV6_NAT};
use crate::model::keys::network::zone as keys;
use crate::model::keys::server;
use crate::model::network::zone::{Zone, ZoneKind, ZoneLine, address_line, kind, record_lines};
use crate::model::network::{Network, NetworkType};
use crate::network::zones::text::{self, Served, Told};
use crate::ops::{load, logs, spawn};
use crate::store::atomic::{self, Durability};
use crate::store::lock::{Allocator, Proof};
use crate::store::{Action, Store, journal, proxies};
use crate::sys::{memfd, socket};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

/// Argument zero of the role.
pub const ROLE: &str = "stapes-nameserver";
/// What the role finds at its descriptors from 3 on: what it is to say, the pipe to report on, its file, and the socket it is told
/// of changes at.
pub const HANDED: [i32; 4] = [3, 4, 5, 6];

/// How long it may take to take a change over.
const PATIENCE: Duration = Duration::from_secs(10);
/// What it was told, and what it is about to be told.
const TOLD: &str = "told";
const NEXT: &str = "next";
/// Its file, and the socket.
const PROCESS: &str = "process";
const CONTROL: &str = "control";

/// Has the server agree with the records; what it cannot serve, in words. Takes a lock that comes after all others.
///
/// # Errors
/// A record is damaged; its address is another's.
pub fn renew(store: &Store) -> Result<Vec<String>> {
    let _lock = store.lock_allocator(Allocator::Zones)?;
    let Some((listen, Told { text, left_out })) = wanted(store)? else {
        stop(store)?;
        return Ok(Vec::new());
    };
    let runs = proxies::lives(&file(store, PROCESS))?;
    if runs && is_done(store, &text) {
        return Ok(left_out);
    }
    let folder = store.layout().zones_run_dir();
    let fail = || format!("Failed writing {}", folder.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(fail)?;
    atomic::replace(&file(store, NEXT), text.as_bytes(), 0o600, Durability::Fast).with_context(fail)?;
    fault::point("zones.begin")?;
    if !(runs && tell(store, &text).unwrap_or(false)) {
        end(store)?;
        fault::point("zones.ended")?;
        let started = start(store, &text, listen);
        if started.is_err() {
            // The next one begins from nothing.
            for name in [TOLD, NEXT] {
                let _ = std::fs::remove_file(file(store, name));
            }
        }
        started.with_context(|| format!("Failed serving zones at {} port {}", listen.ip(), listen.port()))?;
    }
    fault::point("zones.told")?;
    std::fs::rename(file(store, NEXT), file(store, TOLD)).with_context(fail)?;
    Ok(left_out)
}

/// The same after a change that stands already, such as an instance that starts: what goes wrong does not undo that, and
/// `doctor` finds it. What kept it from working for a moment does not the second time.
pub(in crate::ops) fn follow(store: &Store) {
    let _ = renew(store).or_else(|_| renew(store));
}

/// Carries out a change of what is served: whatever becomes of it, and of whoever does it, the server says afterwards what the
/// records say. `configs`: of networks that are changed and may name zones; none if it is a zone that changes.
///
/// # Errors
/// What `act` says.
pub(in crate::ops) fn changing<T>(
    store: &Store,
    (verb, held): (&str, &dyn Proof),
    configs: &[&Config],
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let concerned = configs.is_empty() || configs.iter().any(|config| !zones::named(config).is_empty());
    if !concerned || !store.server()?.config.contains_key(server::DNS_ADDRESS) {
        return act();
    }
    journal::run(store, verb, &[held], |journal| {
        journal.undo(Action::RenewZones)?;
        let done = act()?;
        renew(store).map_err(|e| match e.hint_text() {
            Some(_) => e,
            None => e.hint("what was to be changed has changed; stapes doctor --fix tries to serve it again"),
        })?;
        Ok(done)
    })
}

/// The same after a change of something that `config`, a network's, may name a zone for.
pub(in crate::ops) fn follow_network(store: &Store, config: &Config) {
    if !zones::named(config).is_empty() {
        follow(store);
    }
}

/// Was a server started, and not ended?
pub(in crate::ops) fn is_told(store: &Store) -> bool {
    [TOLD, NEXT].iter().any(|name| file(store, name).exists())
}

/// Is what runs not what the records say?
///
/// # Errors
/// A record is damaged.
pub fn is_stale(store: &Store) -> Result<bool> {
    let runs = proxies::lives(&file(store, PROCESS))?;
    let Some((_, wanted)) = wanted(store)? else { return Ok(runs) };
    Ok(!runs || !is_done(store, &wanted.text))
}

/// What of the records is not served, in words.
///
/// # Errors
/// A record is damaged.
pub fn left_out(store: &Store) -> Result<Vec<String>> {
    Ok(wanted(store)?.map(|(_, told)| told.left_out).unwrap_or_default())
}

/// Is this what it was told last?
fn is_done(store: &Store, text: &str) -> bool {
    !file(store, NEXT).exists() && text == told(store)
}

/// What it was told last, or was about to be told.
fn told(store: &Store) -> String {
    let read = |name| std::fs::read_to_string(file(store, name));
    read(NEXT).or_else(|_| read(TOLD)).unwrap_or_default()
}

/// A zone as it is to be served.
struct Owned {
    name: ZoneName,
    zone: Zone,
    lines: Vec<ZoneLine>,
}

/// Where it is to listen, and what it is to be told. None if there is nothing to say.
fn wanted(store: &Store) -> Result<Option<(SocketAddr, Told)>> {
    let config = store.server()?.config;
    let Some(listen) = config.get(server::DNS_ADDRESS).filter(|v| !v.is_empty()) else { return Ok(None) };
    let all = owned(store)?;
    if all.is_empty() {
        return Ok(None);
    }
    let listen = SocketAddr::from(server::dns_address(listen)?);
    let served = all.iter().map(|o| Served { name: &o.name, options: &o.zone.config, lines: &o.lines });
    let served: Vec<Served<'_>> = served.collect();
    let now = u32::try_from(time::now().as_second()).unwrap_or(0);
    Ok(Some((listen, text::told(&served, listen, &told(store), now))))
}

/// All zones with what is in them.
fn owned(store: &Store) -> Result<Vec<Owned>> {
    let mut all = Vec::new();
    for (project, _) in store.projects()? {
        for (name, zone) in store.zones(&project)? {
            let zone = zone?;
            let mut owned = Owned { name, zone, lines: Vec::new() };
            for (record, found) in store.zone_records(&project, &owned.name)? {
                owned.lines.extend(record_lines(&owned.name, record.as_str(), &found?)?);
            }
            addresses(store, &project, &mut owned)?;
            all.push(owned);
        }
    }
    Ok(all)
}

/// Adds what instances on networks that name the zone have of addresses.
fn addresses(store: &Store, owner: &ProjectName, zone: &mut Owned) -> Result<()> {
    let behind_nat = keys::NAT.bool(&zone.zone.config)?;
    for (project, _) in store.projects()? {
        if zones::project_of(store, &project)? != *owner {
            continue;
        }
        for (name, network) in store.networks(&project)? {
            let Ok(network) = network else { continue };
            let names = zones::named(&network.config);
            if network.kind != NetworkType::Bridge || !names.iter().any(|(n, _)| *n == zone.name.as_str()) {
                continue;
            }
            let domain = names.iter().find(|(_, kind)| *kind == ZoneKind::Forward).map(|(n, _)| *n).unwrap_or_default();
            if kind(&zone.name) != ZoneKind::Forward && domain.is_empty() {
                continue;
            }
            for (hostname, address) in leases::known(store, &project, &name)? {
                if behind_nat || !is_behind_nat(&network, address) {
                    zone.lines.extend(address_line(&zone.name, &hostname, address, domain));
                }
            }
        }
    }
    Ok(())
}

fn is_behind_nat(network: &Network, address: IpAddr) -> bool {
    let key = if address.is_ipv4() { &IPV4_NAT } else { &IPV6_NAT };
    key.bool(&network.config).unwrap_or(false)
}

fn file(store: &Store, name: &str) -> PathBuf {
    store.layout().zones_run_dir().join(name)
}

/// Hands the text to the server that runs; true if it says it now, which one that listens elsewhere does not.
fn tell(store: &Store, text: &str) -> Result<bool> {
    let socket = socket::connect_packets(&file(store, CONTROL))?;
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE))?;
    let text = memfd::sealed("stapes-zones", text.as_bytes())?;
    socket::send_fds(socket.as_fd(), &[text.as_fd()])?;
    Ok(socket::wait(socket.as_fd())?)
}

fn start(store: &Store, text: &str, listen: SocketAddr) -> Result<()> {
    let fail = "Failed starting the DNS server";
    let lock = proxies::begin_at(&file(store, PROCESS)).context(fail)?;
    let lock = lock.ok_or_else(|| Error::busy("The DNS server of zones is still running"))?;
    let at = file(store, CONTROL);
    // That of one that is gone.
    let _ = std::fs::remove_file(&at);
    let control = socket::listen_packets(&at).context(fail)?;
    let text = memfd::sealed("stapes-zones", text.as_bytes()).context(fail)?;
    let (ready, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let log = logs::open(&store.layout().zones_run_dir(), "log")?;
    let null = std::fs::File::open("/dev/null").context("Failed opening \"/dev/null\"")?;
    let exe = spawn::our_binary(false).context("Failed opening ourselves")?;
    let handed = [text.as_fd(), theirs.as_fd(), lock.as_fd(), control.as_fd()];
    let words = [ROLE.to_string(), listen.to_string()];
    let program = spawn::role([null.as_raw_fd(), log.as_raw_fd()], &handed, exe.as_fd(), words)?;
    let mut child = spawn::into_tree(&load::cgroups(store.layout())?, &program).context(fail)?;
    drop((theirs, lock, control));
    if let Err(failure) = child.wait_exec().context(fail)? {
        return Err(Error::failed(format!("{fail}: error {}", failure.errno)));
    }
    fault::point("zones.started")?;
    spawn::await_ready(ready, child, "The DNS server ended before it was listening")
}

/// Ends the process, if it runs.
fn end(store: &Store) -> Result<()> {
    let at = file(store, PROCESS);
    if !at.exists() {
        return Ok(());
    }
    proxies::end(&at).context("Failed stopping the DNS server of zones")?;
    // The next one has one of its own: whoever waited for this one's lock may have it for a moment yet.
    std::fs::remove_file(&at).context("Failed removing its file")
}

/// Ends it for good.
fn stop(store: &Store) -> Result<()> {
    end(store)?;
    fault::point("zones.stopped")?;
    match std::fs::remove_dir_all(store.layout().zones_run_dir()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::from(e).context("Failed removing its files")),
        _ => Ok(()),
    }
}
