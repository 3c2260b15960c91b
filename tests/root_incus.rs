//! Beside a real Incus: what is exported here is imported there, and what is exported there is imported here. Its daemon runs in
//! namespaces of the test's own and starts no instance; skipped where it is not installed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;
#[path = "root_lifecycle/support.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use common_root::{PATIENCE, State, run, skip};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::{Ask, kill, lives, state, until};

const DAEMON: &str = "/usr/libexec/incus/incusd";
const PRESEED: &str = "storage_pools: [{name: default, driver: dir}]
profiles: [{name: default, devices: {root: {type: disk, path: /, pool: default}}}]
";

/// A daemon with a folder beside the state.
struct Incus<'a> {
    state: &'a State,
    daemon: Child,
}

impl<'a> Incus<'a> {
    /// None: there is none here.
    fn start(test: &str, state: &'a State) -> Option<Self> {
        if !Path::new(DAEMON).exists() || !common_root::have("incus") {
            skip(test, "no incus (package incus-base of Debian's backports)");
            return None;
        }
        for folder in ["incus", "incus-conf"] {
            std::fs::create_dir(state.path(folder)).unwrap();
        }
        // Its mounts and helpers end with it.
        let mut daemon = Command::new("unshare");
        daemon.args(["-m", "--propagation", "private", "-p", "--fork", "--kill-child", "--mount-proc"]);
        daemon.args([DAEMON, "--group", "root", "--logfile"]);
        daemon.arg(state.path("incus.log")).env("INCUS_DIR", state.path("incus"));
        let log = std::fs::File::create(state.path("incus.out")).unwrap();
        let daemon = daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let new = Self { state, daemon };
        new.good(&["admin", "waitready", "--timeout", "60"], None);
        new.good(&["admin", "init", "--preseed"], Some(PRESEED));
        Some(new)
    }

    #[track_caller]
    fn good(&self, words: &[&str], input: Option<&str>) -> String {
        let mut command = Command::new("incus");
        command.args(words).current_dir(&self.state.dir).env_clear().env("HOME", "/root");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("INCUS_DIR", self.state.path("incus"));
        command.env("INCUS_CONF", self.state.path("incus-conf"));
        let out = run(command, Some(input.unwrap_or_default()), PATIENCE);
        let log = || std::fs::read_to_string(self.state.path("incus.out")).unwrap_or_default();
        out.good().unwrap_or_else(|e| panic!("{e}\n{}", log()))
    }
}

impl Drop for Incus<'_> {
    fn drop(&mut self) {
        let children = format!("/proc/{0}/task/{0}/children", self.daemon.id());
        let init = std::fs::read_to_string(children).ok().and_then(|text| text.trim().parse().ok());
        kill(self.daemon.id() as i32, "KILL");
        let _ = self.daemon.wait();
        if let Some(init) = init {
            until("the daemon to be gone", || !lives(init));
        }
    }
}

/// Writes /root/f in an instance that does not run.
fn push(state: &State, instance: &str, text: &str) {
    let command =
        state.command(&["file", "push", "-", &format!("{instance}/root/f"), "--uid", "1000", "--mode", "4750"]);
    run(command, Some(text), PATIENCE).good().unwrap();
}

#[test]
fn backups_go_both_ways() {
    let Some(state) = state("backups_go_both_ways") else { return };
    let Some(incus) = Incus::start("backups_go_both_ways", &state) else { return };
    state.good(&["create", "test", "c1", "-c", "user.x=1", "-c", "security.nesting=true"]);
    push(&state, "c1", "early");
    state.good(&["snapshot", "create", "c1", "s1"]);
    push(&state, "c1", "late, and longer");
    for how in ["gzip", "zstd"] {
        state.good(&["export", "c1", "ours", "-f", "--compression", how]);
        incus.good(&["import", "-q", "ours"], None);
        assert_eq!(incus.good(&["list", "-f", "csv", "-c", "nsS"], None), "c1,STOPPED,1\n");
        assert_eq!(incus.good(&["config", "get", "c1", "security.nesting"], None), "true\n");
        assert_eq!(incus.good(&["file", "pull", "c1/root/f", "-"], None), "late, and longer");
        incus.good(&["snapshot", "restore", "c1", "s1"], None);
        assert_eq!(incus.good(&["file", "pull", "c1/root/f", "-"], None), "early");
        if how == "gzip" {
            incus.good(&["delete", "c1"], None);
        }
    }
    incus.good(&["config", "set", "c1", "user.y=2"], None);
    incus.good(&["snapshot", "create", "c1", "s2"], None);
    incus.good(&["export", "-q", "c1", "theirs"], None);
    state.good(&["import", "theirs", "c2"]);
    assert_eq!(state.good(&["snapshot", "list", "c2", "-f", "csv", "-c", "n"]), "s1\ns2\n");
    assert_eq!(state.good(&["config", "get", "c2", "user.y"]), "2\n");
    state.good(&["start", "c2"]);
    assert_eq!(state.sh("c2", "cat /root/f; stat -c '%u %a' /root/f"), "early1000 4750");
    state.good(&["snapshot", "restore", "c2", "s2"]);
    drop(incus);
    state.finish();
}

/// In the form of btrfs, each with a pool of its own.
#[test]
fn optimized_backups_go_both_ways() {
    let test = "optimized_backups_go_both_ways";
    if !(common_root::have("mkfs.btrfs") && Path::new("/dev/loop-control").exists()) {
        return skip(test, "no mkfs.btrfs (apt-get install btrfs-progs) or no loop devices");
    }
    let Some(state) = state(test) else { return };
    let Some(incus) = Incus::start(test, &state) else { return };
    state.good(&["storage", "create", "fast", "btrfs", "size=512MiB"]);
    incus.good(&["storage", "create", "fast", "btrfs", "size=512MiB"], None);
    state.good(&["create", "test", "c1", "-s", "fast", "-c", "user.x=1"]);
    push(&state, "c1", "early");
    state.good(&["snapshot", "create", "c1", "s1"]);
    push(&state, "c1", "late, and longer");
    state.good(&["export", "c1", "ours", "--optimized-storage"]);
    incus.good(&["import", "-q", "ours"], None);
    assert_eq!(incus.good(&["list", "-f", "csv", "-c", "nsS"], None), "c1,STOPPED,1\n");
    assert_eq!(incus.good(&["config", "get", "c1", "user.x"], None), "1\n");
    assert_eq!(incus.good(&["file", "pull", "c1/root/f", "-"], None), "late, and longer");
    incus.good(&["snapshot", "restore", "c1", "s1"], None);
    assert_eq!(incus.good(&["file", "pull", "c1/root/f", "-"], None), "early");
    incus.good(&["snapshot", "create", "c1", "s2"], None);
    incus.good(&["export", "-q", "c1", "theirs", "--optimized-storage"], None);
    state.good(&["import", "theirs", "c2"]);
    assert_eq!(state.good(&["snapshot", "list", "c2", "-f", "csv", "-c", "n"]), "s1\ns2\n");
    state.good(&["start", "c2"]);
    assert_eq!(state.sh("c2", "cat /root/f; stat -c '%u %a' /root/f"), "early1000 4750");
    state.good(&["snapshot", "restore", "c2", "s2"]);
    // A volume of files and one that is a disk.
    for kind in ["filesystem", "block"] {
        state.good(&["storage", "volume", "create", "fast", "v1", "--type", kind, "size=8MiB"]);
        state.good(&["storage", "volume", "snapshot", "create", "fast", "v1", "s1"]);
        state.good(&["storage", "volume", "export", "fast", "v1", "v", "-f", "--optimized-storage"]);
        incus.good(&["storage", "volume", "import", "-q", "fast", "v"], None);
        incus.good(&["storage", "volume", "snapshot", "restore", "fast", "v1", "s1"], None);
        incus.good(&["storage", "volume", "export", "-q", "fast", "v1", "w", "--optimized-storage"], None);
        state.good(&["storage", "volume", "import", "fast", "w", "v2"]);
        assert_eq!(state.good(&["storage", "volume", "get", "fast", "v2", "size"]), "8MiB\n");
        for name in ["v1", "v2"] {
            state.good(&["storage", "volume", "delete", "fast", name]);
        }
        incus.good(&["storage", "volume", "delete", "fast", "v1"], None);
        std::fs::remove_file(state.path("w")).unwrap();
    }
    incus.good(&["delete", "c1"], None);
    incus.good(&["storage", "delete", "fast"], None);
    drop(incus);
    state.delete_all().unwrap();
    state.good(&["storage", "delete", "fast"]);
    state.finish();
}

#[test]
fn volumes_go_both_ways() {
    let Some(state) = state("volumes_go_both_ways") else { return };
    let Some(incus) = Incus::start("volumes_go_both_ways", &state) else { return };
    let volume = |words: &str| state.good(&format!("storage volume {words}").split(' ').collect::<Vec<_>>());
    let theirs = |words: &str| incus.good(&format!("storage volume {words}").split(' ').collect::<Vec<_>>(), None);
    let disk = |name: &str| state.path(&format!("state/pools/default/data/custom/default_{name}/root.img"));
    let at = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        (bytes.len(), String::from_utf8_lossy(&bytes[3_000_000..3_000_005]).into_owned())
    };
    let write = |text: &[u8]| {
        let file = std::fs::OpenOptions::new().write(true).open(disk("d1")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, text, 3_000_000).unwrap();
    };
    volume("create default d1 --type=block size=4MiB user.x=1");
    write(b"early");
    volume("snapshot create default d1 s1");
    write(b"later");
    volume("export default d1 ours");
    theirs("import default ours -q");
    let listed = theirs("list default type=custom -f csv -c tnc");
    assert_eq!(listed, "custom,d1,block\ncustom (snapshot),d1/s1,block\n");
    assert_eq!(theirs("get default d1 user.x"), "1\n");
    let there = state.path("incus/storage-pools/default/custom/default_d1/root.img");
    // Its daemon has mounts of its own; the folder of a pool is no mount.
    assert_eq!(at(&there), (4 << 20, "later".into()));
    theirs("snapshot restore default d1 s1");
    assert_eq!(at(&there), (4 << 20, "early".into()));
    theirs("set default d1 size=5MiB");
    theirs("export default d1 theirs -q");
    volume("import default theirs d2");
    assert_eq!(at(&disk("d2")), (5 << 20, "early".into()));
    assert_eq!(volume("get default d2 size"), "5MiB\n");
    assert!(std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(disk("d2")).unwrap()) < 1000, "zeros are holes");
    volume("snapshot restore default d2 s1");
    assert_eq!(at(&disk("d2")), (5 << 20, "early".into()));
    for name in ["d1", "d2"] {
        volume(&format!("delete default {name}"));
    }
    drop(incus);
    state.finish();
}

#[test]
fn images_go_both_ways() {
    let Some(state) = state("images_go_both_ways") else { return };
    let Some(incus) = Incus::start("images_go_both_ways", &state) else { return };
    state.good(&["create", "test", "c1"]);
    push(&state, "c1", "mine");
    let forms: [&[&str]; 3] =
        [&["--compression", "gzip"], &["--compression", "zstd"], &["--format", "split", "--compression", "xz"]];
    for (n, form) in forms.into_iter().enumerate() {
        let name = format!("i{n}");
        state.good(&[&["publish", "c1", "--alias", &name], form].concat());
        state.good(&["image", "export", &name, &name]);
        let exported = std::fs::read_dir(&state.dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = exported.filter(|f| f.starts_with(&name)).collect();
        files.sort();
        let words: Vec<&str> = files.iter().map(String::as_str).collect();
        incus.good(&[&["image", "import", "-q", "--alias", &name], &words[..]].concat(), None);
        let fingerprint = |text: String| text.trim().to_string();
        let list = ["image", "list", &name, "-f", "csv", "-c", "F"];
        assert_eq!(fingerprint(incus.good(&list, None)), fingerprint(state.good(&list)), "{files:?}");
        incus.good(&["create", "-q", &name, &name], None);
        assert_eq!(incus.good(&["file", "pull", &format!("{name}/root/f"), "-"], None), "mine");
    }
    incus.good(&["publish", "-q", "i0", "--alias", "theirs", "os=mine"], None);
    incus.good(&["image", "export", "-q", "theirs", "theirs"], None);
    state.good(&["image", "import", "theirs.tar.gz", "--alias", "theirs"]);
    state.good(&["launch", "theirs", "c2"]);
    assert_eq!(state.sh("c2", "cat /root/f; stat -c '%u %a' /root/f"), "mine1000 4750");
    assert_eq!(state.good(&["image", "get-property", "theirs", "os"]), "mine\n");
    drop(incus);
    state.finish();
}
