//! Addresses and gateways that an interface has inside before anything runs there. Called by `nics` once the interface is in
//! the network namespace of process 1.

use crate::base::inet::IpNet;
use crate::error::Result;
use crate::host::links::{AddressOptions, Links, Route, Step, address, route};
use crate::model::nic::{Gateway, Nic};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// Gives the interface `nic`, which is up in the namespace `net`, what its plan says.
pub(super) fn configure(nic: &Nic, net: BorrowedFd<'_>) -> Result<()> {
    if nic.inside.is_empty() {
        return Ok(());
    }
    let mut links = Links::open_in(net)?;
    let on = links.target(&nic.name)?;
    // That nobody else has them was seen to by whoever decided.
    let options = AddressOptions { nodad: true, ..AddressOptions::default() };
    links.run_all(nic.inside.addresses.iter().map(|a| address::add(&on, *a, options)).collect())?;
    links.run_all(nic.inside.gateways.iter().flat_map(|g| routes(*g, on.index)).collect())
}

fn routes(gateway: Gateway, index: u32) -> Vec<Step> {
    let all = |v4: bool| if v4 { IpNet::all_v4() } else { IpNet::all_v6() };
    match gateway {
        Gateway::InterfaceV4 => vec![route::replace(&Route::on(all(true), index))],
        Gateway::InterfaceV6 => vec![route::replace(&Route::on(all(false), index))],
        Gateway::Router(router) => {
            let through = Route { onlink: true, ..Route::through(all(router.is_ipv4()), router, index) };
            let link_local = matches!(router, IpAddr::V6(a) if a.is_unicast_link_local());
            // Link-local IPv6 addresses are on every link.
            let to = (!link_local).then(|| route::replace(&Route::on(IpNet::host(router), index)));
            to.into_iter().chain([route::replace(&through)]).collect()
        }
    }
}
