//! OCI images: from layouts and from Debian's registry, compared with what umoci makes of them; and registries that lie.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;
#[path = "root_oci/forms.rs"]
mod forms;
mod image_server;
mod oci_common;
#[path = "root_oci/servers.rs"]
mod servers;
#[path = "root_oci/shared.rs"]
mod shared;
#[path = "root_images/support.rs"]
mod support;

use image_server::{Server, URL, certificates};
use oci_common::{Entry, Image, Packing, What, entry, layer, layers, layout, registry};
use servers::{DockerRegistry, PROXY, have, push};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::State;

const CONFIG: &str = r#"{"User": "app", "Env": ["A=b c", "PATH=/bin"], "Entrypoint": ["/bin/busybox", "sleep"], "Cmd": ["100"],
    "WorkingDir": "/etc", "StopSignal": "SIGINT", "Volumes": {"/v": {}}}"#;

fn busybox() -> Vec<u8> {
    std::fs::read("/bin/busybox").unwrap()
}

/// The image of [`layers`], each packed in another way.
fn example(dir: &Path) -> Image {
    let [a, b, c] = layers(&busybox());
    layout(dir, &[(&a, Packing::Gzip), (&b, Packing::Plain), (&c, Packing::Zstd)], CONFIG)
}

/// A state beside a registry of plain files, with one image `test/app` in it.
fn served(test: &str) -> Option<(State, Image)> {
    if !have(test, &["nginx", "openssl"]) {
        return None;
    }
    let state = State::new();
    certificates(state.path());
    let image = example(&state.path().join("layout"));
    publish(&state, &image);
    Some((state, image))
}

fn publish(state: &State, image: &Image) {
    let _ = std::fs::remove_dir_all(state.path().join("www"));
    registry(&state.path().join("layout"), image, &state.path().join("www"), ("test/app", "latest"));
}

fn add(state: &State) {
    state.good(&["remote", "add", "reg", URL, "--protocol", "oci"]);
}

/// Everything of a tree that an image decides.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(root: &Path, at: &Path, (names, all): (&mut BTreeMap<u64, PathBuf>, &mut BTreeMap<PathBuf, String>)) {
        let meta = std::fs::symlink_metadata(at).unwrap();
        let kind = meta.mode() & libc::S_IFMT;
        let content = match kind {
            libc::S_IFREG => support::sha256(&[at]),
            libc::S_IFLNK => std::fs::read_link(at).unwrap().display().to_string(),
            _ => String::new(),
        };
        let mut text = format!("{:o} {}:{} {content}", meta.mode(), meta.uid(), meta.gid());
        text += &format!(" {}.{:09}", meta.mtime(), meta.mtime_nsec());
        if matches!(kind, libc::S_IFREG | libc::S_IFDIR) {
            let file = std::fs::File::open(at).unwrap();
            for (name, value) in stapes::sys::xattr::list(std::os::fd::AsFd::as_fd(&file)).unwrap() {
                if !name.starts_with(b"trusted.") {
                    text += &format!(" {}={value:?}", String::from_utf8_lossy(&name));
                }
            }
        }
        let name = at.strip_prefix(root).unwrap().to_path_buf();
        // The first of its names. How many it has may be another number: the name in a layer below counts, too.
        if kind != libc::S_IFDIR {
            text += &format!(" {:?}", names.entry(meta.ino()).or_insert_with(|| name.clone()));
        }
        all.insert(name, text);
        if kind == libc::S_IFDIR {
            let mut inside: Vec<_> = std::fs::read_dir(at).unwrap().map(|e| e.unwrap().path()).collect();
            inside.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
            inside.iter().for_each(|name| walk(root, name, (names, all)));
        }
    }
    let mut all = BTreeMap::new();
    walk(root, root, (&mut BTreeMap::new(), &mut all));
    all
}

/// Where an image is unpacked.
fn unpacked(state: &State, fingerprint: &str) -> PathBuf {
    state.pool().join("images").join(fingerprint)
}

/// Its tree, joined of its layers if it has such.
fn rootfs(state: &State, fingerprint: &str) -> PathBuf {
    let Ok(layers) = std::fs::read_to_string(unpacked(state, fingerprint).join("layers")) else {
        return unpacked(state, fingerprint).join("rootfs");
    };
    let mut lower: Vec<PathBuf> =
        layers.lines().map(|id| state.pool().join("images").join(format!("{id}.layer"))).collect();
    let upper = lower.remove(0);
    if lower.is_empty() {
        return upper;
    }
    let all = stapes::model::attach::Rootfs::Overlay { lower, work: upper.clone(), upper };
    // The mount lives as long as the test.
    let mount = std::os::fd::IntoRawFd::into_raw_fd(stapes::container::rootfs::view(&all, state.path()).unwrap());
    PathBuf::from(format!("/proc/self/fd/{mount}/."))
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn different(ours: &Path, theirs: &Path) -> Vec<String> {
    let (ours, theirs) = (tree(ours), tree(theirs));
    let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differ = names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name));
    differ.map(|name| format!("{name:?}: {:?} {:?}", ours.get(name), theirs.get(name))).collect()
}

#[test]
fn layers_make_the_tree_that_umoci_makes() {
    const NAME: &str = "layers_make_the_tree_that_umoci_makes";
    if !have(NAME, &["umoci"]) {
        return;
    }
    let state = State::new();
    let image = example(&state.path().join("ours"));
    // Its zstd is newer than many umoci.
    let [a, b, c] = layers(&busybox());
    let packed = [(&a[..], Packing::Gzip), (&b, Packing::Gzip), (&c, Packing::Gzip)];
    layout(&state.path().join("theirs"), &packed, CONFIG);
    let bundle = state.path().join("bundle");
    let from = format!("{}:latest", state.path().join("theirs").display());
    let done = Command::new("umoci").args(["unpack", "--image", &from]).arg(&bundle).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let at = state.path().join("ours");
    let fingerprint = state.import(&[at.to_str().unwrap(), "--alias", "img", "os=test"]);
    assert_eq!(fingerprint, image.fingerprint());
    let ours = unpacked(&state, &fingerprint);
    assert_eq!(different(&rootfs(&state, &fingerprint), &bundle.join("rootfs")), [""; 0]);
    let (mine, theirs) = (json(&ours.join("config.json")), json(&bundle.join("config.json")));
    for key in ["args", "env", "cwd", "user", "terminal"] {
        assert_eq!(mine["process"][key], theirs["process"][key], "{key}");
    }
    let signal = "org.opencontainers.image.stopSignal";
    assert_eq!(mine["annotations"][signal], theirs["annotations"][signal]);
    let info = state.good(&["image", "info", "img"]);
    for line in [
        "    type: oci",
        "    os: test",
        "    description: ours (OCI)",
        "Cached: no",
        "    Created: 2024/01/02 03:04 UTC",
    ] {
        assert!(info.contains(&format!("{line}\n")), "{line}: {info}");
    }

    // Its archive is the same image; one image is enough.
    let tar = state.path().join("layout.tar");
    assert!(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&at).arg(".").status().unwrap().success());
    let word = format!("oci:{}:latest", tar.display());
    assert_eq!(state.bad(&["image", "import", &word]), "Image with same fingerprint already exists");
    state.good(&["image", "delete", "img"]);
    assert_eq!(state.import(&[&word, "--alias", "img"]), fingerprint);
    assert_eq!(different(&rootfs(&state, &fingerprint), &bundle.join("rootfs")), [""; 0]);

    // What is exported is a split image that can be imported, with the same content.
    let out = state.path().join("out");
    std::fs::create_dir(&out).unwrap();
    state.good(&["image", "export", "img", out.to_str().unwrap()]);
    let (meta, root) = (out.join(format!("meta-{fingerprint}.tar.gz")), out.join(format!("{fingerprint}.tar.zst")));
    let listed = Command::new("tar").arg("-tzf").arg(&meta).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "metadata.yaml\nconfig.json\n");
    let again = state.import(&[meta.to_str().unwrap(), root.to_str().unwrap(), "--alias", "again"]);
    let again = unpacked(&state, &again);
    assert_eq!(json(&again.join("config.json")), mine);
    // The archive's times have no fractions.
    let seconds = |path: &Path| -> Vec<String> {
        tree(path).into_values().map(|t| t.replace(".250000000", ".000000000")).collect()
    };
    assert_eq!(seconds(&again.join("rootfs")), seconds(&rootfs(&state, &fingerprint)));

    // What is unpacked comes back from the files.
    std::fs::remove_dir_all(&ours).unwrap();
    state.good(&["create", "img", "c1"]);
    assert_eq!(json(&ours.join("config.json")), mine);
    assert_eq!(seconds(&rootfs(&state, &fingerprint)), seconds(&bundle.join("rootfs")));
    state.good(&["delete", "-f", "c1"]);
    state.assert_clean();
}

/// Other images of which the lower layers are here.
fn over_the_same_layers(state: &State, server: &Server) -> Image {
    // Another image over the same layers brings only its own, and one by digest stays what it is.
    let [a, b, _] = layers(&busybox());
    let more = layer(&[entry("more")]);
    let all = [(&a[..], Packing::Gzip), (&b, Packing::Plain), (&more, Packing::Gzip)];
    let second = layout(&state.path().join("second"), &all, CONFIG);
    push(&state.path().join("second"), "test/app:2");
    server.requests();
    state.good(&["image", "copy", &format!("reg:test/app:ignored@{}", second.manifest), "local:", "--alias", "second"]);
    let asked: Vec<String> = server.requests().into_iter().filter(|r| r.contains("/blobs/")).collect();
    let blob = |digest: &str| format!("GET /v2/test/app/blobs/{digest} 200");
    assert_eq!(asked, [blob(&second.config), blob(&second.layers[2])]);
    // The same layers with another configuration are another image.
    let changed = layout(&state.path().join("changed"), &all, r#"{"Cmd": ["/bin/sh"]}"#);
    assert_eq!(changed.fingerprint(), second.fingerprint());
    push(&state.path().join("changed"), "test/app:3");
    state.good(&["image", "copy", "reg:test/app:3", "local:", "--alias", "third"]);
    let list = state.good(&["image", "list", "-f", "csv", "-c", "F"]);
    assert_eq!(list.lines().count(), 3, "{list}");
    let third = state.good(&["image", "info", "third"]);
    let third = third.lines().next().unwrap().trim_start_matches("Fingerprint: ");
    assert_eq!(json(&unpacked(state, third).join("config.json"))["process"]["args"], serde_json::json!(["/bin/sh"]));
    second
}

#[test]
fn from_a_real_registry() {
    const NAME: &str = "from_a_real_registry";
    if !have(NAME, &["nginx", "openssl", "docker-registry", "skopeo"]) {
        return;
    }
    let state = State::new();
    certificates(state.path());
    let _registry = DockerRegistry::start(state.path());
    let image = example(&state.path().join("layout"));
    push(&state.path().join("layout"), "test/app:1");
    let server = Server::start(state.path(), PROXY);
    add(&state);
    assert_eq!(state.bad(&["image", "list", "reg:"]), "Can't list images from OCI registry");
    let info = state.good(&["image", "info", "reg:test/app:1"]);
    let arch = std::env::consts::ARCH;
    for line in [
        &format!("Fingerprint: {}", image.fingerprint()),
        &format!("Architecture: {arch}"),
        "Public: yes",
        "    - test/app:1",
    ] {
        assert!(info.contains(&format!("{line}\n")), "{line}: {info}");
    }
    let asked = server.requests();
    assert_eq!(asked.len(), 2, "manifest and configuration: {asked:?}");

    // A launch keeps the image, and the next one asks nobody.
    state.good(&["create", "reg:test/app:1", "c1"]);
    let asked = server.requests();
    for digest in &image.layers {
        let wanted = format!("GET /v2/test/app/blobs/{digest} 200");
        assert_eq!(asked.iter().filter(|r| **r == wanted).count(), 1, "{asked:?}");
    }
    state.good(&["launch", "reg:test/app:1", "c2"]);
    assert!(server.requests().is_empty(), "the image is here");
    assert_eq!(state.good(&["list", "c2", "-f", "csv", "-c", "st"]), "RUNNING,CONTAINER (APP)\n");
    assert_eq!(state.good(&["exec", "c2", "--", "/bin/busybox", "cat", "/wipe2"]), "wipe2");
    let info = state.good(&["image", "info", &image.fingerprint()]);
    for line in [
        "Cached: yes",
        "Auto update: enabled",
        &format!("    Server: {URL}"),
        "    Protocol: oci",
        "    Alias: test/app:1",
    ] {
        assert!(info.contains(&format!("{line}\n")), "{line}: {info}");
    }
    assert_eq!(state.good(&["image", "refresh", &image.fingerprint()]), "Image already up to date.\n");

    let second = over_the_same_layers(&state, &server);
    assert!(rootfs(&state, &second.fingerprint()).join("more").exists());

    // The tag moves on.
    push(&state.path().join("second"), "test/app:1");
    assert_eq!(
        state.good(&["image", "copy", "reg:test/app:1", "local:", "--alias", "own"]),
        "Image copied successfully!\n"
    );
    assert_eq!(state.good(&["image", "refresh", &image.fingerprint()]), "Image refreshed successfully!\n");
    assert!(!state.good(&["image", "list", "-f", "csv", "-c", "F"]).contains(&image.fingerprint()));
    state.good(&["delete", "-f", "c1", "c2"]);
    state.assert_clean();
}

fn copy(state: &State, remote: &str) -> support::Said {
    state.run(&["image", "copy", &format!("{remote}:test/app"), "local:", "--alias", remote])
}

/// A server that wants a token; `guard` stands where it is given out.
fn token(guard: &str) -> String {
    format!(
        "location /v2/ {{ if ($http_authorization != \"Bearer sesame\") {{ return 401; }} }}\n\
         add_header WWW-Authenticate 'Bearer realm=\"{URL}/token\",service=\"a b\",scope=\"all\"' always;\n\
         location = /token {{ default_type application/json; {guard}\n return 200 '{{\"token\": \"sesame\"}}'; }}"
    )
}

#[test]
fn a_token_is_asked_for_once() {
    let Some((state, _)) = served("a_token_is_asked_for_once") else { return };
    add(&state);
    let server = Server::start(state.path(), &token(""));
    assert_eq!(copy(&state, "reg").code, 0);
    let asked = server.requests();
    let tokens: Vec<_> = asked.iter().filter(|r| r.contains("/token")).collect();
    assert_eq!(tokens, ["GET /token?scope=repository:test/app:pull&service=a%20b 200"]);
    state.assert_clean();
}

#[test]
fn who_we_are_is_told_where_it_is_asked() {
    let Some((state, _)) = served("who_we_are_is_told_where_it_is_asked") else { return };
    add(&state);
    // "u" and "p w".
    let basic = "Basic dTpwIHc=";
    let guards = [
        token(&format!("if ($http_authorization != \"{basic}\") {{ return 401; }}")),
        format!(
            "location /v2/ {{ if ($http_authorization != \"{basic}\") {{ return 401; }} }}\n\
             add_header WWW-Authenticate 'Basic realm=\"x\"' always;"
        ),
    ];
    let script = "#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = localhost:8443 ] && echo '{\"Username\":\"u\",\"Secret\":\"p w\"}'\n";
    let helper = state.file("helper", script.as_bytes());
    assert!(Command::new("chmod").arg("+x").arg(&helper).status().unwrap().success());
    let add_helped = ["remote", "add", "helped", URL, "--protocol", "oci", "--credentials-helper"];
    state.good(&[&add_helped[..], &[helper.to_str().unwrap()]].concat());
    state.good(&["remote", "add", "named", "https://u:p%20w@localhost:8443", "--protocol", "oci"]);
    let auths = state.file("auth.json", br#"{"auths": {"localhost:8443": {"auth": "dTpwIHc="}}}"#);
    let fresh = || {
        let _ = std::fs::remove_dir_all(state.path().join("cache/blobs"));
        ["reg", "named", "helped"].iter().for_each(|name| drop(state.run(&["image", "delete", name])));
    };
    for guard in &guards {
        let _server = Server::start(state.path(), guard);
        let said = copy(&state, "reg");
        assert!(support::one_error(&said, &["copy"]).contains("localhost:8443"), "{said:?}");
        for remote in ["named", "helped"] {
            let said = copy(&state, remote);
            assert_eq!((said.code, said.err.as_str()), (0, ""), "{remote}: {said:?}");
            fresh();
        }
        let mut command = state.command(&["image", "copy", "reg:test/app", "local:", "--alias", "reg"]);
        assert!(command.env("REGISTRY_AUTH_FILE", &auths).output().unwrap().status.success());
        fresh();
    }
    // A password in the address is kept by the configuration alone.
    let _server = Server::start(state.path(), "");
    copy(&state, "named");
    let info = state.good(&["image", "info", "named"]);
    assert!(info.contains("    Server: https://localhost:8443\n") && !info.contains("p%20w"), "{info}");
    state.assert_clean();
}

/// Replaces text in a served file.
fn tamper(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// A registry that lies, and what there was before.
struct Liar {
    state: State,
    image: Image,
    before: BTreeMap<String, String>,
    server: Server,
}

impl Liar {
    fn new(test: &str) -> Option<Self> {
        let (state, image) = served(test)?;
        let server = Server::start(
            state.path(),
            "location ~ ^/v2/test/far/(.*)$ { return 302 https://other.example/v2/test/app/$1; }\n\
             location ~ ^/v2/test/clear/ { return 302 http://localhost:8443/; }\n\
             location ~ ^/v2/test/asks/ { \
             add_header WWW-Authenticate 'Bearer realm=\"http://localhost/token\"' always; return 401; }\n",
        );
        add(&state);
        // The pool and what else there is with the first image.
        state.good(&["image", "copy", "reg:test/app", "local:", "--alias", "img"]);
        state.good(&["image", "delete", "img"]);
        let _ = std::fs::remove_dir_all(state.path().join("cache/blobs"));
        let before = state.listing();
        Some(Self { state, image, before, server })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.state.path().join("www/v2/test/app").join(name)
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.path("blobs").join(digest)
    }

    /// Zeros, as many bytes as there were and `more`.
    fn zeros(&self, digest: &str, more: i64) {
        let size = i64::try_from(std::fs::metadata(self.blob(digest)).unwrap().len()).unwrap() + more;
        std::fs::write(self.blob(digest), vec![0; usize::try_from(size).unwrap()]).unwrap();
    }

    /// Layers that were right are kept for the next time, and the beginnings of such.
    fn may_stay(&self, path: &str) -> bool {
        let Some(name) = path.strip_prefix("cache/blobs/") else { return path == "cache/blobs" };
        let blob = self.state.path().join("layout/blobs/sha256").join(name.trim_end_matches(".part"));
        let is = std::fs::read(self.state.path().join(path)).unwrap();
        std::fs::read(blob).is_ok_and(|blob| blob.starts_with(&is))
    }

    /// One error that says so, and nothing is left.
    fn lie(&self, what: &str, name: &str, lies: &dyn Fn(), says: &str) {
        publish(&self.state, &self.image);
        lies();
        let error = self.state.bad(&["image", "copy", &format!("reg:{name}"), "local:", "--alias", "img"]);
        assert!(error.contains(says), "{what}: {error}");
        let after = self.state.listing();
        let new = after.keys().filter(|p| !self.before.contains_key(*p) && !p.contains("/trash"));
        let strange: Vec<_> = new.filter(|p| !self.may_stay(p)).collect();
        assert!(strange.is_empty(), "{what}: {strange:?}");
        let _ = std::fs::remove_dir_all(self.state.path().join("cache/blobs"));
        self.state.assert_clean();
    }

    /// The truth is taken afterwards.
    fn end(self) {
        publish(&self.state, &self.image);
        self.state.good(&["image", "copy", "reg:test/app", "local:", "--alias", "img"]);
        drop(self.server);
        self.state.assert_clean();
    }
}

#[test]
fn a_registry_that_lies_about_contents_leaves_nothing() {
    let Some(liar) = Liar::new("a_registry_that_lies_about_contents_leaves_nothing") else { return };
    let Image { layers, config, manifest } = &liar.image;
    let lie = |what: &str, lies: &dyn Fn(), says: &str| liar.lie(what, "test/app", lies, says);
    let hash = "Hash mismatch for \"https://localhost:8443/v2/test/app/blobs/";
    lie("hash of a layer", &|| liar.zeros(&layers[2], 0), hash);
    lie("longer", &|| liar.zeros(&layers[0], 1), "The file has not the announced size");
    lie("shorter", &|| liar.zeros(&layers[0], -1), "The file has not the announced size");
    lie("gone", &|| std::fs::remove_file(liar.blob(&layers[1])).unwrap(), "The server answered with status 404");
    lie("hash of the configuration", &|| liar.zeros(config, 0), "Hash mismatch");
    lie("size of the configuration", &|| liar.zeros(config, 1), " bytes, not ");
    let padded = || tamper(&liar.path("manifests").join(manifest), "{", " {");
    liar.lie("hash of the manifest", &format!("test/app@{manifest}"), &padded, "Hash mismatch");
    liar.end();
}

#[test]
fn a_registry_that_lies_about_itself_leaves_nothing() {
    let Some(liar) = Liar::new("a_registry_that_lies_about_itself_leaves_nothing") else { return };
    let manifest = liar.path("manifests/latest");
    let change = |from: &str, to: &str, says: &str| {
        liar.lie(to, "test/app", &|| tamper(&manifest, from, to), says);
    };
    change("layer.v1.tar+gzip", "layer.v9.car", "Unknown kind of layer");
    change("manifest.v1+json", "manifest.v9+json", "Unknown kind of manifest");
    change("image.config.v1", "helm.config.v1", "Not an image but");
    change(&liar.image.layers[0], "sha256:../../../../etc/passwd", "Bad digest");
    for (what, text) in [("no json", "<html>".to_string()), ("deep json", "[".repeat(1 << 20))] {
        liar.lie(what, "test/app", &|| std::fs::write(&manifest, &text).unwrap(), "the manifest is no JSON");
    }
    let endless = || std::fs::File::options().write(true).open(&manifest).unwrap().set_len(64 << 20).unwrap();
    liar.lie("endless manifest", "test/app", &endless, "It is larger than 4194304 bytes");
    liar.lie("no such tag", "test/app:none", &|| {}, "status 404");
    liar.lie("another host", "test/far", &|| {}, "other.example");
    liar.lie("away from https", "test/clear", &|| {}, "away from https");
    liar.lie("a token server in the clear", "test/asks", &|| {}, "isn't reached over https");
    for bad in ["test/../app", "Test", "a b", "x@sha256:1", "a?b", "a:b:c"] {
        liar.lie(bad, bad, &|| {}, "");
    }
    liar.end();
}

/// Layers that are wrong in themselves.
#[test]
fn bad_layers_are_refused() {
    const NAME: &str = "bad_layers_are_refused";
    if !common_root::can_run(NAME) {
        return;
    }
    let state = State::new();
    let outside = state.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("victim"), "whole").unwrap();
    let away = outside.to_str().unwrap().to_string();
    let cases: [(&str, Vec<Entry<'_>>, &str); 6] = [
        ("climbs", vec![entry("../outside/victim")], "leads upwards"),
        ("hides above", vec![entry(".wh...")], "hides nothing"),
        ("hides climbing", vec![entry("../.wh.outside")], "leads upwards"),
        ("hard link out", vec![entry("x").what(What::Hard("../outside/victim"))], "leads upwards"),
        ("hard link to nothing", vec![entry("x").what(What::Hard("nothing"))], "Failed finding"),
        ("root", vec![entry(".").what(What::File(b""))], "root is not a directory"),
    ];
    let base = layer(&[entry("f")]);
    for (n, (what, entries, says)) in cases.iter().enumerate() {
        let dir = state.path().join(format!("bad-{n}"));
        layout(&dir, &[(&base, Packing::Gzip), (&layer(entries), Packing::Gzip)], "{}");
        let error = state.bad(&["image", "import", dir.to_str().unwrap()]);
        assert!(error.contains(says), "{what}: {error}");
    }
    // A link of a lower layer leads nowhere, whatever the upper one does with it.
    let link = layer(&[entry("f"), entry("out").what(What::Link(&away))]);
    for (n, top) in [entry("out/.wh.victim"), entry("out/.wh..wh..opq"), entry("out/victim")].into_iter().enumerate() {
        let dir = state.path().join(format!("link-{n}"));
        layout(&dir, &[(&link, Packing::Gzip), (&layer(&[top]), Packing::Gzip)], "{}");
        state.run(&["image", "import", dir.to_str().unwrap()]);
        assert_eq!(std::fs::read_to_string(outside.join("victim")).unwrap(), "whole");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    }
    // A blob of the layout that is a link, a user that is not there, and uncompressed layers that are others.
    let dir = state.path().join("config");
    let image = layout(&dir, &[(&base, Packing::Gzip)], r#"{"User": "nobody"}"#);
    let word = dir.to_str().unwrap();
    assert_eq!(state.bad(&["image", "import", word]), "Bad image: it has no user \"nobody\"");
    let blob = dir.join("blobs/sha256").join(&image.layers[0]["sha256:".len()..]);
    std::fs::rename(&blob, dir.join("moved")).unwrap();
    std::os::unix::fs::symlink("../../moved", &blob).unwrap();
    assert!(state.bad(&["image", "import", word]).contains("of the layout"));
    assert!(state.bad(&["image", "import", &format!("oci:{word}:none")]).ends_with("The layout has no image \"none\""));
    assert!(state.bad(&["image", "import", "oci:/nowhere"]).starts_with("Failed opening \"/nowhere\""));
    state.assert_clean();
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let Some((state, _)) = served("a_broken_download_goes_on_where_it_broke") else { return };
    // Something that does not compress.
    let mut bytes = vec![0; 8 << 20];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    let [base, ..] = layers(&busybox());
    let ballast = layer(&[entry("ballast").what(What::File(&bytes))]);
    let image = layout(&state.path().join("layout"), &[(&base, Packing::Gzip), (&ballast, Packing::Gzip)], CONFIG);
    publish(&state, &image);
    let slow = Server::start(state.path(), "location ~ /blobs/ { limit_rate 2m; }");
    add(&state);
    let part = state.path().join("cache/blobs").join(format!("{}.part", &image.layers[1]["sha256:".len()..]));
    let broken = || {
        let mut child = state.command(&["image", "copy", "reg:test/app", "local:", "--alias", "img"]).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while std::fs::metadata(&part).map_or(0, |m| m.len()) < 2 << 20 {
            assert!(Instant::now() < end, "nothing came");
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    };
    broken();
    drop(slow);
    assert!(state.good(&["image", "list", "-f", "csv"]).is_empty());
    let server = Server::start(state.path(), "");
    state.good(&["image", "copy", "reg:test/app", "local:", "--alias", "img"]);
    let asked = server.requests();
    assert!(asked.contains(&format!("GET /v2/test/app/blobs/{} 206", image.layers[1])), "{asked:?}");
    assert!(!part.exists());

    // The beginning of something else under that name is found out, and costs only time.
    state.good(&["image", "delete", "img"]);
    let _ = std::fs::remove_dir_all(state.path().join("cache/blobs"));
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::fs::write(&part, vec![7; 1 << 20]).unwrap();
    state.good(&["image", "copy", "reg:test/app", "local:", "--alias", "img"]);
    // So is a kept layer that was damaged.
    state.good(&["image", "delete", "img"]);
    let kept = part.with_extension("");
    let size = usize::try_from(std::fs::metadata(&kept).unwrap().len()).unwrap();
    std::fs::write(&kept, vec![7; size]).unwrap();
    server.requests();
    state.good(&["image", "copy", "reg:test/app", "local:", "--alias", "img"]);
    assert!(server.requests().contains(&format!("GET /v2/test/app/blobs/{} 200", image.layers[1])));
    state.assert_clean();
}

#[test]
fn one_fetches_a_layer_for_all_who_want_it() {
    let Some((state, image)) = served("one_fetches_a_layer_for_all_who_want_it") else { return };
    let server = Server::start(state.path(), "");
    add(&state);
    let names = ["c1", "c2", "c3"];
    let create = |name| state.command(&["create", "reg:test/app", name]).stdout(Stdio::null()).spawn().unwrap();
    for child in names.map(create) {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let asked = server.requests();
    for digest in &image.layers {
        let wanted = format!("GET /v2/test/app/blobs/{digest} 200");
        assert_eq!(asked.iter().filter(|r| **r == wanted).count(), 1, "{asked:?}");
    }
    names.iter().for_each(|name| drop(state.good(&["delete", "-f", name])));
    state.assert_clean();
}
