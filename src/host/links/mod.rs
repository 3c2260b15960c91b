//! Interfaces, addresses, routes and bridge ports, through route netlink.
//!
//! A change is a [`Step`], made by the functions of the modules below and run by [`Links`], alone or several with one system
//! call. What is there is read with one request for one object; lists are dumped only where a list is wanted. Called by the
//! network drivers, the NIC devices and `list`; no locks are taken here, and names of interfaces have been checked before.

pub mod address;
mod clash;
pub mod function;
pub mod link;
pub mod neighbour;
pub mod route;
pub mod spec;
mod step;
pub mod sysctl;
pub mod tc;
#[cfg(test)]
mod tests;
mod tunnel;

pub use self::{
    address::{Address, AddressOptions},
    clash::Clash,
    link::{Counters, Details, Device, Link, PortVlan},
    route::Route,
    spec::{Bridge, Change, End, IpVlan, Kind, LinkSpec, MacVlan, Port},
    step::{Step, Target},
    tunnel::Vxlan,
};

use crate::error::{Context, Error, Result};
use crate::sys::netlink::{Refusal, Socket};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// Most objects that are read of a list. A namespace of an instance is filled by others: what is behind them is not shown.
const MOST: usize = 65_536;

/// The network of one namespace.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
}

/// Reads one object of a list.
type Reader<T> = fn(&[u8]) -> Option<T>;

impl Links {
    /// That of the calling thread's namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::route().context("Failed to open a netlink socket")? })
    }

    /// That of the calling thread's namespace, for whole lists only: cheaper.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open_for_lists() -> Result<Self> {
        Ok(Self { socket: Socket::plain().context("Failed to open a netlink socket")? })
    }

    /// That of the network namespace `net`; the caller stays where it is.
    ///
    /// # Errors
    /// As setns(2) and socket(2).
    pub fn open_in(net: BorrowedFd<'_>) -> Result<Self> {
        Ok(Self { socket: Socket::route_in(net).context("Failed to open a netlink socket")? })
    }

    /// Makes a change.
    ///
    /// # Errors
    /// `Failed to …`, with the kernel's words as the cause.
    pub fn run(&mut self, step: Step) -> Result<()> {
        self.run_all(vec![step])
    }

    /// Makes changes in their order, with one system call for many. The following are made though one fails, so they must
    /// not build on it by name.
    ///
    /// # Errors
    /// As [`Links::run`]; the first one, the others joined to it.
    pub fn run_all(&mut self, steps: Vec<Step>) -> Result<()> {
        let (requests, readers): (Vec<_>, Vec<_>) = steps.into_iter().map(Step::split).unzip();
        let answers = self.socket.run(requests).context("Failed to change the network")?;
        let failed = readers.into_iter().zip(answers).filter_map(|(read, answer)| read(answer).err()).collect();
        Error::join(failed).map_or(Ok(()), Err)
    }

    /// Makes an interface. What was made is ended again if not all of it could be set.
    ///
    /// # Errors
    /// As [`Links::run`]; [`crate::error::Kind::Exists`] if the name is taken.
    pub fn create(&mut self, spec: &LinkSpec<'_>) -> Result<()> {
        let plan = spec::create(spec);
        self.run(plan.first)?;
        // By name, which is ours by now: had it been another's, the first step would have failed.
        let Some(second) = plan.second else { return Ok(()) };
        self.run(second).inspect_err(|_| drop(self.run(spec::delete(spec.end.name))))
    }

    /// Makes an interface, neither pair nor bridge, that is up and has `alias` from the first moment on: one system call does both, so
    /// nobody who is killed leaves one that is not known by it.
    ///
    /// # Errors
    /// As [`Links::create`].
    pub fn create_marked(&mut self, spec: &LinkSpec<'_>, alias: &str) -> Result<()> {
        let plan = spec::create(spec);
        // By name: if that is taken, what has it must not be touched.
        if self.find(spec.end.name)?.is_some() {
            return Err(Error::exists(format!("Network interface \"{}\" already exists", spec.end.name)));
        }
        let [marked, up] = spec::mark(spec.end.name, alias);
        let made = self.run_all(vec![plan.first, marked, up]);
        made.inspect_err(|_| drop(self.run(spec::delete(spec.end.name))))
    }

    /// The interface `name`; `None` if there is none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn find(&mut self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        self.look_up(message, || format!("Failed to look up interface \"{name}\""))
    }

    fn look_up(&mut self, message: LinkMessage, what: impl Fn() -> String) -> Result<Option<Link>> {
        match self.socket.get(RouteNetlinkMessage::GetLink(message), Link::parse) {
            Ok(link) => Ok(Some(link)),
            Err(e) if e.errno == libc::ENODEV => Ok(None),
            Err(e) => Err(step::error(what(), e)),
        }
    }

    /// The interface with this number; `None` if there is none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn at(&mut self, index: u32) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.look_up(message, || format!("Failed to look up interface {index}"))
    }

    /// The interface `name`.
    ///
    /// # Errors
    /// [`crate::error::Kind::NotFound`] if there is none.
    pub fn get(&mut self, name: &str) -> Result<Link> {
        self.find(name)?.ok_or_else(|| Error::not_found(format!("Network interface \"{name}\" not found")))
    }

    /// The interface `name`, to be changed.
    ///
    /// # Errors
    /// As [`Links::get`].
    pub fn target(&mut self, name: &str) -> Result<Target> {
        Ok(self.get(name)?.target())
    }

    /// All interfaces.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn list(&mut self) -> Result<Vec<Link>> {
        self.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()), "interfaces", Link::parse)
    }

    /// The same without their counters, which the kernel takes some time to add up.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn list_uncounted(&mut self) -> Result<Vec<Link>> {
        self.list_with(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]))
    }

    /// The ports of the bridge, bond or VRF with this number.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn ports_of(&mut self, master: u32) -> Result<Vec<Link>> {
        self.list_with(LinkAttribute::Controller(master))
    }

    /// All VRFs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn vrfs(&mut self) -> Result<Vec<Link>> {
        self.list_with(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vrf)]))
    }

    /// The kernel leaves out the others.
    fn list_with(&mut self, filter: LinkAttribute) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(filter);
        self.dump(&RouteNetlinkMessage::GetLink(message), "interfaces", Link::parse)
    }

    /// The VLANs of all bridge ports: the port's number and its VLANs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn vlans(&mut self) -> Result<Vec<(u32, Vec<PortVlan>)>> {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::BrvlanCompressed]));
        self.dump(&RouteNetlinkMessage::GetLink(message), "VLANs", PortVlan::parse)
    }

    /// All addresses.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        self.dump(&address::dump(libc::AF_UNSPEC, 0), "addresses", Address::parse)
    }

    /// The addresses of one interface, by number.
    ///
    /// # Errors
    /// The kernel refuses; ENODEV if it is not there.
    pub fn addresses_of(&mut self, index: u32) -> Result<Vec<Address>> {
        // A kernel that sends more than was asked for is filtered once more.
        let all = self.dump(&address::dump(libc::AF_UNSPEC, index), "addresses", Address::parse)?;
        Ok(all.into_iter().filter(|a| a.index == index).collect())
    }

    /// Removes those addresses of an interface that `which` chooses.
    ///
    /// # Errors
    /// As [`Links::run_all`].
    pub fn remove_addresses(&mut self, on: &Target, which: impl Fn(&Address) -> bool) -> Result<()> {
        let all = self.addresses_of(on.index)?;
        self.run_all(all.iter().filter(|a| which(a)).map(|a| address::remove(on, a.net)).collect())
    }

    /// The routes of a family, of one table or interface if said.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn routes(&mut self, v4: bool, table: Option<u32>, device: Option<u32>) -> Result<Vec<Route>> {
        self.dump(&route::dump(v4, table, device), "routes", Route::parse)
    }

    /// The route packets to `address` take; `None` if there is none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn route_to(&mut self, address: IpAddr) -> Result<Option<Route>> {
        match self.socket.get(route::get(address), Route::parse) {
            Ok(route) => Ok(Some(route)),
            Err(e) if matches!(e.errno, libc::ENETUNREACH | libc::EHOSTUNREACH) => Ok(None),
            Err(e) => Err(step::error(format!("Failed to look up the route to \"{address}\""), e)),
        }
    }

    /// The addresses we answer for, with the numbers of the interfaces.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn proxies(&mut self, v4: bool) -> Result<Vec<(u32, IpAddr)>> {
        self.dump(&route::dump_proxies(v4), "neighbours", route::parse_proxy)
    }

    fn dump<T>(&mut self, message: &RouteNetlinkMessage, what: &str, read: Reader<T>) -> Result<Vec<T>> {
        self.socket.dump(message, MOST, read).map_err(|e| failed_list(what, e))
    }
}

fn failed_list(what: &str, refusal: Refusal) -> Error {
    step::error(format!("Failed to list {what}"), refusal)
}

impl Link {
    /// The same to be changed.
    pub fn target(&self) -> Target {
        Target { index: self.index, name: self.name.clone() }
    }
}
