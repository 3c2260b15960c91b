//! `run --publish` and `run -p`: a port of the host for one of the instance, as a proxy device.

use crate::error::{Error, Result};
use crate::model::instance::Device;
use crate::model::keys::device::proxy::Address;

/// Does `-p`, which names a profile, mean ports? No profile's name has a colon.
pub fn is_meant(word: &str) -> bool {
    word.contains(':')
}

/// The proxy that `[<address>:]<port>:<port>[/udp]` stands for; ports may be ranges.
///
/// # Errors
/// It is not of that form.
pub fn device(word: &str) -> Result<Device> {
    let bad = || Error::invalid(format!("Bad port {word:?}, expecting [<address>:]<host port>:<port>[/udp]"));
    let (ends, protocol) = match word.rsplit_once('/') {
        None => (word, "tcp"),
        Some((ends, protocol @ ("tcp" | "udp"))) => (ends, protocol),
        Some(_) => return Err(bad()),
    };
    let (outer, port) = ends.rsplit_once(':').ok_or_else(bad)?;
    let (address, host_port) = outer.rsplit_once(':').unwrap_or(("", outer));
    let listen = format!("{protocol}:{address}:{host_port}");
    let connect = format!("{protocol}:127.0.0.1:{port}");
    for end in [&listen, &connect] {
        Address::parse(end).map_err(|e| e.context(bad().to_string()))?;
    }
    let pairs = [("type", "proxy".to_string()), ("listen", listen), ("connect", connect)];
    Ok(pairs.into_iter().map(|(k, v)| (k.to_string(), v)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let show = |word: &str| device(word).map(|d| format!("{} {}", d["listen"], d["connect"]));
        assert_eq!(show("8080:80").unwrap(), "tcp::8080 tcp:127.0.0.1:80");
        assert_eq!(show("127.0.0.1:53:5353/udp").unwrap(), "udp:127.0.0.1:53 udp:127.0.0.1:5353");
        assert_eq!(show("[::1]:80-82:90-92").unwrap(), "tcp:[::1]:80-82 tcp:127.0.0.1:90-92");
        for bad in ["", "80", ":80", "80:", "a:80", "80:80/sctp", "1.2.3:80:80", "80:99999", "::1:80:80"] {
            assert!(show(bad).is_err(), "{bad}");
        }
    }
}
