//! hosts(5) and resolv.conf(5), as far as addresses of names need them. What is not understood is passed over, as libc does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// libc's own bounds (resolv.h).
const SERVERS: usize = 3;
const SEARCH: usize = 6;

/// What resolv.conf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    /// Servers in the order to be asked; port 0.
    pub servers: Vec<SocketAddr>,
    /// Domains that are tried behind a name.
    pub search: Vec<String>,
    /// Dots from which on a name is tried as it is first.
    pub ndots: usize,
    /// Wait for one server.
    pub timeout: Duration,
    /// Rounds over the servers.
    pub attempts: u32,
    /// Only ask over TCP (`use-vc`).
    pub tcp: bool,
}

impl Conf {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            tcp: false,
        };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(server)),
                // The last of these lines counts.
                Some("search" | "domain") => {
                    conf.search = words.filter_map(crate::base::dns::name).take(SEARCH).collect();
                }
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        conf.servers.truncate(SERVERS);
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
        }
        conf
    }

    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        match (name, value.parse::<u32>()) {
            ("ndots", Ok(n)) => self.ndots = n.min(15) as usize,
            ("timeout", Ok(n)) => self.timeout = Duration::from_secs(n.clamp(1, 30).into()),
            ("attempts", Ok(n)) => self.attempts = n.clamp(1, 5),
            ("use-vc", _) => self.tcp = true,
            _ => {}
        }
    }

    /// The names that `name` may stand for, in the order to try.
    pub fn candidates(&self, name: &str, absolute: bool) -> Vec<String> {
        let own = name.to_string();
        if absolute {
            return vec![own];
        }
        let mut all: Vec<String> =
            self.search.iter().filter_map(|domain| crate::base::dns::name(&format!("{name}.{domain}"))).collect();
        if name.matches('.').count() >= self.ndots {
            all.insert(0, own);
        } else {
            all.push(own);
        }
        all
    }
}

/// An address, perhaps with the interface it is reached through: `fe80::1%eth0`.
fn server(word: &str) -> Option<SocketAddr> {
    match word.split_once('%') {
        None => Some(SocketAddr::new(word.parse().ok()?, 0)),
        Some((address, link)) => {
            let scope = link.parse().ok().or_else(|| index(link))?;
            Some(SocketAddrV6::new(address.parse().ok()?, 0, 0, scope).into())
        }
    }
}

fn index(link: &str) -> Option<u32> {
    let sound = !link.is_empty() && link.len() < 16 && !link.starts_with('.') && !link.contains('/');
    let path = sound.then(|| format!("/sys/class/net/{link}/ifindex"))?;
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The addresses of `name` (lower case) in the text of hosts(5).
pub fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf() {
        let conf = Conf::parse(
            "# c\nnameserver 192.0.2.1\nnameserver 2001:db8::1 ; x\nnameserver bad\nnameserver fe80::1%7\nnameserver 192.0.2.9\n\
             domain a.example\nsearch b.example c.example\noptions ndots:2 timeout:99 attempts:0 use-vc rotate\n",
        );
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:0", "[2001:db8::1]:0", "[fe80::1%7]:0"]);
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts, conf.tcp), (2, 30, 1, true));
        assert_eq!(conf.candidates("h.x", false), ["h.x.b.example", "h.x.c.example", "h.x"]);
        assert_eq!(conf.candidates("h.x.y", false), ["h.x.y", "h.x.y.b.example", "h.x.y.c.example"]);
        assert_eq!(conf.candidates("h", true), ["h"]);
        let none = Conf::parse("");
        assert_eq!((none.servers[0].to_string().as_str(), none.timeout.as_secs()), ("127.0.0.1:0", 5));
    }

    #[test]
    fn hosts() {
        let text = "127.0.0.1 localhost\n192.0.2.1 a.example A # b\n2001:db8::1 a.example\nx a.example\n";
        assert_eq!(in_hosts(text, "a.example").len(), 2);
        assert_eq!(in_hosts(text, "a").len(), 1);
        assert!(in_hosts(text, "b").is_empty());
    }
}
