//! `nic`: network interfaces – a port of a bridge, an end of a pair, a macvlan or ipvlan, an interface of the host.
//!
//! One on a managed network comes here with what that says filled in (`model::network::nic::resolve`).

use super::{Device, nic_ipvlan, nic_routed};
use crate::base::inet::IpNet;
use crate::base::size;
use crate::error::{Context, Error, Result};
use crate::model::attach::{Attachment, Need, Supply};
use crate::model::instance::Device as Options;
use crate::model::keys::Key;
use crate::model::keys::device::{TYPE, USER, nic as keys};
use crate::model::nic::{self, HostEnd, Identity, Inside, Link, MacvlanMode, Port, PortVlans, Untagged};

/// Options of every interface.
const COMMON: &[&Key] =
    &[&TYPE, &keys::NICTYPE, &keys::NAME, &keys::HWADDR, &keys::MTU, &keys::ATTACHED, &keys::BOOT_PRIORITY];
/// Options of one that is an end of a pair.
const PAIR: &[&Key] = &[
    &keys::HOST_NAME,
    &keys::QUEUE_TX_LENGTH,
    &keys::IPV4_ROUTES,
    &keys::IPV6_ROUTES,
    &keys::LIMITS_INGRESS,
    &keys::LIMITS_EGRESS,
    &keys::LIMITS_MAX,
    &keys::CONNECTED,
    &keys::LIMITS_PRIORITY,
];
/// Options of one that is a port of a bridge.
const PORT: &[&Key] = &[
    &keys::PARENT,
    &keys::IPV4_ADDRESS,
    &keys::IPV6_ADDRESS,
    &keys::IPV4_GATEWAY,
    &keys::IPV6_GATEWAY,
    &keys::IPV4_ROUTES_EXTERNAL,
    &keys::IPV6_ROUTES_EXTERNAL,
    &keys::SECURITY_PORT_ISOLATION,
    &keys::SECURITY_MAC_FILTERING,
    &keys::SECURITY_IPV4_FILTERING,
    &keys::SECURITY_IPV6_FILTERING,
    &keys::BRIDGE_VLAN,
    &keys::VLAN_TAGGED,
    &keys::SECURITY_ACLS,
    &keys::SECURITY_ACLS_DEFAULT_INGRESS_ACTION,
    &keys::SECURITY_ACLS_DEFAULT_EGRESS_ACTION,
    &keys::SECURITY_ACLS_DEFAULT_INGRESS_LOGGED,
    &keys::SECURITY_ACLS_DEFAULT_EGRESS_LOGGED,
];
/// Options of one on an interface of the host. A VLAN of it is that interface by now; addresses are for application containers.
const LOWER: &[&Key] =
    &[&keys::PARENT, &keys::IPV4_ADDRESS, &keys::IPV6_ADDRESS, &keys::IPV4_GATEWAY, &keys::IPV6_GATEWAY];

/// Options of a virtual function.
const FUNCTION: &[&Key] = &[
    &keys::PARENT,
    &keys::VENDORID,
    &keys::PRODUCTID,
    &keys::PCI,
    &keys::VLAN,
    &keys::SECURITY_MAC_FILTERING,
    &keys::SECURITY_TRUSTED,
];

/// A network interface.
#[derive(Debug)]
pub(super) struct Nic {
    name: String,
    options: Options,
}

impl Nic {
    /// None for one that is not plugged in.
    pub(super) fn load(name: &str, options: &Options) -> Result<Option<Self>> {
        let plugged = keys::ATTACHED.bool(options)?;
        Ok(plugged.then(|| Self { name: name.to_string(), options: options.clone() }))
    }

    fn link(&self, identity: &Identity) -> Result<Link> {
        let nictype = keys::NICTYPE.text(&self.options);
        self.refuse_others(nictype)?;
        match nictype {
            "bridged" => self.pair(identity, Some(self.port()?)),
            "p2p" => self.pair(identity, None),
            "macvlan" => Ok(Link::Macvlan { parent: self.parent()?, mode: self.mode() }),
            "physical" => Ok(Link::Physical { parent: self.parent()? }),
            "sriov" => self.function().map(Link::Function),
            "routed" => {
                let end = HostEnd { routes: Vec::new(), ..self.end(identity, None)? };
                nic_routed::link(&self.options, end).map(Link::Routed)
            }
            "ipvlan" => Ok(Link::Ipvlan { parent: self.parent()?, mode: nic_ipvlan::mode(&self.options) }),
            other => Err(Error::unsupported(format!(
                "Network interfaces of type \"{other}\" are not supported by this version"
            ))),
        }
    }

    fn inside(&self) -> Result<Inside> {
        match keys::NICTYPE.text(&self.options) {
            "routed" => nic_routed::inside(&self.options),
            "ipvlan" => nic_ipvlan::inside(&self.options),
            _ => Ok(Inside::default()),
        }
    }

    /// An option that would be ignored is refused instead.
    fn refuse_others(&self, nictype: &str) -> Result<()> {
        let kept: &[&[&Key]] = match nictype {
            "bridged" => &[PAIR, PORT],
            "p2p" => &[PAIR],
            "macvlan" => &[LOWER, &[&keys::MODE]],
            "routed" => &[PAIR, LOWER, nic_routed::OPTIONS],
            "ipvlan" => &[LOWER, nic_ipvlan::OPTIONS],
            "sriov" => &[FUNCTION],
            _ => &[LOWER],
        };
        let known = |name: &str| [COMMON].iter().chain(kept).any(|keys| keys.iter().any(|k| k.name == name));
        let acts = |name: &str, value: &str| !value.is_empty() && !USER.matches(name) && !known(name);
        match self.options.iter().find(|(name, value)| acts(name, value)) {
            Some((name, _)) => Err(Error::unsupported(format!(
                "Option \"{name}\" of network interfaces of type \"{nictype}\" is not supported by this version"
            ))
            .hint(format!("unset it on the device \"{}\"", self.name))),
            None => Ok(()),
        }
    }

    fn pair(&self, identity: &Identity, bridge: Option<Port>) -> Result<Link> {
        self.end(identity, bridge).map(Link::Veth)
    }

    fn end(&self, identity: &Identity, bridge: Option<Port>) -> Result<HostEnd> {
        // A port of a bridge has none: they lead through the bridge.
        let routes: &[&Key] = if bridge.is_none() { &[&keys::IPV4_ROUTES, &keys::IPV6_ROUTES] } else { &[] };
        let nets = routes.iter().flat_map(|key| key.list(&self.options)).map(str::parse::<IpNet>);
        Ok(HostEnd {
            name: identity.host_name.clone(),
            tx_queue: keys::QUEUE_TX_LENGTH.u32(&self.options)?,
            bridge,
            connected: keys::CONNECTED.bool(&self.options)?,
            routes: nets.collect::<Result<_>>()?,
            ingress: self.limit(&keys::LIMITS_INGRESS)?,
            egress: self.limit(&keys::LIMITS_EGRESS)?,
        })
    }

    /// Bits a second; `limits.max` counts for both directions.
    fn limit(&self, key: &Key) -> Result<Option<u64>> {
        match keys::LIMITS_MAX.read(&self.options, size::parse_bits)? {
            None => key.read(&self.options, size::parse_bits),
            both => Ok(both),
        }
    }

    fn port(&self) -> Result<Port> {
        let isolated = keys::SECURITY_PORT_ISOLATION.bool(&self.options)?;
        Ok(Port { bridge: self.parent()?, isolated, hairpin: false, vlans: self.vlans()? })
    }

    fn vlans(&self) -> Result<PortVlans> {
        let number = |text: &str| match text.trim().parse() {
            Ok(0) => Err(Error::invalid("VLAN ID 0 is not allowed for native Linux bridges")),
            Ok(id) => Ok(id),
            Err(_) => Err(Error::invalid(format!("Invalid VLAN ID {text:?}"))),
        };
        let untagged = match keys::BRIDGE_VLAN.get(&self.options) {
            None => None,
            Some("none") => Some(Untagged::Nothing),
            Some(text) => Some(Untagged::Vlan(number(text)?)),
        };
        let range = |item: &str| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            Ok((number(first)?, number(last)?))
        };
        let tagged = keys::VLAN_TAGGED.list(&self.options).into_iter().map(range).collect::<Result<_>>()?;
        Ok(PortVlans { untagged, tagged })
    }

    fn parent(&self) -> Result<String> {
        let missing = || Error::invalid(format!("Required device option {:?}", keys::PARENT.name));
        keys::PARENT.get(&self.options).map(str::to_string).ok_or_else(missing)
    }

    /// Which one it is to be is settled when it starts.
    fn function(&self) -> Result<nic::Function> {
        let cards = [&keys::PARENT, &keys::PCI, &keys::VENDORID, &keys::PRODUCTID];
        let from = |key: &&Key| Some((key.name.to_string(), key.get(&self.options)?.to_string()));
        let flag = |key: &Key| key.get(&self.options).map(|_| key.bool(&self.options)).transpose();
        Ok(nic::Function {
            interface: String::new(),
            device: String::new(),
            from: cards.iter().filter_map(from).collect(),
            vlan: keys::VLAN.u32(&self.options)?,
            mac_filtering: flag(&keys::SECURITY_MAC_FILTERING)?,
            trusted: flag(&keys::SECURITY_TRUSTED)?,
        })
    }

    fn mode(&self) -> MacvlanMode {
        match keys::MODE.text(&self.options) {
            "vepa" => MacvlanMode::Vepa,
            "private" => MacvlanMode::Private,
            "passthru" => MacvlanMode::Passthru,
            _ => MacvlanMode::Bridge,
        }
    }
}

impl Device for Nic {
    fn needs(&self) -> Vec<Need> {
        vec![Need::Interface]
    }

    fn start(&self, supplies: Vec<Supply>) -> Result<Vec<Attachment>> {
        let Some(Supply::Interface(identity)) = supplies.into_iter().next() else {
            return Err(Error::internal(format!("Device \"{}\" got no interface", self.name)));
        };
        let fail = || format!("Failed to start device \"{}\"", self.name);
        let link = self.link(&identity).with_context(fail)?;
        Ok(vec![Attachment::Nic(nic::Nic {
            device: self.name.clone(),
            name: identity.name,
            // An ipvlan has that of the interface below it.
            hwaddr: identity.hwaddr.filter(|_| !matches!(link, Link::Ipvlan { .. })),
            mtu: keys::MTU.u32(&self.options)?,
            link,
            inside: self.inside().with_context(fail)?,
        })])
    }

    fn order(&self) -> &str {
        ""
    }
}
