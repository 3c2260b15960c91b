//! Everything dnsmasq needs for a bridge, as data: arguments, configuration, a file per NIC, and what it wrote about leases.
//! Source: dnsmasq(8), version 2.90.
//!
//! dnsmasq goes into the background by itself once its sockets are bound, so the end of the started command with status 0
//! means it is ready, and its output up to then says why it is not. It gives up root after that; lease file, log and pid file
//! are opened before. Files of NICs lie in folders it watches: a new one counts at once, a changed or removed one after
//! SIGHUP.

pub mod args;
pub mod hosts;
pub mod leases;
pub mod release;

#[cfg(test)]
mod tests;
