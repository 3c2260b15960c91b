//! Builds the `bootstrap:` images for real, and boots what can be booted without the rest of the program.
#![allow(clippy::disallowed_methods, reason = "boots what was built with the host's tools")]

mod image_common;

use image_common::{Image, is_root};
use jiff::Timestamp;
use stapes::host::command::{Host, Program, Runner};
use stapes::image::Progress;
use stapes::image::bootstrap::{self, Build};
use stapes::image::import::{Dest, Imported, Source};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

fn build(image: &Image, alias: &str) -> stapes::error::Result<Imported> {
    let recipe = bootstrap::parse(alias)?;
    let host = Host::default();
    let build = Build {
        recipe: &recipe,
        vm: false,
        mirror: None,
        keyring: None,
        packages: &[],
        now: Timestamp::now(),
        runner: &host,
    };
    let (blob, root) = (image.path().join("blob"), image.path().join("blob.rootfs"));
    let dest = Dest { blob: &blob, blob_rootfs: &root, staging: &image.staging() };
    let mut lines = 0;
    let built = bootstrap::build(&build, dest, &mut |p| {
        lines += u32::from(matches!(p, Progress::Line(_)));
        Ok(())
    })?;
    assert!(alias == "busybox" || lines > 3, "no progress");
    Ok(built)
}

/// The stored files import again as the same image.
fn import_again(image: &Image, built: &Imported) -> Image {
    use stapes::image::import::Input;
    let again = Image::new();
    let source = Source::Split {
        metadata: Input::open(&image.path().join("blob")).expect("open"),
        rootfs: Input::open(&image.path().join("blob.rootfs")).expect("open"),
    };
    let imported = again.import(source, Some(&built.fingerprint)).expect("imported");
    assert_eq!(imported.metadata, built.metadata);
    assert_eq!(imported.size, built.size);
    again
}

fn missing(program: &'static str) -> bool {
    Host::default().find(Program { name: program, package: "" }).is_err()
}

#[test]
fn busybox_is_built_and_its_init_halts_on_sigpwr() {
    if !is_root() || missing("busybox") {
        eprintln!("SKIP busybox_is_built_and_its_init_halts_on_sigpwr: needs root and busybox-static");
        return;
    }
    let image = Image::new();
    let built = build(&image, "busybox").expect("built");
    assert!(built.size < 4 << 20, "{} bytes", built.size);
    assert_eq!(built.metadata.properties["os"], "Busybox");
    let again = import_again(&image, &built);
    let rootfs = again.staging().join("rootfs");
    assert_eq!(std::fs::read_link(rootfs.join("sbin/init")).expect("link").to_string_lossy(), "/bin/busybox");
    assert_eq!(std::fs::metadata(rootfs.join("tmp")).expect("tmp").mode() & 0o7777, 0o1777);
    // As PID 1 of its own namespace: comes up, runs its scripts, ends on the signal `stop` sends.
    let script = "mount -t proc proc \"$0/proc\"; exec chroot \"$0\" /sbin/init";
    let mut init = Command::new("unshare")
        .args(["--pid", "--mount", "--uts", "--ipc", "--net", "--fork", "--kill-child", "sh", "-c", script])
        .arg(&rootfs)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("unshare");
    let booted = rootfs.join("run/booted");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !booted.exists() && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(booted.exists(), "init did not run its script");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", init.id())).expect("children");
    let pid: i32 = children.trim().parse().expect("one child");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGPWR).expect("kill");
    init.wait().expect("init ended");
}

/// Takes a minute and the network: asked for by name, `--ignored`.
#[test]
#[ignore = "downloads packages"]
fn debian_is_built() {
    if !is_root() || (missing("mmdebstrap") && missing("debootstrap")) {
        eprintln!("SKIP debian_is_built: needs root and mmdebstrap");
        return;
    }
    let image = Image::new();
    let built = match build(&image, "debian/12") {
        Err(e) if e.hint_text().is_some_and(|h| h.contains("reached")) => {
            eprintln!("SKIP debian_is_built: {e}");
            return;
        }
        other => other.expect("built"),
    };
    assert_eq!(built.metadata.properties["release"], "bookworm");
    let again = import_again(&image, &built);
    let rootfs = again.staging().join("rootfs");
    let read = |name: &str| std::fs::read_to_string(rootfs.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(read("etc/machine-id"), "");
    assert!(!rootfs.join("etc/hostname").exists());
    assert!(read("etc/shadow").lines().any(|l| l.starts_with("root:*:") || l.starts_with("root:!")));
    assert!(read("etc/systemd/network/eth0.network").contains("DHCP=true"));
    assert!(rootfs.join("sbin/init").symlink_metadata().is_ok());
    for empty in ["dev", "run", "tmp", "proc", "sys"] {
        assert_eq!(std::fs::read_dir(rootfs.join(empty)).expect(empty).count(), 0, "{empty}");
    }
    for name in ["bin/ip", "usr/bin/systemctl", "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"] {
        assert!(rootfs.join(name).symlink_metadata().is_ok(), "{name}");
    }
}
