//! Remotes: real images from a real web server over https, and a server that lies.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

#[path = "root_remotes/aliases.rs"]
mod aliases;
mod common_root;
#[path = "root_remotes/completion.rs"]
mod completion;
#[path = "root_remotes/deltas.rs"]
mod deltas;
mod image_common;
mod image_server;
#[path = "root_remotes/machines.rs"]
mod machines;
#[path = "root_images/support.rs"]
mod support;
#[path = "root_remotes/tool.rs"]
mod tool;

use image_server::{Server, URL, Version, can_serve, certificates, tree};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::State;

/// A state beside a tree to serve, with the certificates and images that can be run; the remote `mine` is not known yet.
fn prepared(test: &str) -> Option<State> {
    if !common_root::can_run(test) || !can_serve(test) {
        return None;
    }
    let state = State::new();
    certificates(state.path());
    common_root::make_images(state.path());
    Some(state)
}

fn read(state: &State, name: &str) -> Vec<u8> {
    std::fs::read(state.path().join(name)).unwrap()
}

fn first<'a>(meta: &'a [u8], root: &'a [u8]) -> Version<'a> {
    Version { serial: "20260101_00:00", meta, root, ftype: "root.tar.xz" }
}

fn add(state: &State) {
    state.good(&["remote", "add", "mine", URL, "--protocol", "simplestreams"]);
}

/// A metadata archive that differs from others by `date`.
fn metadata(state: &State, date: u32) -> Vec<u8> {
    let dir = state.path().join(format!("metadata-{date}"));
    std::fs::create_dir(&dir).unwrap();
    let arch = std::env::consts::ARCH;
    let text = format!("architecture: {arch}\ncreation_date: {date}\nproperties:\n  os: test\n");
    std::fs::write(dir.join("metadata.yaml"), text).unwrap();
    let out = dir.join("meta.tar.xz");
    let done = Command::new("tar").arg("-cJf").arg(&out).arg("-C").arg(&dir).arg("metadata.yaml").status().unwrap();
    assert!(done.success());
    std::fs::read(out).unwrap()
}

#[test]
fn remotes_are_kept_as_incus_keeps_them() {
    if !common_root::can_run("remotes_are_kept_as_incus_keeps_them") {
        return;
    }
    let state = State::new();
    assert_eq!(state.good(&["remote", "get-default"]), "local\n");
    let list = state.good(&["remote", "list", "-f", "csv"]);
    let want = "bootstrap,bootstrap:,bootstrap,none,YES,YES,NO\n\
                images,https://images.linuxcontainers.org,simplestreams,none,YES,NO,NO\n\
                local (current),unix://,incus,file access,NO,YES,NO\n";
    assert_eq!(list, want);
    add(&state);
    state.good(&["remote", "add", "reg", "https://docker.io", "--protocol", "oci"]);
    assert_eq!(state.bad(&["remote", "add", "mine", URL]), format!("Remote mine exists as <{URL}>"));
    let clear = "Only https URLs are supported for oci and simplestreams";
    assert_eq!(state.bad(&["remote", "add", "x", "http://h"]), clear);
    state.good(&["remote", "switch", "mine"]);
    state.good(&["remote", "rename", "mine", "yours"]);
    assert_eq!(state.good(&["remote", "get-default"]), "yours\n");
    assert_eq!(state.bad(&["remote", "remove", "yours"]), "Can't remove the default remote");
    state.good(&["remote", "set-urls", "yours", "https://h.example"]);
    state.good(&["remote", "switch", "local"]);
    assert_eq!(state.bad(&["image", "list", "nowhere:"]), "The remote \"nowhere\" doesn't exist");
    assert_eq!(state.bad(&["image", "list", "reg:"]), "Can't list images from OCI registry");
    assert_eq!(state.bad(&["launch", "reg:No"]), "Invalid image name \"No\"");
    let yaml = std::fs::read_to_string(state.path().join("conf/config.yml")).unwrap();
    assert!(
        yaml.contains("  yours:\n    addr: https://h.example\n    protocol: simplestreams\n    public: true\n"),
        "{yaml}"
    );
    state.good(&["remote", "remove", "yours"]);
    state.good(&["remote", "remove", "images"]);
    assert!(!state.good(&["remote", "list", "-f", "csv"]).contains("images"));
}

#[test]
fn from_the_server_to_an_instance() {
    let Some(state) = prepared("from_the_server_to_an_instance") else { return };
    let (meta, root) = (metadata(&state, 1_700_000_000), read(&state, "rootfs.tar"));
    let old = first(&meta, &root);
    tree(state.path(), &[old]);
    let server = Server::start(state.path(), "");
    add(&state);
    let old = first(&meta, &root);
    let list = state.good(&["image", "list", "mine:", "-f", "csv", "-c", "lFdat"]);
    let arch = std::env::consts::ARCH;
    assert!(
        list.contains(&format!(",{},Test One ", old.fingerprint())) && list.contains(&format!(",{arch},CONTAINER")),
        "{list}"
    );
    assert_eq!(server.requests(), ["GET /streams/v1/index.json 200", "GET /streams/v1/images.json 200"]);
    assert!(state.good(&["image", "list", "mine:", "type=virtual-machine", "-f", "csv"]).is_empty());
    let info = state.good(&["image", "info", "mine:test/1"]);
    assert!(
        info.starts_with(&format!("Fingerprint: {}\n", old.fingerprint())) && info.contains("Public: yes"),
        "{info}"
    );
    assert!(server.requests().is_empty(), "the list is young");

    // A launch keeps the image, and the next one asks nobody.
    state.good(&["launch", "mine:test/1", "c1"]);
    let [meta_path, root_path] = old.paths();
    assert_eq!(server.requests(), [format!("GET /{meta_path} 200"), format!("GET /{root_path} 200")]);
    state.good(&["launch", "mine:test/1", "c2"]);
    assert!(server.requests().is_empty(), "the image is here");
    assert!(state.good(&["list", "-f", "csv", "-c", "ns"]).contains("c2,RUNNING"));
    let info = state.good(&["image", "info", &old.fingerprint()]);
    for line in [
        "Cached: yes",
        "Auto update: enabled",
        &format!("    Server: {URL}"),
        "    Alias: test/1",
        "    serial: 20260101_00:00",
    ] {
        assert!(info.contains(&format!("{line}\n")), "{line}: {info}");
    }
    assert_eq!(state.good(&["image", "refresh", &old.fingerprint()]), "Image already up to date.\n");

    // A copy of what is here makes it the user's, without a download.
    server.requests();
    state.good(&["image", "copy", "mine:test", "local:", "--alias", "img", "--copy-aliases"]);
    assert!(server.requests().is_empty(), "the files are here");
    let aliases = state.good(&["image", "alias", "list", "-f", "csv", "-c", "a"]);
    assert!(aliases.contains("img\n") && aliases.contains("test/1\n"), "{aliases}");
    assert!(state.good(&["image", "info", "img"]).contains("Cached: no\n"));

    // A new version takes the names over; what runs of the old one goes on.
    let new_meta = metadata(&state, 1_800_000_000);
    let new = Version { serial: "20260202_00:00", meta: &new_meta, root: &root, ftype: "root.tar.xz" };
    tree(state.path(), &[first(&meta, &root), Version { ..new }]);
    let new = Version { serial: "20260202_00:00", meta: &new_meta, root: &root, ftype: "root.tar.xz" };
    assert_eq!(state.good(&["image", "refresh", "img"]), "Image refreshed successfully!\n");
    let list = state.good(&["image", "list", "-f", "csv", "-c", "F"]);
    assert_eq!(list, format!("{}\n", new.fingerprint()));
    assert!(state.good(&["image", "info", "img"]).contains(&new.fingerprint()));
    state.good(&["exec", "c1", "--", "true"]);
    state.good(&["run", "img", "--", "true"]);

    // Away for a while: what is known still shows.
    drop(server);
    assert!(state.good(&["image", "list", "mine:", "-f", "csv", "-c", "F"]).contains(&new.fingerprint()));
    state.good(&["delete", "-f", "c1", "c2"]);
    state.assert_clean();
}

#[test]
fn certificates_decide() {
    let Some(state) = prepared("certificates_decide") else { return };
    let (meta, root) = (metadata(&state, 1), read(&state, "rootfs.tar"));
    tree(state.path(), &[first(&meta, &root)]);
    let server = Server::start(state.path(), "");
    add(&state);
    // Without our authority.
    let ca = state.path().join("ca.crt");
    let aside = state.path().join("aside.crt");
    std::fs::rename(&ca, &aside).unwrap();
    let unknown = state.bad(&["image", "list", "mine:"]);
    assert!(
        unknown == "Failed connecting to \"localhost:8443\": The certificate is signed by unknown authority"
            || unknown.ends_with("This host knows no certificate authorities"),
        "{unknown}"
    );
    let said = state.good(&["remote", "add", "pinned", URL, "--accept-certificate"]);
    assert!(said.starts_with("Certificate fingerprint: ") && said.trim_end().len() == 25 + 64, "{said}");
    assert!(state.good(&["image", "list", "pinned:", "-f", "csv"]).contains("test"));
    // The accepted one counts whoever else signs: a new one does not.
    drop(server);
    std::fs::rename(&aside, &ca).unwrap();
    let server = Server::with_certificate(state.path(), "other", "");
    std::fs::remove_dir_all(state.path().join("cache/simplestreams")).unwrap();
    let changed = state.bad(&["image", "list", "pinned:"]);
    assert!(changed.ends_with("The server's certificate has changed"), "{changed}");
    let other = state.bad(&["image", "list", "mine:"]);
    assert_eq!(other, "Failed connecting to \"localhost:8443\": The certificate is for another host");
    drop(server);
    let server = Server::with_certificate(state.path(), "ca", "");
    let own = state.bad(&["image", "list", "mine:"]);
    assert!(own.contains("The certificate is an authority's own, not one for a server"), "{own}");
    assert!(state.run(&["image", "list", "mine:"]).err.contains("--accept-certificate"));
    drop(server);
    let refused = state.bad(&["image", "list", "mine:"]);
    assert!(refused.starts_with("Failed connecting to \"localhost:8443\": Connection refused"), "{refused}");
    state.assert_clean();
}

/// Changes the list of images as text.
fn tamper(state: &State, change: impl FnOnce(String) -> String) {
    let path = state.path().join("www/streams/v1/images.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

#[test]
fn a_lying_server_leaves_nothing() {
    let Some(state) = prepared("a_lying_server_leaves_nothing") else { return };
    let (meta, root) = (metadata(&state, 1), read(&state, "rootfs.tar"));
    let truth = || first(&meta, &root);
    tree(state.path(), &[truth()]);
    let _server = Server::start(
        state.path(),
        "location /away { return 302 http://localhost/x; }\nlocation /far { return 302 https://other.example/x; }\n",
    );
    add(&state);
    let before: Vec<String> = state.listing().into_keys().filter(|p| !p.starts_with("cache")).collect();
    let [meta_path, root_path] = truth().paths();
    let www = state.path().join("www");
    let lie = |what: &str, lies: &dyn Fn(), says: &str| {
        tree(state.path(), &[truth()]);
        lies();
        let _ = std::fs::remove_dir_all(state.path().join("cache/simplestreams"));
        let error = state.bad(&["image", "copy", "mine:test/1", "local:", "--alias", "img"]);
        assert!(error.contains(says), "{what}: {error}");
        let after: Vec<String> = state.listing().into_keys().filter(|p| !p.starts_with("cache")).collect();
        let strange: Vec<&String> = after.iter().filter(|p| !before.contains(p) && !p.contains("/trash")).collect();
        assert!(strange.is_empty(), "{what}: {strange:?}");
        state.assert_clean();
    };
    let path = |name: &str| www.join(name);
    let zeros = |name: &str, n: usize| std::fs::write(path(name), vec![0; n]).unwrap();
    lie("hash of the root", &|| zeros(&root_path, root.len()), "Hash mismatch for \"https://localhost:8443/images/");
    lie("hash of the metadata", &|| zeros(&meta_path, meta.len()), "Hash mismatch");
    lie("longer", &|| zeros(&root_path, root.len() + 1), "The file has not the announced size");
    lie("shorter", &|| zeros(&root_path, root.len() - 1), "The file has not the announced size");
    lie("gone", &|| std::fs::remove_file(path(&root_path)).unwrap(), "The server answered with status 404");
    let combined = truth().fingerprint();
    let wrong = "0".repeat(64);
    lie("fingerprint", &|| tamper(&state, |t| t.replace(&combined, &wrong)), "Image fingerprint doesn't match");
    lie(
        "fingerprint as path",
        &|| tamper(&state, |t| t.replace(&combined, "../../../etc/x")),
        "Image \"test/1\" not found",
    );
    for bad in ["../../../etc/passwd", "/etc/passwd", "https://other.example/x", "a/../../x", "x?y"] {
        lie(bad, &|| tamper(&state, |t| t.replace(&root_path, bad)), "Image \"test/1\" not found");
    }
    lie("away from https", &|| tamper(&state, |t| t.replace(&root_path, "away")), "away from https");
    lie("another host", &|| tamper(&state, |t| t.replace(&root_path, "far")), "other.example");
    lie(
        "no list",
        &|| std::fs::remove_file(path("streams/v1/index.json")).unwrap(),
        "index.json\": The server answered with status 404",
    );
    lie("no json", &|| tamper(&state, |_| "<html>".into()), "The server's list of images is damaged");
    lie("deep json", &|| tamper(&state, |_| "[".repeat(1 << 20)), "The server's list of images is damaged");
    let endless = || {
        let file = std::fs::File::options().write(true).open(path("streams/v1/images.json")).unwrap();
        file.set_len(64 << 20).unwrap();
    };
    lie("endless list", &endless, "It is larger than 33554432 bytes");
    tree(state.path(), &[truth()]);
    let _ = std::fs::remove_dir_all(state.path().join("cache/simplestreams"));
    state.good(&["image", "copy", "mine:test/1", "local:", "--alias", "img"]);
    state.good(&["run", "img", "--", "true"]);
    state.assert_clean();
}

/// The names beside the images that begin with a dot.
fn hidden(state: &State) -> Vec<String> {
    let names = std::fs::read_dir(state.images()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

#[test]
fn an_interrupted_download_goes_on_where_it_broke() {
    let Some(state) = prepared("an_interrupted_download_goes_on_where_it_broke") else { return };
    // Something that does not compress, behind what the image needs.
    let ballast = state.path().join("ballast");
    let mut random = std::fs::File::open("/dev/urandom").unwrap();
    let mut bytes = vec![0; 8 << 20];
    std::io::Read::read_exact(&mut random, &mut bytes).unwrap();
    std::fs::write(&ballast, bytes).unwrap();
    let tar = state.path().join("rootfs.tar");
    let done = Command::new("tar").arg("-rf").arg(&tar).arg("-C").arg(state.path()).arg("ballast").status().unwrap();
    assert!(done.success());
    let (meta, root) = (metadata(&state, 1), read(&state, "rootfs.tar"));
    tree(state.path(), &[first(&meta, &root)]);
    let slow = Server::start(state.path(), "location ~ rootfs$ { limit_rate 2m; }");
    add(&state);
    let mut child = state.command(&["image", "copy", "mine:test/1", "local:", "--alias", "img"]).spawn().unwrap();
    let got = || {
        let entries = std::fs::read_dir(state.images()).into_iter().flatten().flatten();
        entries
            .filter(|e| e.file_name().to_string_lossy().ends_with(".rootfs"))
            .map(|e| e.metadata().unwrap().len())
            .max()
    };
    let end = Instant::now() + Duration::from_secs(30);
    while got().unwrap_or(0) < 2 << 20 {
        assert!(Instant::now() < end, "nothing came");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(slow);
    assert!(state.good(&["image", "list", "-f", "csv"]).is_empty());
    let server = Server::start(state.path(), "");
    state.good(&["image", "copy", "mine:test/1", "local:", "--alias", "img"]);
    let requests = server.requests();
    assert!(requests.iter().any(|r| r.ends_with("/rootfs 206")), "{requests:?}");
    assert_eq!(hidden(&state), Vec::<String>::new());
    state.good(&["run", "img", "--", "true"]);

    // The beginning of another file under that name is found out, and costs only time.
    state.good(&["image", "delete", "img"]);
    let part = format!(".part-{}", image_server::sha256(&[&root]));
    std::fs::write(state.images().join(part), vec![7; 1 << 20]).unwrap();
    state.good(&["image", "copy", "mine:test/1", "local:", "--alias", "img"]);
    assert_eq!(hidden(&state), Vec::<String>::new());
    state.good(&["run", "img", "--", "true"]);
    state.assert_clean();
}

#[test]
fn one_downloads_for_all_who_want_the_image() {
    let Some(state) = prepared("one_downloads_for_all_who_want_the_image") else { return };
    let (meta, root) = (metadata(&state, 1), read(&state, "rootfs.tar"));
    tree(state.path(), &[first(&meta, &root)]);
    let server = Server::start(state.path(), "");
    add(&state);
    state.good(&["image", "list", "mine:"]);
    server.requests();
    let names = ["c1", "c2", "c3", "c4"];
    let children: Vec<_> =
        names.map(|name| state.command(&["create", "mine:test/1", name]).stdout(Stdio::null()).spawn().unwrap()).into();
    for child in children {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let [_, root_path] = first(&meta, &root).paths();
    let downloads = server.requests().iter().filter(|r| **r == format!("GET /{root_path} 200")).count();
    assert_eq!(downloads, 1);
    for name in names {
        state.good(&["delete", "-f", name]);
    }
    assert!(Path::new(&state.path().join("conf/config.yml")).exists());
    state.assert_clean();
}

/// `incus image import <URL>`: two headers of the answer to HEAD say what and where the image is.
#[test]
fn an_image_that_a_url_names() {
    let Some(state) = prepared("an_image_that_a_url_names") else { return };
    let www = state.path().join("www");
    std::fs::create_dir(&www).unwrap();
    let image = read(&state, "image.tar");
    std::fs::write(www.join("unified.tar"), &image).unwrap();
    let hash = image_server::sha256(&[&image]);
    let wrong = "0".repeat(64);
    let place = |name: &str, hash: &str, url: &str| {
        format!(
            "location = /{name} {{ add_header Incus-Image-Hash \"{hash}\"; add_header Incus-Image-URL \"{url}\"; return 200; }}\n"
        )
    };
    let at = |path: &str| format!("{URL}/{path}");
    let more = [
        place("good", &hash, &at("unified.tar")),
        place("wrong", &wrong, &at("unified.tar")),
        place("path", "../../../etc/passwd", &at("unified.tar")),
        place("gone", &hash, &at("nothing")),
        place("clear", &hash, "http://localhost:8443/unified.tar"),
        place("file", &hash, "file:///etc/passwd"),
        "location = /plain { return 200; }\n".to_string(),
        "location = /away { return 302 http://localhost/good; }\n".to_string(),
    ];
    let server = Server::start(state.path(), &more.concat());
    state.good(&["list"]);
    let before: Vec<String> = state.listing().into_keys().collect();
    for (name, says) in [
        ("wrong", "Hash mismatch for \"https://localhost:8443/unified.tar\""),
        ("path", "Bad header Incus-Image-Hash"),
        ("gone", "The server answered with status 404"),
        ("clear", "away from https"),
        ("file", "Bad header Incus-Image-URL"),
        ("plain", "The header Incus-Image-Hash is missing"),
        ("away", "away from https"),
        ("nowhere", "The server answered with status 404"),
    ] {
        let error = state.bad(&["image", "import", &at(name), "--alias", "new"]);
        assert!(error.contains(says), "{name}: {error}");
        let after: Vec<String> = state.listing().into_keys().filter(|p| !p.contains("/trash")).collect();
        let strange: Vec<&String> = after.iter().filter(|p| !before.contains(p)).collect();
        assert!(strange.is_empty(), "{name}: {strange:?}");
    }
    let two = state.bad(&["image", "import", &at("good"), "rootfs.tar"]);
    assert_eq!(two, "An image from a URL is one file");
    server.requests();
    let said = state.good(&["image", "import", &at("good"), "--alias", "theirs", "os=Over", "--public"]);
    assert_eq!(said, format!("Image imported with fingerprint: {hash}\n"));
    assert_eq!(server.requests(), ["HEAD /good 200", "HEAD /unified.tar 200", "GET /unified.tar 200"]);
    assert!(state.good(&["image", "info", "theirs"]).contains("    os: Over\n"));
    state.good(&["run", "theirs", "--", "true"]);
    assert_eq!(state.bad(&["image", "import", &at("good")]), "Image with same fingerprint already exists");
    assert_eq!(server.requests(), ["HEAD /good 200"], "what is here is not fetched");
    state.assert_clean();
}

/// The metadata archive of a Debian image of that time.
fn described(state: &State, date: u32) -> String {
    let dir = state.path().join(format!("made-{date}"));
    std::fs::create_dir(&dir).unwrap();
    let text = format!(
        "architecture: {}\ncreation_date: {date}\nproperties:\n  os: Debian\n  release: bookworm\n  variant: default\n  \
         architecture: amd64\n  description: Debian\n",
        std::env::consts::ARCH
    );
    std::fs::write(dir.join("metadata.yaml"), text).unwrap();
    let out = dir.join("meta.tar.xz");
    let done = Command::new("tar").arg("-cJf").arg(&out).arg("-C").arg(&dir).arg("metadata.yaml").status().unwrap();
    assert!(done.success());
    out.to_str().unwrap().to_string()
}

/// What is exported is a remote for us; what Incus makes of it is in `tool`.
#[test]
fn an_exported_tree_is_a_remote() {
    let Some(state) = prepared("an_exported_tree_is_a_remote") else { return };
    let (old, new) = (described(&state, 1_700_000_000), described(&state, 1_800_000_000));
    let old_image = state.import(&[&old, "rootfs.tar", "--alias", "debian/12"]);
    assert_eq!(
        state.good(&["image", "export", "--simplestreams", "www", "debian/12"]),
        "Image exported successfully!\n"
    );
    let _server = Server::start(state.path(), "");
    add(&state);
    state.good(&["image", "delete", "debian/12"]);
    state.good(&["launch", "mine:debian/12", "c1"]);
    state.good(&["exec", "c1", "--", "true"]);
    assert!(state.good(&["image", "list", "-f", "csv", "-c", "F"]).contains(&old_image), "the fingerprint is the same");
    // A second version of the product keeps the first.
    let new_image = state.import(&[&new, "rootfs.tar", "--alias", "debian/12"]);
    let unified = state.import(&["image.tar"]);
    // A virtual machine of the same product, split with the metadata of the container, and one in one file.
    std::fs::write(state.path().join("disk.qcow2"), image_common::qcow2()).unwrap();
    let machine = state.import(&[&new, "disk.qcow2", "--alias", "machine"]);
    let files = image_common::Ar::default().file("metadata.yaml", image_common::METADATA);
    let whole = files.file("rootfs.img", &image_common::qcow2()).finish();
    std::fs::write(state.path().join("whole.tar"), whole).unwrap();
    let whole = state.import(&["whole.tar"]);
    state.good(&["image", "export", "machine", &whole[..12], "--simplestreams", "www"]);
    state.good(&["image", "export", "debian/12", &unified[..12], "--simplestreams", "www"]);
    let _ = std::fs::remove_dir_all(state.path().join("cache/simplestreams"));
    let list = state.good(&["image", "list", "mine:", "-f", "csv", "-c", "lF"]);
    let machines = state.good(&["image", "list", "mine:", "type=virtual-machine", "-f", "csv", "-c", "F"]);
    assert!(machines.lines().count() == 2 && machines.contains(&machine) && machines.contains(&whole), "{machines}");
    let info = state.good(&["image", "info", "mine:Debian/bookworm/default", "--vm"]);
    assert!(info.starts_with(&format!("Fingerprint: {machine}\n")), "{info}");
    state.good(&["image", "delete", &machine, &whole]);
    for (name, fingerprint) in [("mine:machine", &machine), (&*format!("mine:{whole}"), &whole)] {
        state.good(&["image", "copy", name, "local:", "--vm"]);
        assert!(state.good(&["image", "info", fingerprint]).contains("Type: virtual-machine"));
    }
    for fingerprint in [&old_image, &new_image, &unified] {
        assert!(list.contains(fingerprint.as_str()), "{fingerprint}: {list}");
    }
    let info = state.good(&["image", "info", "mine:debian/12"]);
    assert!(info.starts_with(&format!("Fingerprint: {new_image}\n")), "{info}");
    let aliases = state.good(&["image", "alias", "list", "mine:", "-f", "csv", "-c", "af"]);
    assert!(aliases.contains(&format!("debian/12,{}", &new_image[..12])), "{aliases}");
    state.good(&["image", "delete", &unified]);
    state.good(&["run", &format!("mine:{}", &unified[..20]), "--", "true"]);
    // Twice the same, and what is no tree.
    let before = std::fs::read(state.path().join("www/streams/v1/images.json")).unwrap();
    state.good(&["image", "export", "--simplestreams", "www", "debian/12"]);
    assert!(std::fs::read(state.path().join("www/streams/v1/images.json")).unwrap() == before);
    std::fs::create_dir_all(state.path().join("no/streams/v1")).unwrap();
    std::fs::write(state.path().join("no/streams/v1/images.json"), "{").unwrap();
    assert!(state.bad(&["image", "export", "--simplestreams", "no", "debian/12"]).contains("images.json"));
    assert!(state.bad(&["image", "export", "--simplestreams", "ca.crt", "debian/12"]).contains("ca.crt"));
    assert_eq!(state.bad(&["image", "export", "a", "b", "c"]), "too many arguments; expected at most 2");
    state.good(&["delete", "-f", "c1"]);
    state.assert_clean();
}
