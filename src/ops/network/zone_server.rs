//! The DNS server of zones: one dnsmasq at the address of `core.dns_address`, for as long as there is a zone. It is told
//! everything when it starts, so it is started anew whenever something it is told of has changed: a zone or a record, a
//! network that names a zone, an instance there that starts or goes. `network::dnsmasq::zone` says what it can serve.
//!
//! What it is to say is made from the records under one lock, and compared with what it was told: whoever changes something
//! calls [`follow`] afterwards, and the last one to do so sees everything.

use super::{dns, leases, process, zones};
use crate::base::names::{ProjectName, ZoneName};
use crate::base::time;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::command::{Cmd, Host, Runner};
use crate::model::instance::Config;
use crate::model::keys::network::bridge::{IPV4_NAT, IPV6_NAT};
use crate::model::keys::network::zone as keys;
use crate::model::keys::server;
use crate::model::network::bridge::Bridge;
use crate::model::network::zone::{Zone, ZoneKind, ZoneLine, address_line, kind, record_lines};
use crate::model::network::{Network, NetworkType};
use crate::network::dnsmasq::zone::{self, Served};
use crate::store::atomic::{self, Durability};
use crate::store::lock::{Allocator, Proof};
use crate::store::{Action, Store, journal};
use crate::sys::pidfd;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// How long it may take to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
const SERIAL: &str = "auth-soa=";

/// Has the server agree with the records; what it cannot serve, in words. Takes a lock that comes after all others.
///
/// # Errors
/// A record is damaged; dnsmasq is missing, or does not start: its address is another's.
pub fn renew(store: &Store) -> Result<Vec<String>> {
    let _lock = store.lock_allocator(Allocator::Zones)?;
    let Some((listen, wanted)) = wanted(store)? else {
        stop(store)?;
        return Ok(Vec::new());
    };
    let served: Vec<Served<'_>> = wanted.iter().map(Owned::served).collect();
    let told = std::fs::read_to_string(file(store, "conf")).unwrap_or_default();
    let before = serial(&told).unwrap_or(0);
    let config = zone::config(&served, listen, before);
    if config.text == told && process::by_file(&file(store, "pid"))?.is_some() {
        return Ok(config.left_out);
    }
    // It has to rise, whatever the clock does.
    let now = u32::try_from(time::now().as_second()).unwrap_or(0);
    let config = zone::config(&served, listen, now.max(before.wrapping_add(1)));
    end(store)?;
    fault::point("zones.ended")?;
    start(store, &config.text).with_context(|| format!("Failed serving zones at {} port {}", listen.0, listen.1))?;
    Ok(config.left_out)
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
    file(store, "conf").exists()
}

/// Is what runs not what the records say?
///
/// # Errors
/// A record is damaged.
pub fn is_stale(store: &Store) -> Result<bool> {
    let told = std::fs::read_to_string(file(store, "conf")).unwrap_or_default();
    let runs = process::by_file(&file(store, "pid"))?.is_some();
    let Some((listen, wanted)) = wanted(store)? else { return Ok(runs) };
    let served: Vec<Served<'_>> = wanted.iter().map(Owned::served).collect();
    Ok(!runs || zone::config(&served, listen, serial(&told).unwrap_or(0)).text != told)
}

/// What of the records is not served, in words.
///
/// # Errors
/// A record is damaged.
pub fn left_out(store: &Store) -> Result<Vec<String>> {
    let Some((listen, wanted)) = wanted(store)? else { return Ok(Vec::new()) };
    let served: Vec<Served<'_>> = wanted.iter().map(Owned::served).collect();
    Ok(zone::config(&served, listen, 0).left_out)
}

/// A zone as it is to be served.
struct Owned {
    name: ZoneName,
    zone: Zone,
    lines: Vec<ZoneLine>,
    subnet: Option<crate::base::inet::IpNet>,
}

impl Owned {
    fn served(&self) -> Served<'_> {
        Served { name: &self.name, options: &self.zone.config, lines: self.lines.clone(), subnet: self.subnet }
    }
}

/// Address and port it is to listen at, and what it is to say.
type Wanted = ((IpAddr, u16), Vec<Owned>);

/// None if there is nothing to say.
fn wanted(store: &Store) -> Result<Option<Wanted>> {
    let config = store.server()?.config;
    let Some(listen) = config.get(server::DNS_ADDRESS).filter(|v| !v.is_empty()) else { return Ok(None) };
    let mut all = Vec::new();
    for (project, _) in store.projects()? {
        for (name, zone) in store.zones(&project)? {
            let zone = zone?;
            let mut owned = Owned { name, zone, lines: Vec::new(), subnet: None };
            for (record, found) in store.zone_records(&project, &owned.name)? {
                owned.lines.extend(record_lines(&owned.name, record.as_str(), &found?)?);
            }
            addresses(store, &project, &mut owned)?;
            all.push(owned);
        }
    }
    Ok((!all.is_empty()).then_some((server::dns_address(listen)?, all)))
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
            let bridge = Bridge::read(&network.config, None)?;
            zone.subnet = zone.subnet.or(match kind(&zone.name) {
                ZoneKind::Forward => None,
                ZoneKind::ReverseV4 => bridge.v4.address,
                ZoneKind::ReverseV6 => bridge.v6.address,
            });
            for (hostname, address) in leases::known(store, &project, &name)? {
                if behind_nat || !is_behind_nat(&network, address) {
                    zone.lines.extend(address_line(&zone.name, &hostname, address, domain));
                }
            }
        }
    }
    // The same address by lease and by reservation is one line.
    let mut seen = Vec::new();
    zone.lines.retain(|line| {
        let new = !seen.contains(line);
        seen.push(line.clone());
        new
    });
    Ok(())
}

fn is_behind_nat(network: &Network, address: IpAddr) -> bool {
    let key = if address.is_ipv4() { &IPV4_NAT } else { &IPV6_NAT };
    key.bool(&network.config).unwrap_or(false)
}

fn file(store: &Store, ending: &str) -> PathBuf {
    store.layout().zones_run_dir().join("zones").with_extension(ending)
}

/// The number in a configuration's SOA records.
fn serial(text: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix(SERIAL))?;
    line.split(',').next()?.parse().ok()
}

fn start(store: &Store, text: &str) -> Result<()> {
    let folder = store.layout().zones_run_dir();
    let fail = || format!("Failed writing {}", folder.display());
    std::fs::create_dir_all(&folder).with_context(fail)?;
    atomic::replace(&file(store, "conf"), text.as_bytes(), 0o644, Durability::Fast).with_context(fail)?;
    let named = |option: &str, ending: &str| format!("--{option}={}", file(store, ending).display());
    let mut arguments = vec![named("conf-file", "conf"), named("pid-file", "pid"), named("log-facility", "log")];
    if let Some(owner) = process::owner() {
        arguments.extend([format!("--user={}", owner.user), format!("--group={}", owner.group)]);
    }
    let out = Host::default().run_with(Cmd::new(dns::DNSMASQ).args(arguments).timeout(PATIENCE), None)?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let last = said.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("dnsmasq has ended").trim().to_string();
        // The next one begins from nothing.
        let _ = std::fs::remove_file(file(store, "conf"));
        return Err(Error::failed(last).hint("is there another DNS server at the address? set core.dns_address"));
    }
    fault::point("zones.started")?;
    let pid = std::fs::read_to_string(file(store, "pid")).ok().and_then(|text| text.trim().parse().ok());
    pid.map_or(Ok(()), |pid| process::settle(store, pid)).context("Failed moving dnsmasq to the monitors")
}

/// Ends the process, if it runs.
fn end(store: &Store) -> Result<()> {
    let Some(process) = process::by_file(&file(store, "pid"))? else { return Ok(()) };
    let fail = || "Failed stopping the DNS server of zones".to_string();
    pidfd::send_signal(process.as_fd(), libc::SIGTERM).with_context(fail)?;
    if !pidfd::wait_ended(process.as_fd(), Some(PATIENCE)).with_context(fail)? {
        pidfd::kill(process.as_fd()).with_context(fail)?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_is_found_again() {
        assert_eq!(serial("port=53\nauth-soa=17,hostmaster.x,120,60,86400\n"), Some(17));
        assert_eq!(serial("port=53\n"), None);
    }
}
