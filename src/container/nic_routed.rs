//! `nictype=routed`: the host's end of the pair is the instance's router. Called by `nics`; what is made here ends with the
//! pair.

use super::nics;
use crate::base::inet::IpNet;
use crate::error::{Error, Result};
use crate::host::links::sysctl::{self, Family, Setting};
use crate::host::links::{AddressOptions, Change, Details, End, Links, Route, Target, address, route, spec};
use crate::model::nic::{Routed, RoutedFamily};

/// Makes the pair, `inner` being the instance's end, and routes to it.
pub(super) fn make(host: &mut Links, inner: End<'_>, routed: &Routed) -> Result<()> {
    nics::create_pair(host, inner, &routed.end, None)?;
    let end = host.target(&routed.end.name)?;
    let table = match &routed.vrf {
        None => route::MAIN,
        Some(name) => join(host, &end, name)?,
    };
    settings(&routed.end.name, &routed.families)?;
    let mut steps = nics::limits(&end, &routed.end);
    steps.push(spec::change(&end, &Change { up: Some(routed.end.connected), ..Change::default() }));
    for family in &routed.families {
        // The instance sees by it that its router is there.
        let options = AddressOptions { nodad: true, ..AddressOptions::default() };
        steps.push(address::add(&end, IpNet::host(family.host), options));
    }
    host.run_all(steps)?;
    if !routed.end.connected {
        return Ok(());
    }
    host.run_all(routed.families.iter().flat_map(|family| routes(&end, family, table)).collect())
}

/// Puts the end into a VRF before it has addresses; its routing table.
fn join(host: &mut Links, end: &Target, name: &str) -> Result<u32> {
    let vrf = host.find(name)?;
    let Some((index, Details::Vrf(table))) = vrf.map(|link| (link.index, link.details)) else {
        return Err(Error::not_found(format!("VRF {name:?} doesn't exist")));
    };
    host.run(spec::change(end, &Change { master: Some(index), ..Change::default() }))?;
    Ok(table)
}

/// The host believes the instance nothing, and lets its packets through.
fn settings(name: &str, families: &[RoutedFamily]) -> Result<()> {
    let has = |v4: bool| families.iter().any(|f| f.host.is_ipv4() == v4);
    if sysctl::has_ipv6() {
        let own = [(Setting::AcceptRa, 0), (Setting::Autoconf, 0), (Setting::AcceptDad, 0)];
        sysctl::set(Family::V6, name, &own)?;
        // Without an address of that family it has nothing to say.
        sysctl::set(Family::V6, name, &[(Setting::DisableIpv6, i32::from(!has(false)))])?;
    }
    let mut v4 = vec![(Setting::RpFilter, 1)];
    if has(true) {
        v4.push((Setting::Forwarding, 1));
    }
    sysctl::set(Family::V4, name, &v4)?;
    if has(false) { sysctl::set(Family::V6, name, &[(Setting::Forwarding, 1)]) } else { Ok(()) }
}

/// Each address by itself, and the networks behind the first. Somebody else having one of them is an error.
fn routes(end: &Target, family: &RoutedFamily, own: u32) -> Vec<crate::host::links::Step> {
    let tables = if family.tables.is_empty() { vec![own] } else { family.tables.clone() };
    let mut all = Vec::new();
    for table in tables {
        let to = family.addresses.iter().map(|a| Route { table, ..Route::on(IpNet::host(*a), end.index) });
        all.extend(to.map(|r| route::add(&r)));
        let Some(first) = family.addresses.first() else { continue };
        let behind = family.routes.iter();
        let through = |net: &IpNet| Route { table, onlink: true, ..Route::through(*net, *first, end.index) };
        all.extend(behind.map(|net| route::add(&through(net))));
    }
    all
}
