//! Our own binary, seen from inside (CVE-2019-5736), and the processes of ours that are on their way in (CVE-2016-9962).

use crate::common_root::State;
use crate::support::{Ask, Tree};
use crate::tools::{background, finished, number, probed, probed_with};
use std::process::{Command, Stdio};

/// The shared libraries of a dynamically linked binary under test, so that it can run inside: the attack needs that.
fn libraries(tree: &Tree) {
    let out = Command::new("ldd").arg(crate::common_root::binary()).output();
    let text = out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    for path in text.split_whitespace().filter(|w| w.starts_with('/')) {
        tree.copy(path, path);
    }
}

fn digest(state: &State) -> (u64, Vec<u8>) {
    use sha2::Digest;
    let bytes = std::fs::read(&state.bin).unwrap();
    (bytes.len() as u64, sha2::Sha256::digest(&bytes).to_vec())
}

/// The entry point `#!/proc/self/exe` makes the kernel run the program of the process that enters: ours. Meanwhile a process
/// inside catches every `/proc/PID/exe` that looks like it and writes.
fn self_exe(test: &str, settings: &[&str], must_see: bool) {
    let change = |tree: &Tree| {
        tree.file("evil", "#!/proc/self/exe\n", 0o755);
        libraries(tree);
    };
    let Some(state) = probed_with(test, change) else { return };
    let before = digest(&state);
    let flags: Vec<&str> = settings.iter().flat_map(|s| ["-c", s]).collect();
    state.launch("c1", &flags).good().unwrap();
    let hunt = background(&state, "c1", &format!("probe hunt {} 6", before.0));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while std::time::Instant::now() < end {
        state.run(&["exec", "c1", "--", "/evil", "version"]);
        state.run(&["exec", "c1", "--", "true"]);
        state.run(&["exec", "-t", "c1", "--", "/evil"]);
    }
    let report = finished(hunt);
    assert_eq!(number(&report, "written"), 0, "{report}");
    // The attack was real: the prey was seen.
    assert!(!must_see || number(&report, "seen") > 0, "{report}");
    // As process 1, and as the command of a throwaway instance.
    state.sh("c1", "cp /evil /sbin/init");
    state.run(&["restart", "-f", "c1"]);
    let script = format!("probe hunt {} 1 & /evil version; /evil; wait", before.0);
    let run = state.run(&[&["run", "test"], &flags[..], &["--", "sh", "-c", &script]].concat());
    assert_eq!(number(&run.stdout, "written"), 0, "{run}");
    assert!(digest(&state) == before, "the binary has changed");
    state.finish();
}

/// Row CVE-2019-5736, unprivileged.
#[test]
fn cve_2019_5736_unprivileged() {
    self_exe("cve_2019_5736_unprivileged", &[], true);
}

/// Row CVE-2019-5736, privileged: root inside is root outside.
#[test]
fn cve_2019_5736_privileged() {
    self_exe("cve_2019_5736_privileged", &["security.privileged=true"], true);
}

/// Row CVE-2019-5736, unprivileged by name: root inside is mapped to the binary's owner.
#[test]
fn cve_2019_5736_raw_idmap() {
    self_exe("cve_2019_5736_raw_idmap", &["raw.idmap=both 0 0"], true);
}

/// Row CVE-2016-9962: until its exec, a process on its way in shows root inside nothing of the host: no descriptor, no
/// folder, no environment, no argument, no mount, no socket, no program's name, and it cannot be traced.
#[test]
fn cve_2016_9962_attach_is_opaque() {
    let Some(state) = probed("cve_2016_9962_attach_is_opaque") else { return };
    state.launch("c1", &[]).good().unwrap();
    // In the state's path, thus in descriptors and arguments; in the environment, a mount and a socket of the host's.
    let mark = state.dir.file_name().unwrap().to_string_lossy().into_owned();
    let address = rustix::net::SocketAddrUnix::new_abstract_name(mark.as_bytes()).unwrap();
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &address).unwrap();
    let (name, mount) = (state.path("odd-name"), state.path("mount"));
    std::fs::copy(&state.bin, &name).unwrap();
    std::fs::create_dir(&mount).unwrap();
    let spy = background(&state, "c1", &format!("exec probe spy {mark} odd-name 6"));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
    let mut execs = 0;
    while std::time::Instant::now() < end {
        let script = format!("mount -t tmpfs {mark} {} && exec \"$@\"", mount.display());
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, "sh"]).arg(&name);
        command.args(["--state-dir", state.dir.to_str().unwrap(), "exec", "c1", "--", "true"]);
        command.env("CANARY", &mark).stdin(Stdio::null());
        assert!(command.status().unwrap().success());
        execs += 1;
    }
    let report = finished(spy);
    assert!(number(&report, "leaks") == 0 && number(&report, "traced") == 0, "{report}");
    assert!(number(&report, "seen") > 0, "in {execs} execs the process on its way in was never seen: {report}");
    eprintln!("{execs} execs, the process on its way in was seen {} times", number(&report, "seen"));
    std::fs::remove_file(name).unwrap();
    std::fs::remove_dir(mount).unwrap();
    state.finish();
}

/// Process 1 of `run` is ours for the whole run: nothing of it can be read inside, and where root inside is root outside
/// there is nothing in it.
#[test]
fn the_init_of_run_cannot_be_read() {
    let Some(state) = probed("the_init_of_run_cannot_be_read") else { return };
    let run = |settings: &[&str], script: &str| {
        let words = [&["run", "test"], settings, &["--", "sh", "-c", script]].concat();
        let mut command = state.command(&words);
        command.env("CANARY", "of the host");
        crate::common_root::run(command, None, crate::common_root::PATIENCE).good().unwrap()
    };
    let looked = run(&[], "probe look 1; kill -9 1; kill -STOP 1; echo still here");
    for line in looked.lines().filter(|l| !l.starts_with("still")) {
        let (name, errno) = line.split_once(' ').unwrap();
        assert!(["1", "13"].contains(&errno), "{name}: {errno}");
    }
    assert!(looked.ends_with("still here\n"), "{looked}");
    for settings in [&[][..], &["-c", "security.privileged=true"]] {
        let shown = run(settings, "cat /proc/1/cmdline /proc/1/environ 2>/dev/null | tr '\\0' ' '; echo end");
        assert_eq!(shown.trim(), "end", "{settings:?}");
        let fds = run(settings, "ls -l /proc/1/fd 2>/dev/null | grep -c -- '->'; true");
        assert_eq!(fds.trim(), "0", "{settings:?}");
    }
    state.finish();
}
