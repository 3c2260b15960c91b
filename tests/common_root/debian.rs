//! The images of Debian that tests of systemd containers use: built once from the distribution's packages and kept under
//! `target/test-cache`.

use super::{Out, State, binary, can_run, have, run, skip, with_the_network};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

const BUILD: Duration = Duration::from_secs(900);

/// A state with the image `debian`; none, and said so, if it cannot be had.
pub fn debian(test: &str) -> Option<State> {
    system(test, "debian-12-udev.", &[])
}

/// The same with these packages besides; its files are kept as `name`.
pub fn system(test: &str, name: &str, packages: &[&str]) -> Option<State> {
    static BUILDING: Mutex<()> = Mutex::new(());
    if !can_run(test) {
        return None;
    }
    let state = State::new(&binary());
    let cache = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/test-cache");
    let one_builds = BUILDING.lock().unwrap_or_else(|e| e.into_inner());
    let kept = || {
        let files = std::fs::read_dir(&cache).into_iter().flatten().flatten().map(|e| e.path());
        let mut files: Vec<PathBuf> = files.filter(|p| p.to_string_lossy().contains(name)).collect();
        files.sort();
        files
    };
    if kept().is_empty() {
        if !have("mmdebstrap") && !have("debootstrap") {
            skip(test, "neither mmdebstrap nor debootstrap");
            return None;
        }
        let mut build = state.command(&["image", "build", "bootstrap:debian/12"]);
        build.args(packages.iter().flat_map(|p| ["--package", p]));
        let built = with_the_network(|| run(build, None, BUILD));
        if !built.ok() {
            skip(test, &format!("Debian cannot be built here: {built}"));
            return None;
        }
        let fingerprint = state.images().unwrap().remove(0);
        std::fs::create_dir_all(&cache).unwrap();
        let out = state.path("export");
        std::fs::create_dir(&out).unwrap();
        run(state.command(&["image", "export", &fingerprint, out.to_str().unwrap()]), None, BUILD).good().unwrap();
        for file in std::fs::read_dir(&out).unwrap().flatten() {
            let from = file.file_name().to_string_lossy().into_owned();
            let kind = if from.starts_with("meta-") { "0-meta" } else { "1-rootfs" };
            let ending = from.split_once('.').map_or("", |(_, e)| e);
            std::fs::copy(file.path(), cache.join(format!("{name}{kind}.{ending}"))).unwrap();
        }
        std::fs::remove_dir_all(out).unwrap();
        state.delete_all().unwrap();
    }
    drop(one_builds);
    let files: Vec<String> = kept().into_iter().map(|p| p.to_string_lossy().into_owned()).collect();
    let mut words = vec!["image", "import"];
    words.extend(files.iter().map(String::as_str));
    words.extend(["--alias", "debian"]);
    run(state.command(&words), None, BUILD).good().unwrap();
    Some(state)
}

/// What systemd says of itself in `name` once it is up (`running`, `degraded`, …). Before that there may be nobody to ask,
/// under emulation for long.
#[allow(dead_code, reason = "only some test programs use it")]
pub fn up(state: &State, name: &str) -> Out {
    let end = std::time::Instant::now() + Duration::from_secs(180);
    loop {
        let out = state.run(&["exec", name, "--", "systemctl", "is-system-running", "--wait"]);
        if !out.stderr.contains("connect to bus") || std::time::Instant::now() > end {
            return out;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Puts AppArmor's programs, from this host's package, into the running Debian `name`; false if there is no such package.
#[allow(dead_code, reason = "only some test programs use it")]
pub fn bring_apparmor(state: &State, name: &str) -> bool {
    if !have("dpkg") || !Command::new("dpkg").args(["-L", "apparmor"]).output().unwrap().status.success() {
        return false;
    }
    let pack = "dpkg -L apparmor | tar -C / --no-recursion --files-from - -cf - 2>/dev/null";
    let mut pack = Command::new("sh").args(["-c", pack]).stdout(Stdio::piped()).spawn().unwrap();
    let mut unpack = state.command(&["exec", name, "--", "tar", "-C", "/", "--keep-directory-symlink", "-xf", "-"]);
    let done = unpack.stdin(pack.stdout.take().unwrap()).status().unwrap();
    pack.wait().unwrap();
    done.success()
}
