//! Is a subnet free here? What is routed and addressed is looked through while the kernel sends it; nothing is kept but what
//! is in the way.

use super::{Address, Links, MOST, Route, address, failed_list, route};
use crate::base::inet::IpNet;
use crate::error::Result;

/// What is in the way of a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clash {
    /// The subnet routed, or the address with its subnet.
    pub net: IpNet,
    /// The interface, if there is one, by number.
    pub device: Option<u32>,
}

/// Routes this short stand for "all the rest": 0.0.0.0/1 and 128.0.0.0/1 are how VPNs write a default route.
const LIKE_DEFAULT: u8 = 1;

impl Links {
    /// The first thing found that `net` would clash with: an address of any interface, or a route of any table whose subnet
    /// overlaps it. Default routes do not count, nor does what belongs to the interface `ignore`, by number.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clash(&mut self, net: IpNet, ignore: Option<u32>) -> Result<Option<Clash>> {
        let family = if net.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let addresses = address::dump(family, 0);
        let read = |payload: &[u8]| of_address(&Address::parse(payload)?, net, ignore);
        let found = self.socket.dump(&addresses, MOST, read).map_err(|e| failed_list("addresses", e))?;
        if let Some(clash) = found.first() {
            return Ok(Some(*clash));
        }
        let routes = route::dump(net.is_ipv4(), None, None);
        let read = |payload: &[u8]| of_route(&Route::parse(payload)?, net, ignore);
        let found = self.socket.dump(&routes, MOST, read).map_err(|e| failed_list("routes", e))?;
        Ok(found.first().copied())
    }
}

fn of_address(address: &Address, net: IpNet, ignore: Option<u32>) -> Option<Clash> {
    let theirs = address.net.overlaps(&net) && Some(address.index) != ignore;
    theirs.then_some(Clash { net: address.net, device: Some(address.index) })
}

fn of_route(route: &Route, net: IpNet, ignore: Option<u32>) -> Option<Clash> {
    let ignored = route.device.is_some() && route.device == ignore;
    let counts = route.is_routed() && route.to.prefix() > LIKE_DEFAULT && !ignored;
    (counts && route.to.overlaps(&net)).then_some(Clash { net: route.to, device: route.device })
}
