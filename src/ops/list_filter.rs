//! The filters of `list`: a word is a name's beginning or a regular expression on it, `key=value` looks at a field of the
//! instance or, failing that, at its expanded configuration.
//!
//! The rules are Incus's, client and server taken together (`cmd/incus/list.go`, `internal/filter`): a value is a regular
//! expression for the whole text in any case, unless it has commas: then it is a list of alternatives.

use super::list::{Needs, Row};
use crate::base::boolean;
use crate::error::{Error, Result};
use crate::model::instance::Config;
use crate::model::keys;
use regex_lite::{Regex, RegexBuilder};
use std::net::IpAddr;

/// One filter.
#[derive(Debug, Clone)]
pub enum Filter {
    /// A field, by its path (`name`, `expanded_config.user.x`), and what it is to be.
    Field(String, Wanted),
    /// An address of the instance, by family (`inet`, `inet6`).
    Address(&'static str, Vec<Net>),
}

/// What a text is to be.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// It matches.
    Pattern(Regex),
    /// It is one of these, in any case.
    OneOf(Vec<String>),
}

impl Wanted {
    /// What a value of `key=value` asks for.
    pub fn new(value: &str) -> Self {
        let list = || Self::OneOf(value.split(',').chain([value]).map(str::to_string).collect());
        if value.contains(',') {
            return list();
        }
        let anchored = value.contains(['^', '$']);
        let pattern = if anchored { value.to_string() } else { format!("^{value}$") };
        RegexBuilder::new(&pattern).case_insensitive(true).build().map_or_else(|_| list(), Self::Pattern)
    }

    /// What a word asks of a name: to begin so, or to match as a pattern.
    pub fn name(word: &str) -> Self {
        let whole = if word.contains(['^', '$']) { word.to_string() } else { format!("^{word}$") };
        Self::new(&format!("({whole}|^{word}.*)"))
    }

    /// Does the text meet it?
    pub fn is(&self, text: &str) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.is_match(text),
            Self::OneOf(list) => list.iter().any(|one| one.eq_ignore_ascii_case(text)),
        }
    }
}

/// Fields of an instance; other keys are configuration.
const FIELDS: [&str; 17] = [
    "architecture",
    "config",
    "created_at",
    "description",
    "devices",
    "ephemeral",
    "expanded_config",
    "expanded_devices",
    "last_used_at",
    "location",
    "name",
    "profiles",
    "project",
    "stateful",
    "status",
    "status_code",
    "type",
];

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// A field that cannot be compared.
    pub fn parse(word: &str) -> Result<Self> {
        let Some((key, value)) = word.split_once('=') else {
            return Ok(Self::Field("name".into(), Wanted::name(word)));
        };
        match key.to_ascii_lowercase().as_str() {
            "ipv4" => return Ok(Self::Address("inet", nets(value))),
            "ipv6" => return Ok(Self::Address("inet6", nets(value))),
            _ => {}
        }
        if key == "state" {
            return Ok(Self::Field("status".into(), Wanted::new(value)));
        }
        let first = key.split('.').next().unwrap_or_default();
        let path = if FIELDS.contains(&first) { key.to_string() } else { format!("expanded_config.{key}") };
        if ["config", "devices", "expanded_config", "expanded_devices"].contains(&path.as_str()) {
            return Err(Error::invalid(format!("Invalid type \"map\" for field {path:?}")));
        }
        Ok(Self::Field(path, Wanted::new(value)))
    }

    /// What has to be read for it.
    pub fn needs(&self, needs: &mut Needs) {
        match self {
            Self::Address(..) => needs.addresses = true,
            Self::Field(path, _) => {
                needs.expanded |= path.starts_with("expanded_");
                // The first part of a key may be shortened.
                let (first, key) = path.split_once('.').unwrap_or((path, ""));
                let begins = key.split('.').next().unwrap_or_default();
                let config = first == "config" || first == "expanded_config";
                needs.volatile |= config && keys::VOLATILE_PREFIX.starts_with(begins) || path == "last_used_at";
            }
        }
    }

    /// It looks at what is measured.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Address(..))
    }

    /// Does the instance pass?
    pub fn passes(&self, row: &Row) -> bool {
        match self {
            Self::Field(path, wanted) => field(row, path, wanted),
            Self::Address(family, nets) => {
                let networks = row.state.as_ref().and_then(|s| s.network.0.as_ref());
                let all = networks.into_iter().flatten().flat_map(|(_, network)| &network.addresses.0);
                all.filter(|a| a.family == *family).any(|a| nets.iter().any(|net| net.holds(&a.address)))
            }
        }
    }
}

/// A record that cannot be read has a name, a project and a status and nothing else.
fn field(row: &Row, path: &str, wanted: &Wanted) -> bool {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    match first {
        "name" => return wanted.is(&row.name),
        "project" => return wanted.is(&row.project),
        "location" => return wanted.is(crate::model::view::LOCATION),
        "status" => return wanted.is(row.found.status.as_str()),
        "status_code" => return wanted.is(&row.found.status.code().to_string()),
        _ => {}
    }
    let Some(instance) = &row.instance else { return false };
    let bool = |on: bool| match wanted {
        Wanted::Pattern(_) | Wanted::OneOf(_) if wanted.is(if on { "true" } else { "false" }) => true,
        Wanted::OneOf(list) => list.iter().any(|w| boolean::parse(w).is_ok_and(|b| b == on)),
        Wanted::Pattern(_) => wanted.is(if on { "1" } else { "0" }),
    };
    match first {
        "architecture" => wanted.is(&instance.architecture),
        "description" => wanted.is(&instance.description),
        "type" => wanted.is(instance.kind.as_str()),
        "ephemeral" => bool(instance.ephemeral),
        "stateful" => bool(instance.stateful),
        "profiles" => instance.profiles.iter().any(|p| wanted.is(p)),
        "created_at" => wanted.is(&crate::base::time::rfc3339(Some(instance.created_at))),
        "last_used_at" => wanted.is(&crate::base::time::rfc3339(row.volatile.last_used_at)),
        "config" => wanted.is(value(&instance.config, rest).or(value(&row.volatile.config, rest)).unwrap_or_default()),
        "expanded_config" => wanted.is(value(&row.expanded.config, rest).unwrap_or_default()),
        "devices" | "expanded_devices" => {
            let devices = if first == "devices" { &instance.devices } else { &row.expanded.devices };
            let option = rest.split_once('.').and_then(|(name, key)| devices.get(name)?.get(key));
            wanted.is(option.map(String::as_str).unwrap_or_default())
        }
        _ => false,
    }
}

/// The value of a key whose first part may be shortened (`u.x` for `user.x`); an exact match goes before.
fn value<'a>(config: &'a Config, key: &str) -> Option<&'a str> {
    let short: Vec<&str> = key.split('.').collect();
    let matches = |full: &str| {
        let full: Vec<&str> = full.split('.').collect();
        full.len() == short.len() && full[0].starts_with(short[0]) && full[1..] == short[1..]
    };
    let found = config.get(key).or_else(|| config.iter().find(|(k, _)| matches(k)).map(|(_, v)| v));
    found.map(String::as_str)
}

/// An address, or a net in CIDR form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Net {
    text: String,
    net: Option<(IpAddr, u32)>,
}

fn nets(value: &str) -> Vec<Net> {
    value.split(',').map(Net::parse).collect()
}

impl Net {
    fn parse(text: &str) -> Self {
        let net = text.split_once('/').and_then(|(a, bits)| Some((a.parse().ok()?, bits.parse().ok()?)));
        Self { text: text.to_string(), net }
    }

    fn holds(&self, address: &str) -> bool {
        if self.text == address {
            return true;
        }
        let same = |a: u128, b: u128, width: u32, bits: u32| {
            let shift = width.saturating_sub(bits);
            bits == 0 || a.checked_shr(shift) == b.checked_shr(shift)
        };
        match (self.net, address.parse()) {
            (Some((IpAddr::V4(net), bits)), Ok(IpAddr::V4(a))) => {
                same(u32::from(net).into(), u32::from(a).into(), 32, bits)
            }
            (Some((IpAddr::V6(net), bits)), Ok(IpAddr::V6(a))) => same(net.into(), a.into(), 128, bits),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::{InstanceName, ProjectName};
    use crate::model::expand::Expanded;
    use crate::model::expand::tests::{instance, map};
    use crate::model::instance::Volatile;
    use crate::ops::status::Found;

    fn row(name: &str) -> Row {
        Row {
            project: ProjectName::default(),
            name: InstanceName::parse(name).expect("name"),
            instance: Some(instance(&[("user.a", "x")], &[("root", &[("type", "disk"), ("pool", "p")])])),
            volatile: Volatile::default(),
            expanded: Expanded { config: map(&[("user.a", "x"), ("limits.cpu", "2")]), ..Expanded::default() },
            found: Found::stopped(),
            state: None,
            snapshots: 0,
        }
    }

    fn pass(word: &str, name: &str) -> bool {
        Filter::parse(word).expect(word).passes(&row(name))
    }

    #[test]
    fn names_by_beginning_or_pattern() {
        assert!(pass("web", "web") && pass("web", "web1") && pass("WEB", "web1") && !pass("web", "my-web"));
        assert!(pass(".*web.*01$", "a-web-01") && !pass(".*web.*01$", "a-web-02"));
        assert!(pass("^w.b$", "web") && !pass("^w.b$", "web1"));
        assert!(pass("name=web", "web") && !pass("name=web", "web1"));
        assert!(!pass("[", "web"), "no pattern: taken literally");
    }

    #[test]
    fn fields_and_configuration() {
        for good in [
            "status=stopped",
            "state=STOPPED",
            "status=running,stopped",
            "type=container",
            "architecture=x86_64",
            "location=none",
            "user.a=x",
            "u.a=x",
            "user.a=x,y",
            "limits.cpu=2",
            "user.missing=",
            "ephemeral=false",
            "ephemeral=0",
            "profiles=default",
            "config.user.a=x",
            "devices.root.pool=p",
            "user.a=.*",
            "project=default",
        ] {
            assert!(pass(good, "c1"), "{good}");
        }
        for bad in
            ["status=running", "type=virtual-machine", "user.a=y", "u.b=x", "ephemeral=true", "user.a=X.", "foo.bar=1"]
        {
            assert!(!pass(bad, "c1"), "{bad}");
        }
        assert!(Filter::parse("config=x").is_err());
        let broken = Row { instance: None, found: Found::error(), ..row("c1") };
        let passes = |word: &str| Filter::parse(word).expect(word).passes(&broken);
        assert!(passes("c1") && passes("status=error") && !passes("type=container"));
    }

    #[test]
    fn nets_hold_addresses() {
        let holds = |net: &str, address: &str| Net::parse(net).holds(address);
        assert!(holds("10.0.0.1", "10.0.0.1") && holds("10.0.0.0/8", "10.1.2.3") && holds("0.0.0.0/0", "1.2.3.4"));
        assert!(!holds("10.0.0.0/24", "10.0.1.1") && !holds("10.0.0.0/8", "fd42::1") && !holds("x", "10.0.0.1"));
        assert!(holds("fd42::/16", "fd42::1") && holds("fd42::1/128", "fd42::1") && !holds("fd42::/64", "fd43::1"));
        assert!(holds("10.0.0.1/99", "10.0.0.1"), "bits beyond the width compare all");
    }
}
