//! What can be wrong around us: folders, disks, records, programs. Mounts are made in a mount namespace of the test's own
//! thread, which the commands it starts inherit.

use super::common_root::{self, Out, State, have, skip};
use super::{ends_clean, prepared, unaffected};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

const NONE: Option<&str> = None;

/// From here on this thread's mounts are its own.
fn private_mounts() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
}

fn says(out: &Out, words: &str) {
    out.clean_failure().unwrap();
    assert!(out.stderr.contains(words), "{out}\nwanted: {words}");
}

#[test]
fn read_only_state_folder() {
    let Some(state) = prepared("read_only_state_folder") else { return };
    private_mounts();
    let dir = state.path("state");
    mount(Some(&dir), &dir, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).unwrap();
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(NONE, &dir, NONE, flags, NONE).unwrap();
    for line in
        ["create img c1", "start stopped", "delete -f stopped", "rename stopped x", "config set stopped user.x=1"]
    {
        says(&state.run(&line.split(' ').collect::<Vec<_>>()), "read-only");
    }
    assert_eq!(state.instances().unwrap().len(), 2, "reading works");
    state.good(&["config", "show", "stopped"]);
    umount2(&dir, MntFlags::MNT_DETACH).unwrap();
    unaffected(&state);
    ends_clean(&state);
}

/// Fills the file system that `dir` is on.
fn fill(dir: &Path) {
    let path = dir.join("fill");
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        let block = vec![1u8; size];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }
}

#[test]
fn full_disk() {
    const NAME: &str = "full_disk";
    if !common_root::can_run(NAME) {
        return;
    }
    let state = State::bare(&common_root::binary());
    common_root::make_images(&state.dir);
    private_mounts();
    for (name, size) in [("state", "16m"), ("run", "4m"), ("log", "4m")] {
        let at = state.path(name);
        std::fs::create_dir(&at).unwrap();
        std::fs::set_permissions(&at, Permissions::from_mode(0o711)).unwrap();
        let options = format!("size={size},mode=0711");
        mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
    }
    let dir = state.path("state");
    state.preseed();
    state.good(&["image", "import", "image.tar", "--alias", "img"]);
    state.good(&["create", "img", "stopped"]);
    state.good(&["launch", "img", "runs"]);
    fill(&dir);
    // A second image and a new instance do not fit; what changes nothing on disk works.
    says(&state.run(&["image", "import", "meta.tar", "rootfs.tar"]), "No space left on device");
    says(&state.run(&["create", "img", "c1"]), "No space left on device");
    says(&state.run(&["run", "--keep", "--name", "c2", "img", "--", "true"]), "No space left on device");
    says(&state.run(&["rename", "stopped", "c3"]), "No space left on device");
    says(&state.run(&["config", "set", "stopped", "user.x=1"]), "No space left on device");
    state.good(&["exec", "runs", "--", "true"]);
    assert_eq!(state.instances().unwrap().len(), 2);
    std::fs::remove_file(dir.join("fill")).unwrap();
    unaffected(&state);
    state.good(&["rename", "stopped", "c3"]);
    state.good(&["rename", "c3", "stopped"]);
    // Deleting works on a full disk: it is how one makes room.
    fill(&dir);
    state.good(&["delete", "stopped"]);
    state.good(&["delete", "-f", "runs"]);
    std::fs::remove_file(dir.join("fill")).unwrap();
    ends_clean(&state);
}

/// The static binary cannot make backtraces, and an environment that asks for them changes nothing.
#[test]
fn backtraces_that_are_asked_for() {
    let Some(state) = prepared("backtraces_that_are_asked_for") else { return };
    for name in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        let mut command = state.command(&["info", "nope"]);
        command.env(name, "full");
        let out = common_root::run(command, None, common_root::PATIENCE);
        says(&out, "Instance not found");
        assert_eq!(out.stderr.lines().count(), 1, "{out}");
    }
    unaffected(&state);
}

#[test]
fn a_broken_record_stops_nobody_else() {
    let Some(state) = prepared("a_broken_record_stops_nobody_else") else { return };
    state.good(&["create", "img", "c1"]);
    let record = state.layout().instance_record(&Default::default(), &"c1".parse_name());
    let good = std::fs::read_to_string(&record).unwrap();
    for bad in
        ["", "format = 1\n", "\0\0\0", &good.replace("format = 1", "format = 99"), &format!("{good}\nnosuch = 1\n")]
    {
        std::fs::write(&record, bad).unwrap();
        let listed = state.instances().unwrap();
        assert!(listed.contains(&("c1".into(), "ERROR".into())), "{bad:?}: {listed:?}");
        says(&state.run(&["start", "c1"]), "instance.toml");
        says(&state.run(&["config", "set", "c1", "user.x=1"]), "instance.toml");
        assert!(state.doctor().unwrap_err().contains("c1"), "doctor names it");
        state.good(&["exec", "runs", "--", "true"]);
        state.good(&["start", "stopped"]);
        state.good(&["stop", "-f", "stopped"]);
    }
    std::fs::write(&record, &good).unwrap();
    state.good(&["start", "c1"]);
    state.good(&["stop", "-f", "c1"]);
    std::fs::write(&record, "garbage").unwrap();
    state.good(&["delete", "c1"]);
    unaffected(&state);
    ends_clean(&state);
}

/// A short way to a typed name.
trait ParseName {
    fn parse_name(&self) -> stapes::base::names::InstanceName;
}

impl ParseName for str {
    fn parse_name(&self) -> stapes::base::names::InstanceName {
        stapes::base::names::InstanceName::parse(self).unwrap()
    }
}

#[test]
fn a_missing_program_is_named() {
    const NAME: &str = "a_missing_program_is_named";
    let Some(state) = prepared(NAME) else { return };
    if !have("mmdebstrap") && !have("debootstrap") {
        return skip(NAME, "neither mmdebstrap nor debootstrap is there to be hidden");
    }
    private_mounts();
    // A folder in place of the program.
    let empty = state.path("no-program");
    std::fs::write(&empty, "").unwrap();
    for name in ["mmdebstrap", "debootstrap", "busybox"] {
        for dir in ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"] {
            let path = Path::new(dir).join(name);
            if path.exists() {
                mount(Some(&empty), &path, NONE, MsFlags::MS_BIND, NONE).unwrap();
            }
        }
    }
    says(&state.run(&["launch", "bootstrap:debian/12", "c1"]), "is missing");
    says(&state.run(&["launch", "bootstrap:busybox", "c1"]), "The program \"busybox\" is missing");
    state.good(&["start", "stopped"]);
    state.good(&["stop", "-f", "stopped"]);
    unaffected(&state);
    ends_clean(&state);
}

#[test]
fn somebody_elses_folder_is_refused() {
    let Some(state) = prepared("somebody_elses_folder_is_refused") else { return };
    let refuse = |what: &str, words: &str| {
        for line in ["list", "create img c1", "delete stopped", "exec runs -- true", "doctor"] {
            let out = state.run(&line.split(' ').collect::<Vec<_>>());
            match line {
                // It goes on to the other checks.
                "doctor" => assert!(out.code() == Some(1) && out.stdout.contains(words), "{what}: {out}"),
                _ => says(&out, words),
            }
        }
    };
    for (folder, name) in [("state", "State folder"), ("run", "Run folder")] {
        let dir = state.path(folder);
        let (uid, mode) = (dir.metadata().unwrap().uid(), dir.metadata().unwrap().permissions());
        chown(&dir, Some(65534), None).unwrap();
        refuse(name, "belongs to user id 65534");
        chown(&dir, Some(uid), None).unwrap();
        for bits in [0o730, 0o703] {
            std::fs::set_permissions(&dir, Permissions::from_mode(bits)).unwrap();
            refuse(name, "can be written by others");
        }
        std::fs::set_permissions(&dir, mode).unwrap();
        let aside = state.path("aside");
        std::fs::rename(&dir, &aside).unwrap();
        symlink(&aside, &dir).unwrap();
        refuse(name, "is a symbolic link");
        std::fs::remove_file(&dir).unwrap();
        std::fs::rename(&aside, &dir).unwrap();
        unaffected(&state);
    }
    ends_clean(&state);
}

/// The user's proxy counts for what is downloaded on their behalf, and one that is not there is named.
#[test]
fn proxy_reaches_the_tools() {
    const NAME: &str = "proxy_reaches_the_tools";
    if !have("mmdebstrap") {
        return skip(NAME, "no mmdebstrap");
    }
    let Some(state) = prepared(NAME) else { return };
    let mut build =
        state.command(&["image", "build", "bootstrap:debian/12", "--mirror", "http://mirror.invalid/debian"]);
    build.env("http_proxy", "http://127.0.0.1:1");
    let out = common_root::run(build, None, common_root::PATIENCE);
    says(&out, "mmdebstrap");
    assert!(out.stderr.contains("127.0.0.1"), "{out}");
    unaffected(&state);
    ends_clean(&state);
}

/// What a tool that builds an image mounts and starts ends with it, however it ends, and however we do.
#[test]
fn a_killed_image_build_leaves_neither_mounts_nor_processes() {
    const NAME: &str = "a_killed_image_build_leaves_neither_mounts_nor_processes";
    let Some(state) = prepared(NAME) else { return };
    if !Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists() {
        return skip(NAME, "no keys of Debian's archive");
    }
    if !have("mmdebstrap") {
        return skip(NAME, "no mmdebstrap");
    }
    private_mounts();
    let (tool, real) = (state.path("mmdebstrap"), "/usr/bin/mmdebstrap");
    std::fs::write(&tool, "").unwrap();
    std::fs::set_permissions(&tool, Permissions::from_mode(0o755)).unwrap();
    mount(Some(&tool), real, NONE, MsFlags::MS_BIND, NONE).unwrap();
    let build = |end: &str| {
        let script = format!(
            "#!/bin/sh\nfor target; do :; done\nmkdir -p $target/proc $TMPDIR/x\nmount -t proc proc $target/proc\n\
             (trap '' HUP TERM; : > $target/log; exec tail -f $target/log) &\n{end}\n"
        );
        std::fs::write(&tool, script).unwrap();
        state.command(&["image", "build", "bootstrap:debian/12"])
    };
    let failed = common_root::run(build("echo 'E: no luck' >&2; exit 3"), None, common_root::PATIENCE);
    says(&failed, "no luck");
    let mut child = build("wait").stdout(std::process::Stdio::null()).spawn().unwrap();
    common_root::leftovers::wait_for_process(&state, "tail -f");
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    unaffected(&state);
    ends_clean(&state);
}
