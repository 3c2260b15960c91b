//! Files and folders into and out of instances, running and stopped, and nothing of the host by that way.
#![allow(clippy::disallowed_methods, reason = "tests start programs and read files")]

mod common_root;
#[path = "root_images/support.rs"]
mod support;

use common_root::can_run as root;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use support::{State, one_error, program};

/// A state with a running busybox container `c1`.
fn with_container(name: &str, options: &[&str]) -> Option<State> {
    if !root(name) || !program(name, "busybox") {
        return None;
    }
    let state = State::new();
    state.good(&[&["launch", "bootstrap:busybox", "c1"], options].concat());
    Some(state)
}

/// What `sh` in the running instance prints.
#[track_caller]
fn inside(state: &State, script: &str) -> String {
    state.good(&["exec", "c1", "--", "sh", "-c", script])
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("file").permissions().mode() & 0o7777
}

/// Everything that push and pull promise, the same for a running and a stopped instance.
fn to_and_fro(state: &State) {
    let file = state.file("a.txt", b"hello\n");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).expect("chmod");
    std::os::unix::fs::chown(&file, Some(1000), Some(1001)).expect("chown");
    state.good(&["file", "push", "a.txt", "c1/root/"]);
    state.good(&["file", "push", "a.txt", "c1/root/b", "--uid", "7", "--gid", "8", "--mode", "4755"]);
    state.good(&["file", "push", "a.txt", "local:c1/new/deep/c", "-p", "--uid", "5", "--gid", "6"]);
    let stdin = state.run_with_input(&["file", "push", "-", "c1/root/from-stdin"], b"piped");
    assert_eq!((stdin.code, stdin.err.as_str()), (0, ""), "{stdin:?}");
    // Back again: content and mode; the owner is who pulls.
    state.good(&["file", "pull", "c1/root/a.txt", "back"]);
    let back = state.path().join("back");
    assert_eq!((std::fs::read(&back).expect("file"), mode(&back)), (b"hello\n".to_vec(), 0o640));
    assert_eq!(std::fs::metadata(&back).expect("file").uid(), 0);
    state.good(&["file", "pull", "c1/root/a.txt", "c1/root/from-stdin", "some/new/folder/"]);
    assert_eq!(std::fs::read(state.path().join("some/new/folder/from-stdin")).expect("file"), b"piped");
    assert_eq!(mode(&state.path().join("some/new/folder/from-stdin")), 0o644);
    state.good(&["file", "pull", "-p", "c1/root/b", "other/new/b"]);
    assert_eq!(mode(&state.path().join("other/new/b")), 0o755, "no set-id bit comes out");
    assert_eq!(state.good(&["file", "pull", "c1/new/deep/c", "-"]), "hello\n");
    // Over an existing file: the same inode with what was asked for.
    state.good(&["file", "push", "a.txt", "c1/root/from-stdin", "--uid", "0", "--gid", "0", "--mode", "600"]);
    assert_eq!(state.good(&["file", "pull", "c1/root/from-stdin", "-"]), "hello\n");
    // Large, and of any bytes.
    let big: Vec<u8> = (0..20_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    state.file("big", &big);
    state.good(&["file", "push", "big", "c1/root/big"]);
    assert!(state.run(&["file", "pull", "c1/root/big", "-"]).bytes == big);
    // A name need be no text, here and there.
    let name = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_os_string();
    let file = |words: &[std::ffi::OsString]| state.command(&["file"]).args(words).output().expect("the program runs");
    std::fs::write(state.path().join(name(b"n\xff")), "odd").expect("write");
    assert!(file(&["push".into(), name(b"n\xff"), name(b"c1/root/m\xfe")]).status.success());
    assert!(file(&["pull".into(), name(b"c1/root/m\xfe"), name(b"o\xfd")]).status.success());
    assert_eq!(std::fs::read(state.path().join(name(b"o\xfd"))).expect("file"), b"odd");
    assert!(file(&["delete".into(), name(b"c1/root/m\xfe")]).status.success());
    // The rest of the verbs.
    state.good(&["file", "create", "c1/root/made/"]);
    state.good(&["file", "create", "c1/root/made/empty", "--mode", "0600"]);
    state.good(&["file", "create", "-t", "symlink", "c1/root/made/link", "../a.txt"]);
    assert_eq!(state.good(&["file", "pull", "c1/root/made/link", "-"]), "hello\n");
    state.good(&["file", "pull", "-P", "c1/root/made/link", "link"]);
    assert_eq!(std::fs::read_link(state.path().join("link")).expect("link"), Path::new("../a.txt"));
    state.good(&["file", "push", "-P", "link", "c1/root/made/pushed"]);
    let edit = state.run_with_input(&["file", "edit", "c1/root/a.txt"], b"edited\n");
    assert_eq!((edit.code, state.good(&["file", "pull", "c1/root/made/pushed", "-"]).as_str()), (0, "edited\n"));
    assert!(state.bad(&["file", "delete", "c1/root/made"]).ends_with("Directory not empty"));
    state.good(&["file", "delete", "c1/root/made/link", "c1/root/made/empty"]);
    state.good(&["file", "delete", "-f", "c1/root/made", "c1/root/not-there"]);
    std::fs::remove_file(state.path().join("link")).expect("remove");
}

/// What [`to_and_fro`] left, as the instance sees it.
fn seen_inside(state: &State) {
    let list = inside(
        state,
        "cd /root; stat -c '%n %u %g %a' a.txt b from-stdin /new /new/deep /new/deep/c; ls -d made 2>&1; true",
    );
    let lines: Vec<&str> = list.lines().collect();
    let expected = [
        "a.txt 1000 1001 640",
        "b 7 8 4755",
        "from-stdin 0 0 600",
        "/new 5 6 755",
        "/new/deep 5 6 755",
        "/new/deep/c 5 6 640",
    ];
    assert_eq!(lines[..6], expected, "{list}");
    assert!(lines[6].contains("No such file"), "{list}");
}

#[test]
fn push_and_pull_running_then_stopped() {
    let Some(state) = with_container("push_and_pull_running_then_stopped", &[]) else { return };
    to_and_fro(&state);
    seen_inside(&state);
    inside(&state, "rm -r /new /root/*");
    state.good(&["stop", "-f", "c1"]);
    to_and_fro(&state);
    state.assert_clean();
    state.good(&["start", "c1"]);
    seen_inside(&state);
    state.good(&["pause", "c1"]);
    assert_eq!(state.good(&["file", "pull", "c1/root/a.txt", "-"]), "edited\n", "a frozen one has files too");
    state.good(&["resume", "c1"]);
    state.good(&["delete", "-f", "c1"]);
    state.assert_clean();
}

#[test]
fn push_and_pull_privileged() {
    let Some(state) = with_container("push_and_pull_privileged", &["-c", "security.privileged=true"]) else { return };
    to_and_fro(&state);
    seen_inside(&state);
    state.good(&["stop", "-f", "c1"]);
    inside_is_refused(&state);
    inside_files_of_a_stopped_one(&state);
}

fn inside_is_refused(state: &State) {
    assert_eq!(state.bad(&["exec", "c1", "true"]), "Instance is not running");
}

fn inside_files_of_a_stopped_one(state: &State) {
    assert_eq!(state.good(&["file", "pull", "c1/root/a.txt", "-"]), "edited\n");
    state.good(&["delete", "c1"]);
    state.assert_clean();
}

#[test]
fn what_cannot_be_is_said() {
    let Some(state) = with_container("what_cannot_be_is_said", &[]) else { return };
    state.file("a.txt", b"a");
    inside(&state, "mkfifo /fifo; mkdir /root/dir");
    std::fs::create_dir(state.path().join("dir")).expect("mkdir");
    let check = |state: &State| {
        for (words, error) in [
            (&["pull", "c1/nope", "-"][..], "Failed pulling \"/nope\": Not found"),
            (&["pull", "c1/etc", "-"], "--recursive/-r is required when pulling directories"),
            (&["pull", "-r", "c1/etc", "-"], "A folder cannot go to standard output"),
            (&["pull", "-r", "c1/etc", "a.txt"], "More than one file to download, but target is not a directory"),
            (&["pull", "c1/etc/passwd/", "x"], "/etc/passwd is not a directory"),
            (
                &["pull", "c1/etc/passwd", "c1/etc/group", "a.txt"],
                "More than one file to download, but target is not a directory",
            ),
            (
                &["pull", "-P", "c1/etc/passwd", "-"],
                "--no-dereference/-P cannot be used together with stdout as a target",
            ),
            (
                &["pull", "-P", "-L", "c1/etc/passwd", "x"],
                "--no-dereference/-P, --follow/-H, and --dereference/-L are mutually exclusive",
            ),
            (&["pull", "c1/fifo", "-"], "Failed pulling \"/fifo\": Not a file, folder or symbolic link"),
            (&["pull", "nope/etc/passwd", "-"], "Instance not found"),
            (&["push", "a.txt", "c1/nope/x"], "Failed pushing \"/nope/x\": Not found"),
            (&["push", "a.txt", "dir", "c1/root/nope"], "Missing target directory"),
            (&["push", "dir", "c1/root/"], "--recursive/-r is required when pushing directories"),
            (&["push", "-r", "dir", "c1/root/nope"], "Missing target directory"),
            (&["push", "-r", "dir", "c1/etc/passwd"], "/etc/passwd is not a directory"),
            (&["push", "a.txt", "c1/etc/passwd/"], "/etc/passwd is not a directory"),
            (
                &["push", "-", "c1/root/dir"],
                "A target file name must be specified when pushing from stdin; the target is a directory",
            ),
            (&["push", "-", "a.txt", "c1/root/dir"], "stdin can only be used once, with no other source arguments"),
            (&["push", "nope", "c1/root/x"], "Failed to open source file \"nope\": No such file or directory"),
            (&["push", "a.txt", "c1"], "Invalid path \"c1\", expecting [<remote>:]<instance>/<path>"),
            (&["push", "a.txt", "c1/root/x", "--mode", "9"], "Invalid file mode \"9\""),
            (&["push", "a.txt", "nope/x"], "Instance not found"),
            (&["create", "-t", "thing", "c1/x"], "Invalid type \"thing\""),
            (&["create", "c1/x", "y"], "Symlink target path can only be used for type \"symlink\""),
            (&["delete", "c1/nope"], "Failed deleting \"/nope\": Not found"),
            (&["delete", "-f", "c1/"], "Failed deleting \"/\": Bad path \"/\""),
        ] {
            let words = [&["file"], words].concat();
            assert_eq!(one_error(&state.run(&words), &words), error, "{words:?}");
        }
        let fifo = state.bad(&["file", "push", "a.txt", "c1/fifo"]);
        assert!(fifo.contains("Not a regular file"), "{fifo}");
    };
    check(&state);
    // An id outside the map.
    let error = state.bad(&["file", "push", "a.txt", "c1/root/x", "--uid", "4000000000"]);
    assert!(error.ends_with("UID 4000000000 is not mapped in the instance"), "{error}");
    assert!(inside(&state, "ls /root").trim() == "dir", "nothing half made");
    state.good(&["stop", "-f", "c1"]);
    check(&state);
    state.assert_clean();
}

/// A folder of the host with all sorts of things in it.
fn tree(state: &State) {
    let at = |name: &str| state.path().join("site").join(name);
    std::fs::create_dir_all(at("sub/deep")).expect("folders");
    std::fs::create_dir(at("empty")).expect("folder");
    for (name, text) in [("a", "a"), ("sub/b", "b"), ("sub/deep/c", "c")] {
        std::fs::write(at(name), text).expect("file");
    }
    std::os::unix::fs::symlink("sub/b", at("link")).expect("link");
    std::os::unix::fs::symlink("sub", at("to-sub")).expect("link");
    std::fs::set_permissions(at("sub"), PermissionsExt::from_mode(0o750)).expect("chmod");
    std::fs::set_permissions(at("a"), PermissionsExt::from_mode(0o604)).expect("chmod");
    std::os::unix::fs::chown(at("sub/b"), Some(1000), Some(1001)).expect("chown");
}

/// Names below a folder, with mode and what they hold.
fn listed(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry")) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let kind = entry.file_type().expect("kind");
        if kind.is_symlink() {
            all.push(format!("{name} -> {}", std::fs::read_link(&path).expect("link").display()));
        } else if kind.is_dir() {
            all.push(format!("{name}/ {:o}", mode(&path)));
            all.extend(listed(&path).into_iter().map(|line| format!("{name}/{line}")));
        } else {
            all.push(format!("{name} {:o} {}", mode(&path), std::fs::read_to_string(&path).expect("text")));
        }
    }
    all.sort();
    all
}

#[test]
fn whole_folders_go_in_and_come_out() {
    let Some(state) = with_container("whole_folders_go_in_and_come_out", &[]) else { return };
    tree(&state);
    let site = state.path().join("site");
    let check = |state: &State, to: &str| {
        state.good(&["file", "push", "-rp", "site", &format!("c1/srv/{to}")]);
        // By the name of the folder, below what was named.
        let back = state.path().join(to);
        state.good(&["file", "pull", "-r", &format!("c1/srv/{to}/site"), &format!("{to}/")]);
        assert_eq!(listed(&back.join("site")), listed(&site));
        // Again over what is there, from within, one thing more.
        std::fs::write(site.join("sub/new"), to).expect("file");
        state.good(&["file", "push", "-r", "site/.", &format!("c1/srv/{to}/site")]);
        state.good(&["file", "pull", "-r", &format!("c1/srv/{to}/site"), to]);
        assert_eq!(listed(&back.join("site")), listed(&site));
        // Links as what they lead to.
        state.good(&["file", "pull", "-rL", &format!("c1/srv/{to}/site"), &format!("{to}-followed")]);
        let followed = listed(&state.path().join(format!("{to}-followed/site")));
        assert!(followed.contains(&"link 644 b".to_string()), "{followed:?}");
        assert!(followed.contains(&"to-sub/deep/c 644 c".to_string()), "{followed:?}");
    };
    check(&state, "one");
    let seen = inside(&state, "cd /srv/one/site; stat -c '%n %u %g %a' a sub sub/b");
    assert_eq!(seen, "a 0 0 604\nsub 0 0 750\nsub/b 1000 1001 644\n");
    state.good(&["file", "push", "-r", "site", "c1/root/", "--uid", "5", "--gid", "6", "--mode", "700"]);
    let seen = inside(&state, "cd /root/site; stat -c '%n %u %g %a' . a sub/b");
    assert_eq!(seen, ". 5 6 700\na 5 6 604\nsub/b 5 6 644\n");
    state.good(&["stop", "-f", "c1"]);
    check(&state, "two");
    state.assert_clean();
}

/// What cannot go is told, and the rest goes.
#[test]
fn a_folder_goes_on_past_errors() {
    let Some(state) = with_container("a_folder_goes_on_past_errors", &[]) else { return };
    tree(&state);
    let fifo = state.path().join("site/fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    let error = state.bad(&["file", "push", "-r", "site", "c1/root/"]);
    assert!(error.contains("fifo\" isn't a supported file type"), "{error}");
    assert_eq!(inside(&state, "cat /root/site/sub/deep/c"), "c");
    inside(&state, "mkfifo /root/site/sub/pipe; ln -s . /root/site/loop");
    let error = state.bad(&["file", "pull", "-r", "c1/root/site", "out"]);
    assert!(error.contains("Failed pulling \"/root/site/sub/pipe\": Not a file, folder or symbolic link"), "{error}");
    assert_eq!(std::fs::read_to_string(state.path().join("out/site/sub/deep/c")).expect("file"), "c");
    let error = state.bad(&["file", "pull", "-rL", "c1/root/site", "endless"]);
    assert!(error.contains("Too many"), "{error}");
    state.assert_clean();
}

/// What was a link at the first pull and is a folder at the second leads nowhere on the host, nor does a link of the user's.
#[test]
fn a_pulled_link_leads_no_later_pull_elsewhere() {
    let Some(state) = with_container("a_pulled_link_leads_no_later_pull_elsewhere", &[]) else { return };
    let victim = state.path().join("victim");
    std::fs::create_dir(&victim).expect("folder");
    std::fs::write(victim.join("passwd"), "host").expect("file");
    let shown = victim.to_str().expect("UTF-8");
    inside(&state, &format!("mkdir -p /data; ln -s {shown} /data/x; ln -s {shown}/passwd /data/y"));
    state.good(&["file", "pull", "-r", "c1/data", "out"]);
    assert!(state.path().join("out/data/x").is_symlink());
    inside(&state, "rm /data/x /data/y; mkdir /data/x; echo evil >/data/x/passwd; echo evil >/data/y");
    let said = state.run(&["file", "pull", "-r", "c1/data", "out"]);
    assert!(said.code == 1 && said.err.contains("/data/x") && said.err.contains("/data/y"), "{said:?}");
    assert_eq!(std::fs::read_to_string(victim.join("passwd")).expect("file"), "host");
    state.assert_clean();
}

/// Rows CVE-2018-15664, CVE-2019-10152, CVE-2021-41089: links are the instance's, whatever they say.
#[test]
fn cve_2018_15664_links_lead_nowhere_outside() {
    let Some(state) = with_container("cve_2018_15664_links_lead_nowhere_outside", &[]) else { return };
    let canary = state.file("canary", b"host");
    std::fs::set_permissions(&canary, PermissionsExt::from_mode(0o600)).expect("chmod");
    let host = state.path().to_str().expect("UTF-8").to_string();
    inside(
        &state,
        &format!(
            "mkdir -p {host}; echo inside >{host}/canary; ln -s {host} /dir; ln -s {host}/canary /file; \
             ln -s ../../../../../../..{host} /up; ln -s /proc/self/root/{host}/canary /magic; ln -s /etc/hosts2 /dangling"
        ),
    );
    let check = |state: &State| {
        for path in ["c1/dir/canary", "c1/file", "c1/up/canary", &format!("c1/../../../..{host}/canary")] {
            assert_eq!(state.good(&["file", "pull", path, "-"]), "inside\n", "{path}");
            let said = state.run_with_input(&["file", "push", "-", path, "--mode", "777"], b"inside\n");
            assert_eq!(said.code, 0, "{path}: {said:?}");
        }
        for path in ["c1/magic", "c1/proc/self/root/etc/passwd", "c1/proc/1/root/etc/passwd"] {
            let said = state.run(&["file", "pull", path, "-"]);
            assert!(said.code == 1 || !said.out.contains("host"), "{path}: {said:?}");
        }
        let said = state.run_with_input(&["file", "push", "-", "c1/dangling"], b"x");
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(state.good(&["file", "pull", "c1/etc/hosts2", "-"]), "x");
        state.good(&["file", "delete", "c1/etc/hosts2"]);
        assert!(!Path::new("/etc/hosts2").exists());
        assert_eq!((std::fs::read(&canary).expect("canary"), mode(&canary)), (b"host".to_vec(), 0o600));
    };
    check(&state);
    // A link goes itself, not what it leads to.
    state.good(&["file", "create", "-t", "symlink", "c1/rm", &host]);
    state.good(&["file", "delete", "-f", "c1/rm"]);
    assert_eq!(inside(&state, &format!("cat {host}/canary")), "inside\n");
    state.good(&["stop", "-f", "c1"]);
    check(&state);
    state.assert_clean();
}

/// The same rows, with the instance changing the path all the time.
#[test]
fn cve_2018_15664_race() {
    let Some(state) = with_container("cve_2018_15664_race", &[]) else { return };
    let canary = state.file("canary", b"host");
    let host = state.path().to_str().expect("UTF-8").to_string();
    let script = format!(
        "mkdir -p /a /w/real; echo inside >/w/real/canary; ln -s {host} /w/link; \
         (while :; do ln -sfn /w/link /a/d; ln -sfn /w/real /a/d; rm /a/d; mkdir /a/d; echo inside >/a/d/canary; rm -r /a/d; done) \
         >/dev/null 2>&1 &"
    );
    let child = state.command(&["exec", "c1", "--", "sh", "-c", &format!("{script} wait")]).spawn().expect("exec");
    let mut found = 0;
    for _ in 0..150 {
        let pulled = state.run(&["file", "pull", "c1/a/d/canary", "-"]);
        assert!(matches!(pulled.out.as_str(), "" | "inside\n"), "{pulled:?}");
        found += usize::from(!pulled.out.is_empty());
        let pushed = state.run_with_input(&["file", "push", "-", "c1/a/d/canary", "--mode", "777"], b"inside\n");
        assert!(pushed.code == 0 || pushed.err.starts_with("Error: "), "{pushed:?}");
        assert_eq!(std::fs::read(&canary).expect("canary"), b"host");
    }
    println!("{found} of 150 pulls found the file");
    state.good(&["delete", "-f", "c1"]);
    let mut child = child;
    child.wait().expect("exec ends");
    assert_ne!(mode(&canary), 0o777);
    state.assert_clean();
}
