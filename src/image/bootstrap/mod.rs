//! Images built on this host: the `bootstrap:` remote. `debian/…` and `ubuntu/…` from the distribution's packages, `busybox` from the
//! host's own static binary.
//!
//! Called by `ops` as another source of images. The result is a split image: a metadata archive and a rootfs archive, with the
//! unpacked tree in the staging directory at the same time; or, of a virtual machine, a metadata archive and a disk. No mirror is named here: the tools have their own, or the user gives one.
//! The tree is made ready through `sys::path` beneath its root; no command of ours runs in it.

mod busybox;
mod debian;
mod gpt;
mod machine;
mod recipe;
mod tree;

pub use recipe::{Recipe, System, Variant, list, parse};

use super::compress::{Algorithm, Encoder};
use super::decompress::Format;
use super::export::Exporter;
use super::hash::{Fingerprint, HashingFile, Tee, create_blob};
use super::import::{Dest, Imported};
use super::metadata::{self, Metadata, Template};
use super::unpack::Stats;
use super::{OnProgress, Progress};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::command::Runner;
use crate::model::instance::InstanceType;
use crate::sys::path::{self, Links, Owner};
use jiff::Timestamp;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// What is to be built and with what.
#[derive(Clone, Copy)]
pub struct Build<'a> {
    /// The system.
    pub recipe: &'a Recipe,
    /// A virtual machine's image.
    pub vm: bool,
    /// Where packages come from; the tool's own choice if `None`.
    pub mirror: Option<&'a str>,
    /// Keys that the packages' index is checked with (absolute path); the system's own file if `None`.
    pub keyring: Option<&'a Path>,
    /// Packages beyond the recipe's.
    pub packages: &'a [String],
    /// Date of the image.
    pub now: Timestamp,
    /// Runs the tools.
    pub runner: &'a dyn Runner,
}

impl std::fmt::Debug for Build<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Build").field("recipe", &self.recipe).field("mirror", &self.mirror).finish_non_exhaustive()
    }
}

/// Which images can be made of an alias.
pub fn kinds(alias: &str) -> &'static [InstanceType] {
    match alias {
        "busybox" => &[InstanceType::Container],
        _ => &[InstanceType::Container, InstanceType::VirtualMachine],
    }
}

const HOSTNAME: &str = "{{ instance.name }}\n";
const HOSTS: &str = "127.0.0.1\tlocalhost\n127.0.1.1\t{{ instance.name }}\n\n\
    ::1\t\tlocalhost ip6-localhost ip6-loopback\nff02::1\t\tip6-allnodes\nff02::2\t\tip6-allrouters\n";

/// Builds the image into `dest`. Takes minutes for a distribution. Locks: none; the fingerprint is not known before.
///
/// # Errors
/// `Unsupported`: a tool or keyring is missing, or we are not root. `Invalid`: a mirror or package name that is none. `Failed`: the tool did
/// not get through; its last lines are in the message.
pub fn build(build: &Build<'_>, dest: Dest<'_>, on_progress: OnProgress<'_>) -> Result<Imported> {
    check(build)?;
    fault::point("image.begin")?;
    let staging = path::open_root(dest.staging)?;
    if !path::read_dir(staging.as_fd())?.is_empty() {
        return Err(Error::internal(format!("The directory \"{}\" is not empty", dest.staging.display())));
    }
    on_progress(Progress::Step("Building root file system"))?;
    let rootfs = make_dir(&staging, "rootfs")?;
    let stamp = Stamp::new(build)?;
    let context = || format!("Failed building \"{}\"", build.recipe.alias());
    match build.recipe.system {
        System::Busybox => busybox::install(build, &rootfs).with_context(context)?,
        System::Debian | System::Ubuntu => {
            debian::install(build, &dest.staging.join("rootfs"), on_progress).with_context(context)?;
            debian::finish(build, &rootfs).with_context(context)?;
        }
    }
    let root = Uuid::new_v4();
    if build.vm {
        machine::finish(&rootfs, root).with_context(context)?;
    }
    fault::point("image.unpacked")?;
    on_progress(Progress::Step("Packing image"))?;
    let metadata = stamp.metadata(build.recipe);
    write_metadata(&staging, &metadata)?;
    let first = pack_metadata(&staging, dest, &metadata, &stamp)?;
    let disk = build.vm.then(|| machine::disk(build, &staging, dest, root)).transpose().with_context(context)?;
    let imported = match disk {
        Some(size) => take_disk(dest, metadata, first, size)?,
        None => pack(&staging, dest, metadata, first)?,
    };
    metadata::check_layout(staging.as_fd())?;
    fault::point("image.verified")?;
    Ok(imported)
}

/// What users give is checked before anything runs: no control characters, and no way to be taken for an option.
fn check(build: &Build<'_>) -> Result<()> {
    if let Some(mirror) = build.mirror {
        let known = ["http://", "https://", "file:///"].iter().any(|s| mirror.starts_with(s));
        if !known || mirror.contains(|c: char| c.is_control() || c.is_whitespace() || c == '[') {
            return Err(Error::invalid(format!("Bad mirror {mirror:?}")));
        }
    }
    if let Some(keyring) = build.keyring {
        check_keyring(keyring)?;
    }
    for name in build.packages {
        // Debian policy 5.6.1, and an architecture behind a colon.
        let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let good = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.:".contains(c));
        if !first || !good {
            return Err(Error::invalid(format!("Bad package name {name:?}")));
        }
    }
    match rustix::process::geteuid().is_root() {
        true if build.vm => machine::check(build),
        true => Ok(()),
        false => Err(Error::unsupported("Building images needs root")),
    }
}

/// The tools write the name into a configuration of apt's, so it may hold nothing that ends a string there.
fn check_keyring(file: &Path) -> Result<()> {
    let text = file.to_str().filter(|t| !t.contains(|c: char| c.is_control() || "\"\\;{}".contains(c)));
    if !file.is_absolute() || text.is_none() {
        return Err(Error::invalid(format!("Bad keyring {file:?}")));
    }
    match file.is_file() {
        true => Ok(()),
        false => Err(Error::not_found(format!("Keyring \"{}\" not found", file.display()))),
    }
}

fn make_dir(parent: &OwnedFd, name: &str) -> Result<OwnedFd> {
    path::create_dir_all(parent.as_fd(), name.as_ref(), 0, 0, 0o755, Links::Refuse)
}

const ROOT_FILE: Owner = Owner { uid: 0, gid: 0, mode: 0o644 };

fn write_metadata(staging: &OwnedFd, metadata: &Metadata) -> Result<()> {
    let put = |name: &str, data: &str| {
        path::write_replace(staging.as_fd(), name.as_ref(), data.as_bytes(), ROOT_FILE, Links::Refuse)
            .with_context(|| format!("Failed writing \"{name}\""))
    };
    put("metadata.yaml", &metadata.to_yaml()?)?;
    make_dir(staging, "templates")?;
    put("templates/hostname.tpl", HOSTNAME)?;
    put("templates/hosts.tpl", HOSTS)
}

/// Dates and names of one build.
struct Stamp {
    seconds: i64,
    /// `20260131_14:05`, as the public image server writes it.
    serial: String,
    architecture: &'static str,
}

impl Stamp {
    fn new(build: &Build<'_>) -> Result<Self> {
        let utc = build.now.to_zoned(jiff::tz::TimeZone::UTC);
        // What we are built for is what the host's packages are for.
        let machine = match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            other => other,
        };
        Ok(Self {
            seconds: build.now.as_second(),
            serial: utc.strftime("%Y%m%d_%H:%M").to_string(),
            architecture: metadata::architecture(machine)?,
        })
    }

    fn metadata(&self, recipe: &Recipe) -> Metadata {
        let (os, serial, variant) = (recipe.system.title(), &self.serial, recipe.variant.name());
        let arch = recipe::debian_architecture(self.architecture);
        let suffix = if recipe.variant == Variant::Default { String::new() } else { format!(" {variant}") };
        let name = format!("{}-{}-{arch}-{variant}-{serial}", os.to_lowercase(), recipe.release);
        let properties = [
            ("architecture", arch.to_string()),
            ("description", format!("{os} {} {arch}{suffix} ({serial})", recipe.release)),
            ("name", name),
            ("os", os.to_string()),
            ("release", recipe.release.clone()),
            ("serial", serial.clone()),
            ("variant", variant.to_string()),
            ("version", recipe.version.clone()),
        ];
        let template = |file: &str| Template {
            when: vec!["create".into(), "copy".into(), "rename".into()],
            template: file.into(),
            ..Template::default()
        };
        Metadata {
            architecture: self.architecture.to_string(),
            creation_date: self.seconds,
            expiry_date: 0,
            properties: properties.into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
            templates: BTreeMap::from([
                ("/etc/hostname".to_string(), template("hostname.tpl")),
                ("/etc/hosts".to_string(), template("hosts.tpl")),
            ]),
        }
    }
}

/// Writes the first file of the image from the staging directory.
fn pack_metadata(staging: &OwnedFd, dest: Dest<'_>, metadata: &Metadata, stamp: &Stamp) -> Result<HashingFile> {
    let sink = HashingFile::new(create_blob(dest.blob)?);
    let mut meta = Exporter::new(Encoder::new(sink, Algorithm::Xz)?);
    let templates = path::open_dir(staging.as_fd(), "templates".as_ref(), Links::Refuse)?;
    meta.file("metadata.yaml", metadata.to_yaml()?.as_bytes(), stamp.seconds)?;
    meta.tree(templates.as_fd(), "templates")?;
    let first = meta.finish()?.finish()?;
    fault::point("image.metadata")?;
    Ok(first)
}

/// Writes the second file from the staging directory; `first`: what hashed the first.
fn pack(staging: &OwnedFd, dest: Dest<'_>, metadata: Metadata, first: HashingFile) -> Result<Imported> {
    let sink = HashingFile { file: create_blob(dest.blob_rootfs)?, ..first };
    let mut root = Exporter::new(Encoder::new(io::BufWriter::with_capacity(1 << 20, sink), Algorithm::Zstd)?);
    let rootfs = path::open_dir(staging.as_fd(), "rootfs".as_ref(), Links::Refuse)?;
    root.tree(rootfs.as_fd(), ".")?;
    let stats = Stats { entries: root.entries(), bytes: root.bytes(), ..Stats::default() };
    let second = root.finish()?.finish()?.into_inner().map_err(|e| Error::from(e.into_error()))?;
    Ok(Imported { stats, ..imported(metadata, second.hasher, second.count, Format::Zstd) })
}

/// The second file is the disk that is there already, for `size` bytes.
fn take_disk(dest: Dest<'_>, metadata: Metadata, first: HashingFile, size: u64) -> Result<Imported> {
    let mut how = std::fs::OpenOptions::new();
    let file = how.read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(dest.blob_rootfs);
    let file = file.context("Failed reading the disk")?;
    let mut sum = Tee::new(&file, first.hasher, None, Arc::default());
    let count = io::copy(&mut sum, &mut io::sink()).context("Failed reading the disk")?;
    file.set_permissions(Permissions::from_mode(0o600)).context("Failed writing the image")?;
    let stats = Stats { entries: 1, bytes: size, ..Stats::default() };
    let whole = imported(metadata, sum.finish(), first.count + count, Format::Qcow2);
    Ok(Imported { kind: InstanceType::VirtualMachine, stats, ..whole })
}

fn imported(metadata: Metadata, sum: Sha256, size: u64, rootfs: Format) -> Imported {
    let filename =
        format!("{}{}", metadata.properties.get("name").map_or("image", String::as_str), Format::Xz.extension());
    Imported {
        fingerprint: Fingerprint::of(sum),
        content: None,
        kind: InstanceType::Container,
        metadata,
        split: true,
        size,
        filename: filename.replace(':', ""),
        format: Format::Xz,
        rootfs_format: Some(rootfs),
        stats: Stats::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::command::Fake;

    #[test]
    fn cve_2026_62867_user_strings_never_become_options() {
        let recipe = parse("debian/13").expect("recipe");
        let fake = Fake::new(&[], |_| unreachable!("nothing may run"));
        let with = |mirror: Option<&str>, package: &str| {
            let packages = [package.to_string()];
            let build = Build {
                recipe: &recipe,
                vm: false,
                mirror,
                keyring: None,
                packages: &packages,
                now: Timestamp::UNIX_EPOCH,
                runner: &fake,
            };
            check(&build)
        };
        for bad in [
            "",
            "-o",
            "--setup-hook=id",
            "deb http://x",
            "http://x y",
            "http://x\n",
            "[trusted=yes] http://x",
            "copy:/x",
        ] {
            assert_eq!(with(Some(bad), "vim").expect_err(bad).kind(), crate::error::Kind::Invalid, "{bad}");
        }
        for bad in ["", "-x", "a,b", "a b", "a\n", "A", "a;b", "$(id)", "a/b", "?essential"] {
            assert_eq!(with(None, bad).expect_err(bad).kind(), crate::error::Kind::Invalid, "{bad}");
        }
    }

    #[test]
    fn a_keyring_is_a_file_with_a_plain_name() {
        for bad in ["keys.gpg", "/k\"; Dir::Bin::gpgv \"/bin/sh", "/a\nb", "/a{b}"] {
            assert_eq!(check_keyring(Path::new(bad)).expect_err(bad).kind(), crate::error::Kind::Invalid, "{bad}");
        }
        let missing = check_keyring(Path::new("/nowhere/keys.gpg")).expect_err("missing");
        assert_eq!(missing.to_string(), "Keyring \"/nowhere/keys.gpg\" not found");
        assert!(check_keyring(Path::new("/proc/self/status")).is_ok());
    }

    #[test]
    fn properties_like_the_public_server() {
        let recipe = parse("debian/bookworm").expect("recipe");
        let fake = Fake::new(&[], |_| unreachable!("nothing may run"));
        let now = Timestamp::from_second(1_700_000_000).expect("date");
        let build =
            Build { recipe: &recipe, vm: false, mirror: None, keyring: None, packages: &[], now, runner: &fake };
        let mut stamp = Stamp::new(&build).expect("stamp");
        stamp.architecture = "x86_64";
        let m = stamp.metadata(&recipe);
        assert_eq!(m.properties["description"], "Debian bookworm amd64 (20231114_22:13)");
        assert_eq!(m.properties["name"], "debian-bookworm-amd64-default-20231114_22:13");
        assert_eq!(m.properties["version"], "12");
        assert_eq!(Metadata::parse(m.to_yaml().expect("yaml").as_bytes()).expect("valid"), m);
    }
}
