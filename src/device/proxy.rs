//! `proxy`: a process that carries what comes to a socket to one on the other side. With `nat=true` it is rules of the
//! firewall instead, which `ops` sets; then there is nothing for the runtime.

use super::Device;
use crate::error::{Error, Result};
use crate::model::attach::{Attachment, Need, Supply};
use crate::model::instance::Device as Options;
use crate::model::keys::device::proxy::{self as keys, Address};
use crate::model::proxy::{self, Proxy as Plan};
use std::net::{IpAddr, Ipv6Addr};

/// A proxy.
#[derive(Debug)]
pub(super) struct Proxy {
    plan: Plan,
}

impl Proxy {
    /// None for one of the firewall.
    pub(super) fn load(name: &str, options: &Options) -> Result<Option<Self>> {
        if keys::NAT.bool(options)? {
            return Ok(None);
        }
        let plan = plan(name, options).map_err(|e| e.context(format!("Failed to start device \"{name}\"")))?;
        Ok(Some(Self { plan }))
    }
}

fn plan(name: &str, options: &Options) -> Result<Plan> {
    let (listen, connect) = (Address::parse(keys::LISTEN.text(options))?, Address::parse(keys::CONNECT.text(options))?);
    let id = |key: &crate::model::keys::Key| key.u32(options).map(Option::unwrap_or_default);
    let mode = u32::from_str_radix(keys::MODE.text(options), 8).map_err(|_| Error::invalid("Invalid mode"))?;
    Ok(Plan {
        device: name.to_string(),
        // Where nothing is said, every address of both families, as for a socket (ipv6(7)).
        routes: proxy::routes(&listen, &connect, IpAddr::V6(Ipv6Addr::UNSPECIFIED))?,
        inside: keys::listens_inside(options),
        header: keys::PROXY_PROTOCOL.bool(options)?,
        owner: (id(&keys::UID)?, id(&keys::GID)?, mode),
        user: (id(&keys::SECURITY_UID)?, id(&keys::SECURITY_GID)?),
    })
}

impl Device for Proxy {
    fn needs(&self) -> Vec<Need> {
        Vec::new()
    }

    fn start(&self, _supplies: Vec<Supply>) -> Result<Vec<Attachment>> {
        Ok(vec![Attachment::Proxy(self.plan.clone())])
    }

    fn order(&self) -> &str {
        ""
    }
}
