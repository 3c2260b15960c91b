//! The aliases of the `bootstrap:` remote: which systems there are and what makes each.

use crate::error::{Error, Result};

/// A system we can build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Debian, by mmdebstrap or debootstrap.
    Debian,
    /// Ubuntu, likewise.
    Ubuntu,
    /// One static binary.
    Busybox,
}

impl System {
    /// As image properties write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Debian => "Debian",
            Self::Ubuntu => "Ubuntu",
            Self::Busybox => "Busybox",
        }
    }
}

/// How much is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// What people expect to find on a small server.
    Default,
    /// The init system, a network and nothing else.
    Minimal,
    /// With cloud-init.
    Cloud,
}

impl Variant {
    /// As in aliases and properties.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Minimal => "minimal",
            Self::Cloud => "cloud",
        }
    }
}

/// One system of one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Which.
    pub system: System,
    /// Code name (`trixie`); the version of busybox is not known here.
    pub release: String,
    /// Number (`13`), or the code name where there is none.
    pub version: String,
    /// How much.
    pub variant: Variant,
    /// systemd-resolved is a package of its own (Debian 12, Ubuntu 24.04 and later).
    pub resolved_package: bool,
    /// So is systemd-repart (Debian 13, Ubuntu 25.04 and later).
    pub repart_package: bool,
}

impl Recipe {
    /// The alias that leads here.
    pub fn alias(&self) -> String {
        let suffix = if self.variant == Variant::Default { String::new() } else { format!("/{}", self.variant.name()) };
        match self.system {
            System::Busybox => "busybox".to_string(),
            other => format!("{}/{}{suffix}", other.title().to_lowercase(), self.version),
        }
    }
}

/// Code name, number, systemd-resolved and systemd-repart apart.
type Release = (&'static str, &'static str, [bool; 2]);

const DEBIAN: &[Release] = &[
    ("bullseye", "11", [false, false]),
    ("bookworm", "12", [true, false]),
    ("trixie", "13", [true, true]),
    ("forky", "14", [true, true]),
    ("sid", "sid", [true, true]),
];

const UBUNTU: &[Release] = &[
    ("focal", "20.04", [false, false]),
    ("jammy", "22.04", [false, false]),
    ("noble", "24.04", [true, false]),
    ("plucky", "25.04", [true, true]),
    ("questing", "25.10", [true, true]),
    ("resolute", "26.04", [true, true]),
];

/// Aliases worth listing, newest first: name and description.
pub fn list() -> Vec<(String, String)> {
    let mut all = vec![("busybox".to_string(), "Busybox from this host's static binary".to_string())];
    for (system, releases) in [(System::Debian, DEBIAN), (System::Ubuntu, UBUNTU)] {
        for (name, version, _) in releases.iter().rev() {
            let title = system.title();
            all.push((format!("{}/{version}", title.to_lowercase()), format!("{title} {name}")));
        }
    }
    all
}

/// Reads an alias: `busybox`, `<system>/<release>` or `<system>/<release>/<variant>`. A release is a number or code name; code names not known
/// here are tried as they are.
///
/// # Errors
/// `NotFound`: there is no such system; a name that cannot be a release.
pub fn parse(alias: &str) -> Result<Recipe> {
    let unknown = || {
        Error::not_found(format!("Image \"bootstrap:{alias}\" doesn't exist"))
            .hint("try \"debian/13\", \"ubuntu/24.04\" or \"busybox\"")
    };
    let mut parts = alias.split('/');
    let (system, releases) = match parts.next() {
        Some("busybox") if parts.next().is_none() => {
            return Ok(Recipe {
                system: System::Busybox,
                release: "busybox".to_string(),
                version: "busybox".to_string(),
                variant: Variant::Default,
                resolved_package: false,
                repart_package: false,
            });
        }
        Some("debian") => (System::Debian, DEBIAN),
        Some("ubuntu") => (System::Ubuntu, UBUNTU),
        _ => return Err(unknown()),
    };
    let wanted = parts.next().ok_or_else(unknown)?;
    let variant = match parts.next() {
        None | Some("default") => Variant::Default,
        Some("minimal") => Variant::Minimal,
        Some("cloud") => Variant::Cloud,
        Some(_) => return Err(unknown()),
    };
    if parts.next().is_some() {
        return Err(unknown());
    }
    let wanted = if wanted == "unstable" { "sid" } else { wanted };
    let known = releases.iter().find(|(name, version, _)| *name == wanted || *version == wanted);
    let (release, version, [resolved_package, repart_package]) = match known {
        Some((name, version, apart)) => ((*name).to_string(), (*version).to_string(), *apart),
        // A code name: letters; a number that is not in the table is no release.
        None if !wanted.is_empty() && wanted.bytes().all(|b| b.is_ascii_lowercase()) => {
            (wanted.to_string(), wanted.to_string(), [true, true])
        }
        None => return Err(unknown()),
    };
    Ok(Recipe { system, release, version, variant, resolved_package, repart_package })
}

/// Debian's name of a kernel architecture.
pub fn debian_architecture(kernel: &str) -> &str {
    match kernel {
        "x86_64" => "amd64",
        "i686" => "i386",
        "aarch64" => "arm64",
        "armv7l" | "armv8l" => "armhf",
        "armv6l" => "armel",
        "ppc64le" => "ppc64el",
        "loongarch64" => "loong64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases() {
        let r = parse("debian/12").expect("known");
        assert_eq!((r.release.as_str(), r.version.as_str(), r.resolved_package), ("bookworm", "12", true));
        assert_eq!(parse("ubuntu/jammy").expect("known").version, "22.04");
        assert_eq!(parse("debian/unstable").expect("known").release, "sid");
        assert_eq!(parse("debian/duke").expect("future").release, "duke");
        assert_eq!(parse("debian/13/cloud").expect("known").alias(), "debian/13/cloud");
        for (alias, _) in list() {
            assert_eq!(parse(&alias).expect("listed").alias(), alias);
        }
        for bad in [
            "",
            "debian",
            "debian/",
            "debian/99",
            "debian/-o",
            "debian/../x",
            "debian/12/x",
            "debian/12/cloud/x",
            "fedora/40",
            "busybox/1",
        ] {
            assert_eq!(parse(bad).expect_err(bad).kind(), crate::error::Kind::NotFound, "{bad}");
        }
    }
}
