//! A tiny system from the host's static busybox: starts in a blink, for tests and for containers that only need a shell.
//!
//! Its init halts on SIGPWR and SIGUSR1, powers off on SIGUSR2, reboots on SIGTERM (init.c of busybox; measured with 1.35).

use super::Build;
use super::tree::Tree;
use crate::error::{Context, Error, Result};
use crate::host::command::{Cmd, Program};
use crate::image::metadata::is_bare_name;
use std::os::fd::OwnedFd;

const BUSYBOX: Program = Program { name: "busybox", package: "busybox-static" };
/// Larger than any busybox.
const BINARY_MAX: u64 = 64 << 20;

const FILES: &[(&str, u32, &str)] = &[
    ("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", 0o644, "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("etc/shadow", 0o640, "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n"),
    ("etc/shells", 0o644, "/bin/sh\n"),
    ("etc/profile", 0o644, "export PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"),
    ("etc/hosts", 0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost\n"),
    (
        "etc/inittab",
        0o644,
        "::respawn:-/etc/init.d/console\n::ctrlaltdel:/sbin/reboot\n::shutdown:/etc/init.d/rcK\n::restart:/sbin/init\n",
    ),
    // One program does what rcS and getty do elsewhere: starting a second and a third costs more than all that they do.
    (
        "etc/init.d/console",
        0o755,
        "#!/bin/sh\n\
         [ -e /dev/.booted ] || { : > /dev/.booted; . /etc/init.d/rcS; }\n\
         export TERM=vt100\n\
         read -r name < /proc/sys/kernel/hostname\n\
         printf '\\n%s login: ' \"$name\"\n\
         read -r user || { sleep 1; exit; }\n\
         [ -z \"$user\" ] || exec login -- \"$user\"\n",
    ),
    (
        "etc/init.d/rcS",
        0o755,
        "#!/bin/sh\n\
         { read -r now < /proc/sys/kernel/hostname; read -r own < /etc/hostname; } 2>/dev/null\n\
         [ -z \"$own\" ] || [ \"$own\" = \"$now\" ] || hostname \"$own\" 2>/dev/null\n\
         read -r flags 2>/dev/null < /sys/class/net/lo/flags\n\
         [ \"$flags\" = 0x9 ] || ip link set lo up 2>/dev/null\n\
         if [ -e /sys/class/net/eth0 ]; then\n\
         \tip link set eth0 up 2>/dev/null\n\
         \t(setsid udhcpc -b -R -t 8 -T 1 -A 5 -i eth0 -p /run/udhcpc.pid >/dev/null 2>&1 &)\n\
         fi\n\
         : > /run/booted\n",
    ),
    ("etc/init.d/rcK", 0o755, "#!/bin/sh\nsync\n"),
    (
        "usr/share/udhcpc/default.script",
        0o755,
        "#!/bin/sh\n\
         case \"$1\" in\n\
         deconfig) ip -4 addr flush dev \"$interface\"; ip link set \"$interface\" up ;;\n\
         bound|renew)\n\
         \tip -4 addr flush dev \"$interface\"\n\
         \tip addr add \"$ip/${mask:-24}\" dev \"$interface\"\n\
         \tfor r in $router; do ip route replace default via \"$r\" dev \"$interface\"; break; done\n\
         \t: > /etc/resolv.conf\n\
         \t[ -n \"$domain\" ] && echo \"search $domain\" >> /etc/resolv.conf\n\
         \tfor d in $dns; do echo \"nameserver $d\" >> /etc/resolv.conf; done ;;\n\
         esac\n\
         exit 0\n",
    ),
];

const DIRS: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/udhcpc", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// Writes the whole rootfs.
pub fn install(build: &Build<'_>, rootfs: &OwnedFd) -> Result<()> {
    let source = build.runner.find(BUSYBOX)?;
    let binary = read_binary(&source)?;
    let tree = Tree(rootfs);
    for (name, mode) in DIRS {
        tree.dir(name, *mode)?;
    }
    tree.symlink("var/run", "/run")?;
    // Where Debian's busybox looks for it.
    tree.symlink("etc/udhcpc/default.script", "/usr/share/udhcpc/default.script")?;
    tree.file("bin/busybox", &binary, 0o755)?;
    for (name, mode, text) in FILES {
        tree.file(name, text.as_bytes(), *mode)?;
    }
    let listed = build.runner.run(Cmd::new(BUSYBOX).arg("--list-full"))?.stdout;
    let mut count = 0;
    for name in listed.split(|b| *b == b'\n').filter_map(applet) {
        if !tree.exists(name) {
            tree.symlink(name, "/bin/busybox")?;
        }
        count += 1;
    }
    if count == 0 || !tree.exists("sbin/init") || !tree.exists("bin/sh") {
        return Err(
            Error::unsupported("This busybox has no init or no shell").hint("install the package \"busybox-static\"")
        );
    }
    Ok(())
}

/// A name of the form `sbin/init`, in one of the four usual folders.
fn applet(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?;
    let (dir, name) = line.rsplit_once('/')?;
    let usual = matches!(dir, "bin" | "sbin" | "usr/bin" | "usr/sbin");
    (usual && is_bare_name(name.as_bytes())).then_some(line)
}

fn read_binary(path: &std::path::Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut data = Vec::new();
    let file = std::fs::File::open(path).with_context(|| format!("Failed opening \"{}\"", path.display()))?;
    file.take(BINARY_MAX).read_to_end(&mut data).context("Failed reading busybox")?;
    match is_static(&data) {
        true => Ok(data),
        false => Err(Error::unsupported(format!("\"{}\" is not a static program", path.display()))
            .hint("install the package \"busybox-static\"")),
    }
}

/// A 64- or 32-bit ELF file without a program interpreter (elf(5): no `PT_INTERP` header), byte order of this machine.
fn is_static(elf: &[u8]) -> bool {
    let number = |at: usize, len: usize| -> Option<usize> {
        let mut wide = [0; 8];
        let bytes = elf.get(at..at.checked_add(len)?)?;
        if cfg!(target_endian = "little") {
            wide[..len].copy_from_slice(bytes)
        } else {
            wide[8 - len..].copy_from_slice(bytes)
        }
        usize::try_from(u64::from_ne_bytes(wide)).ok()
    };
    let headers = || -> Option<bool> {
        let wide = match (elf.get(..4)?, elf.get(4)?) {
            (b"\x7fELF", 2) => true,
            (b"\x7fELF", 1) => false,
            _ => return None,
        };
        let (start, size, count) = match wide {
            true => (number(32, 8)?, number(54, 2)?, number(56, 2)?),
            false => (number(28, 4)?, number(42, 2)?, number(44, 2)?),
        };
        for i in 0..count {
            if number(start.checked_add(i.checked_mul(size)?)?, 4)? == 3 {
                return None;
            }
        }
        Some(count > 0)
    };
    headers().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applets_stay_in_their_folders() {
        assert_eq!(applet(b"usr/bin/["), Some("usr/bin/["));
        for bad in ["sh", "/bin/sh", "../bin/sh", "bin/", "bin/..", "etc/passwd", "bin/a/b", ""] {
            assert_eq!(applet(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn static_or_not() {
        assert!(!is_static(b""));
        assert!(!is_static(b"#!/bin/sh\n"));
        assert!(!is_static(&[0x7f, b'E', b'L', b'F', 2, 1]));
        // This test program, as any Rust program of the usual target, has an interpreter.
        let own = std::fs::read("/proc/self/exe").expect("read");
        assert_eq!(is_static(&own), cfg!(target_feature = "crt-static"));
    }
}
