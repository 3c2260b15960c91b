//! L6: the role that serves DNS zones, over UDP and TCP at one address of the host.
//!
//! Started by `ops::network::zone_server` as our binary re-executed, one process a state folder. It binds its sockets, becomes
//! nobody for good, says that it listens, and then sleeps in one poll(2). What it says it is handed in sealed memory files: at its
//! start, and at a socket that only root may come to. It never reads a file of the host, and speaks first only to peers of a zone
//! that has changed. What comes from the network is bounded in size, number and time ([`serve`]), and judged by `network::zones`.

mod notices;
mod serve;
mod stream;

use crate::error::{Context, Error, Result};
use crate::fault;
use crate::network::zones::data::Zones;
use crate::network::zones::text;
use crate::ops::lifecycle;
use crate::ops::network::zone_server::HANDED;
use crate::store::proxies;
use crate::sys::{memfd, process};
use nix::unistd::{Gid, Uid};
use serve::Server;
use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

/// Largest text, bytes.
const TEXT_MAX: u64 = 64 << 20;
/// The user and group that nothing on a host belongs to.
const NOBODY: u32 = 65534;

/// Runs the role; the process's exit status.
pub fn main() -> i32 {
    let Ok([told, ready, lock, control]) = process::take_inherited(HANDED) else { return 2 };
    // The lock is kept for as long as this process lives.
    let (mut ready, lock) = (File::from(ready), File::from(lock));
    match begin(told, &lock, control) {
        Err(e) => {
            // The caller reports it; after that nobody listens.
            let _ = ready.write_all(&lifecycle::encode_failure(&e));
            1
        }
        Ok(mut server) => {
            let _ = ready.write_all(b"+");
            drop(ready);
            process::release_heap();
            process::release_stack();
            process::release_code();
            let Err(e) = server.run();
            // The log is the standard error.
            let _ = writeln!(std::io::stderr(), "Error: {e}");
            1
        }
    }
}

// Its frame goes before the long wait.
#[inline(never)]
fn begin(told: OwnedFd, lock: &File, control: OwnedFd) -> Result<Server> {
    proxies::note(lock, None, "zones")?;
    let (listen, zones) = read(told)?;
    fault::point("nameserver.begin")?;
    let hint = |e: Error| e.hint("is there another DNS server at the address? set core.dns_address");
    let sockets = bind(listen).map_err(hint)?;
    fault::point("nameserver.bound")?;
    become_nobody()?;
    Ok(Server::new(listen, zones, sockets, control))
}

/// Where to listen, and what to say.
fn read(told: OwnedFd) -> Result<(SocketAddr, Zones)> {
    let bytes = memfd::read_sealed(told, TEXT_MAX).context("Failed reading the zones")?;
    text::parse(&String::from_utf8_lossy(&bytes))
}

fn bind(listen: SocketAddr) -> Result<(UdpSocket, TcpListener)> {
    let (datagrams, streams) = (UdpSocket::bind(listen)?, TcpListener::bind(listen)?);
    datagrams.set_nonblocking(true)?;
    streams.set_nonblocking(true)?;
    Ok((datagrams, streams))
}

fn become_nobody() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let fail = "Failed becoming nobody";
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    nix::unistd::setgroups(&[]).context(fail)?;
    nix::unistd::setresgid(gid, gid, gid).context(fail)?;
    nix::unistd::setresuid(uid, uid, uid).context(fail)?;
    rustix::thread::set_no_new_privs(true).map_err(std::io::Error::from).context(fail)
}
