//! Debian and Ubuntu: mmdebstrap (or debootstrap) installs packages into the rootfs, then a few files make it a container's (or, with
//! [`machine`], a virtual machine's).
//!
//! What is set up: systemd as init, DHCP on `eth0` by systemd-networkd, names by systemd-resolved, a login prompt on the console (systemd's own
//! generator), a locked root password, no machine id, no host name, no package lists. Units that want hardware or
//! rights a container has not are masked, so that a boot ends without a failed unit.

use super::tree::Tree;
use super::{Build, System, Variant, machine};
use crate::error::{Context, Error, Result};
use crate::host::command::{Cmd, Program, Stream};
use crate::image::{OnProgress, Progress};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MMDEBSTRAP: Program = Program { name: "mmdebstrap", package: "mmdebstrap" };
const DEBOOTSTRAP: Program = Program { name: "debootstrap", package: "debootstrap" };
const DEADLINE: Duration = Duration::from_secs(3600);

/// In every variant. Without udev networkd waits for it for ever wherever /sys can be written, which it can with a user
/// namespace.
const BASE: &[&str] = &["systemd-sysv", "dbus", "libpam-systemd", "iproute2", "netbase", "udev"];
/// In the default and cloud variants.
const COMFORT: &[&str] = &["ca-certificates", "iputils-ping", "less", "libnss-myhostname", "nano", "procps", "tzdata"];

/// Pulled in by nothing a container can serve: no hardware, no kernel modules, no audit, no firmware variables (compare the list in
/// distrobuilder's generator).
const MASKED: &[&str] = &[
    "dev-hugepages.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journald-audit.socket",
    "systemd-modules-load.service",
    "systemd-pstore.service",
    "systemd-remount-fs.service",
];

/// It would ask at the first boot's console.
const MASKED_IN_MACHINES: &[&str] = &["systemd-firstboot.service"];

const NETWORK: &[u8] =
    b"[Match]\nName=eth0\n\n[Network]\nDHCP=true\n\n[DHCPv4]\nUseDomains=true\nClientIdentifier=mac\n";

/// The keyrings the tools look for, and the package that has them.
fn keyring(system: System) -> ([&'static str; 2], &'static str) {
    match system {
        System::Ubuntu => (
            ["/usr/share/keyrings/ubuntu-archive-keyring.gpg", "/usr/share/keyrings/ubuntu-archive-keyring.pgp"],
            "ubuntu-keyring",
        ),
        _ => (
            ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"],
            "debian-archive-keyring",
        ),
    }
}

fn packages(build: &Build<'_>) -> Result<String> {
    let recipe = build.recipe;
    let mut all: Vec<&str> = BASE.to_vec();
    if recipe.resolved_package {
        all.push("systemd-resolved");
    }
    if recipe.variant != Variant::Minimal {
        all.extend(COMFORT);
    }
    if recipe.variant == Variant::Cloud {
        all.push("cloud-init");
    }
    let own = if build.vm { machine::packages(build)? } else { Vec::new() };
    all.extend(own.iter().chain(build.packages).map(String::as_str));
    Ok(all.join(","))
}

/// Ubuntu keeps a part of what belongs to a system container in universe, and its own images have that.
fn components(system: System) -> &'static str {
    match system {
        System::Ubuntu => "--components=main,universe",
        _ => "--components=main",
    }
}

/// Runs the tool; `target` is the empty rootfs directory.
pub fn install(build: &Build<'_>, target: &Path, on_progress: OnProgress<'_>) -> Result<()> {
    let (files, package) = keyring(build.recipe.system);
    if build.keyring.is_none() && !files.iter().any(|f| Path::new(f).exists()) {
        let title = build.recipe.system.title();
        return Err(Error::unsupported(format!("The archive keys of {title} are missing")).hint(format!(
            "install the package \"{package}\"; where the host's distribution lacks it, take {title}'s own, unpack it \
             (dpkg -x) and give the file \"{}\" in it: stapes image build --keyring FILE …",
            files[0]
        )));
    }
    let scratch = Scratch::make(target)?;
    let mut command = command(build, target)?;
    command.env.push(("TMPDIR".into(), scratch.path.clone().into()));
    let program = command.program;
    let mut said = Said::default();
    let mut on_line = |_: Stream, line: &str| {
        said.line(line);
        on_progress(Progress::Line(line))
    };
    let output = build.runner.run_with(command, Some(&mut on_line))?;
    output.success(program).map(drop).map_err(|e| {
        let hint = said.hint(package);
        let e = match said.reason {
            Some(reason) => Error::failed(format!("Failed running \"{}\": {reason}", program.name)),
            None => e,
        };
        match hint {
            Some(hint) => e.hint(hint),
            None => e,
        }
    })
}

/// The tool's temporary files: beside the target, so that they go with it when the tool is killed.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make(target: &Path) -> Result<Self> {
        let path = target.with_file_name("tmp");
        std::fs::create_dir(&path).with_context(|| format!("Failed creating \"{}\"", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What does not go now goes with the folder it is in.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn command(build: &Build<'_>, target: &Path) -> Result<Cmd> {
    let suite = &build.recipe.release;
    let what = [format!("--include={}", packages(build)?), components(build.recipe.system).to_string()];
    let keyring = build.keyring.map(|k| format!("--keyring={}", k.display()));
    let mut cmd = match build.runner.find(MMDEBSTRAP) {
        Ok(_) => Cmd::new(MMDEBSTRAP)
            .args(["--mode=root", "--format=directory", "--variant=minbase"])
            // Unpacked system, not documents of a distributor: as the tool's manual suggests for containers, apt stays quiet.
            .args(["--aptopt=Acquire::Languages \"none\"", "--skip=check/empty"])
            .args(keyring)
            .args(what)
            .arg(suite)
            .arg(target),
        Err(missing) => {
            build.runner.find(DEBOOTSTRAP).map_err(|_| missing)?;
            Cmd::new(DEBOOTSTRAP).arg("--variant=minbase").args(keyring).args(what).arg(suite).arg(target)
        }
    };
    if let Some(mirror) = build.mirror {
        cmd = cmd.arg(mirror);
    }
    cmd.env.push(("DEBIAN_FRONTEND".into(), "noninteractive".into()));
    // It mounts proc, sysfs and more in the target, and starts apt and its helpers.
    Ok(cmd.timeout(DEADLINE).contained())
}

/// What the tools say when something usual goes wrong.
#[derive(Default)]
struct Said {
    unreachable: bool,
    unsigned: bool,
    no_suite: bool,
    no_package: bool,
    /// The first complaint: what comes after it follows from it, and is all that the tool's last lines have.
    reason: Option<String>,
}

impl Said {
    fn line(&mut self, line: &str) {
        if self.reason.is_none() {
            let plain = |e: &str| e.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "");
            self.reason = line.strip_prefix("E: ").map(plain);
        }
        let has = |texts: &[&str]| texts.iter().any(|t| line.contains(t));
        self.unreachable |= has(&[
            "Could not resolve",
            "Could not connect",
            "Failed to fetch",
            "Couldn't download",
            "Failed getting release",
        ]);
        self.unsigned |= has(&["NO_PUBKEY", "is not signed", "unknown key"]);
        self.no_suite |= has(&["does not have a Release file", "No such script", "404 "]);
        self.no_package |= has(&["Unable to locate package", "Couldn't find these debs"]);
    }

    fn hint(&self, keyring: &str) -> Option<String> {
        if self.unsigned {
            return Some(format!("a newer package \"{keyring}\" may have the keys of this release"));
        }
        if self.no_package {
            return Some("check the names of the packages".to_string());
        }
        if self.no_suite {
            return Some("the mirror may not have this release".to_string());
        }
        self.unreachable.then(|| "check that the mirror can be reached, or give another one".to_string())
    }
}

/// Makes the installed system a container's, or leaves it with what it has in common with a machine's.
pub fn finish(build: &Build<'_>, rootfs: &OwnedFd) -> Result<()> {
    let tree = Tree(rootfs);
    units(&tree, if build.vm { MASKED_IN_MACHINES } else { MASKED })?;
    if !build.vm {
        tree.file("etc/systemd/network/eth0.network", NETWORK, 0o644)?;
        tree.file("etc/fstab", b"", 0o644)?;
    }
    tree.symlink("etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf")?;
    // Filled by systemd at the first boot; templates write name and hosts.
    tree.file("etc/machine-id", b"", 0o444)?;
    tree.symlink("var/lib/dbus/machine-id", "/etc/machine-id")?;
    tree.remove("etc/hostname")?;
    for file in ["var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "etc/.pwd.lock"] {
        tree.remove(file)?;
    }
    for log in ["dpkg.log", "bootstrap.log", "alternatives.log", "apt/history.log", "apt/term.log", "apt/eipp.log.xz"] {
        tree.remove(&format!("var/log/{log}"))?;
    }
    for dir in ["dev", "run", "tmp", "var/tmp", "var/cache/apt", "var/lib/apt/lists", "proc", "sys"] {
        tree.empty(dir)?;
    }
    tree.dir("var/lib/apt/lists/partial", 0o755)?;
    tree.dir("var/cache/apt/archives/partial", 0o755)?;
    if build.recipe.variant == Variant::Cloud {
        tree.remove("etc/systemd/network/eth0.network")?;
    }
    Ok(())
}

fn units(tree: &Tree<'_>, masked: &[&str]) -> Result<()> {
    let units = if tree.exists("usr/lib/systemd/system/systemd-networkd.service") { "/usr/lib" } else { "/lib" };
    let etc = "etc/systemd/system";
    for (link, unit) in [
        ("multi-user.target.wants/systemd-networkd.service", "systemd-networkd.service"),
        ("dbus-org.freedesktop.network1.service", "systemd-networkd.service"),
        ("sockets.target.wants/systemd-networkd.socket", "systemd-networkd.socket"),
        ("sysinit.target.wants/systemd-resolved.service", "systemd-resolved.service"),
        ("dbus-org.freedesktop.resolve1.service", "systemd-resolved.service"),
    ] {
        if tree.exists(&format!("{units}/systemd/system/{unit}")) {
            tree.symlink(&format!("{etc}/{link}"), &format!("{units}/systemd/system/{unit}"))?;
        }
    }
    for unit in masked {
        tree.symlink(&format!("{etc}/{unit}"), "/dev/null")?;
    }
    // Packages enable it; without an interface it would wait for two minutes and fail.
    tree.remove(&format!("{etc}/network-online.target.wants/systemd-networkd-wait-online.service"))?;
    tree.symlink(&format!("{etc}/default.target"), &format!("{units}/systemd/system/multi-user.target"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::command::{Answer, Fake};
    use jiff::Timestamp;

    fn args(tools: &[&'static str], alias: &str, mirror: Option<&str>, vm: bool) -> (String, String) {
        let keyring = alias.starts_with("ubuntu").then(|| Path::new("/keys.gpg"));
        let recipe = super::super::parse(alias).expect("recipe");
        let fake = Fake::new(tools, |_| Answer::default());
        let extra = ["vim".to_string()];
        let build =
            Build { recipe: &recipe, vm, mirror, keyring, packages: &extra, now: Timestamp::UNIX_EPOCH, runner: &fake };
        let cmd = command(&build, Path::new("/t")).expect("a tool");
        let args: Vec<_> = cmd.args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        (cmd.program.name.to_string(), args.join(" "))
    }

    #[test]
    fn tools_and_arguments() {
        let (tool, line) = args(&["mmdebstrap", "debootstrap"], "debian/12/minimal", None, false);
        assert_eq!(tool, "mmdebstrap");
        let include = "--include=systemd-sysv,dbus,libpam-systemd,iproute2,netbase,udev,systemd-resolved,vim --components=main bookworm /t";
        assert!(line.ends_with(include), "{line}");
        let (tool, line) = args(&["debootstrap"], "ubuntu/22.04", Some("http://m/ubuntu"), false);
        assert_eq!(tool, "debootstrap");
        assert!(
            line.starts_with("--variant=minbase --keyring=/keys.gpg --include=systemd-sysv,")
                && line.ends_with("--components=main,universe jammy /t http://m/ubuntu")
        );
        assert!(!line.contains("systemd-resolved"));
        assert!(args(&["mmdebstrap"], "debian/13/cloud", None, false).1.contains("cloud-init"));
        if cfg!(target_arch = "x86_64") {
            let line = args(&["mmdebstrap"], "debian/13", None, true).1;
            assert!(line.contains(",linux-image-amd64,grub-efi-amd64,") && line.contains(",systemd-repart,"), "{line}");
            assert!(args(&["mmdebstrap"], "ubuntu/24.04", None, true).1.contains(",linux-image-virtual,"));
        }
    }

    #[test]
    fn missing_tools_name_the_package() {
        let recipe = super::super::parse("debian/12").expect("recipe");
        let fake = Fake::new(&[], |_| Answer::default());
        let build = Build {
            recipe: &recipe,
            vm: false,
            mirror: None,
            keyring: None,
            packages: &[],
            now: Timestamp::UNIX_EPOCH,
            runner: &fake,
        };
        let e = command(&build, Path::new("/t")).expect_err("missing");
        assert_eq!(e.hint_text(), Some("install the package \"mmdebstrap\""));
    }

    #[test]
    fn usual_failures_get_a_hint() {
        let hint = |line: &str| {
            let mut said = Said::default();
            said.line(line);
            said.hint("debian-archive-keyring")
        };
        assert!(hint("E: Failed to fetch http://x Could not resolve 'x'").expect("hint").contains("reached"));
        assert!(hint("W: GPG error: NO_PUBKEY 123").expect("hint").contains("debian-archive-keyring"));
        assert!(hint("E: Unable to locate package nosuch").expect("hint").contains("packages"));
        assert_eq!(hint("I: done"), None);
    }
}
