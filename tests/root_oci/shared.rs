//! Layers that images have in common are unpacked once, in a pool that keeps layers apart, and stay as long as one has them.

use super::image_server::Server;
use super::oci_common::{Entry, What, entry, layer, layout, sha256};
use super::servers::{DockerRegistry, PROXY, have, push};
use super::{CONFIG, Packing, State, add, busybox, certificates, common_root, layers, rootfs, tree, unpacked};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The layers in the pool.
fn in_pool(state: &State) -> BTreeSet<String> {
    let names = std::fs::read_dir(state.pool().join("images")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".layer").map(ToString::to_string)).collect()
}

/// Those of an image, topmost first.
fn of(state: &State, image: &str) -> Vec<String> {
    let text = std::fs::read_to_string(unpacked(state, image).join("layers")).unwrap();
    text.lines().map(ToString::to_string).collect()
}

/// Bytes on disk.
fn disk_use(at: &Path) -> u64 {
    let meta = std::fs::symlink_metadata(at).unwrap();
    let inside = if meta.is_dir() { std::fs::read_dir(at).ok() } else { None };
    meta.blocks() * 512 + inside.into_iter().flatten().map(|e| disk_use(&e.unwrap().path())).sum::<u64>()
}

fn says(state: &State, instance: &str, file: &str) -> String {
    state.good(&["exec", instance, "--", "/bin/busybox", "cat", file])
}

/// What works on instances sees one tree: here on `c2`, of the second image, and `c1`, of the first.
fn as_one_tree(state: &State) {
    state.good(&["exec", "c2", "--", "/bin/busybox", "rm", "/op/new"]);
    state.good(&["exec", "c2", "--", "/bin/sh", "-c", "echo own >/etc/own"]);
    state.good(&["snapshot", "create", "c2", "s1"]);
    state.good(&["copy", "c2/s1", "c3"]);
    state.good(&["start", "c3"]);
    assert_eq!(says(state, "c3", "/etc/own"), "own\n");
    assert_ne!(state.run(&["exec", "c3", "--", "/bin/busybox", "test", "-e", "/op/new"]).code, 0);
    state.good(&["publish", "c3", "--force", "--alias", "published"]);
    state.good(&["launch", "published", "c4"]);
    assert_eq!(says(state, "c4", "/top"), "two");
    state.good(&["stop", "-f", "c1"]);
    state.good(&["rebuild", "reg:test/two:1", "c1"]);
    state.good(&["start", "c1"]);
    assert_eq!(says(state, "c1", "/top"), "two");
}

#[test]
fn images_share_their_layers() {
    const NAME: &str = "images_share_their_layers";
    if !have(NAME, &["nginx", "openssl", "docker-registry", "skopeo"]) {
        return;
    }
    let state = State::new();
    certificates(state.path());
    let _registry = DockerRegistry::start(state.path());
    let [base, middle, _] = layers(&busybox());
    let ballast = vec![b'x'; 4 << 20];
    let heavy = layer(&[entry("heavy").what(What::File(&ballast))]);
    let below = [(&base[..], Packing::Gzip), (&heavy, Packing::Gzip), (&middle, Packing::Plain)];
    let image = |name: &str, top: &[u8]| {
        let dir = state.path().join(name);
        let image = layout(&dir, &[&below[..], &[(top, Packing::Gzip)]].concat(), CONFIG);
        push(&dir, &format!("test/{name}:1"));
        image
    };
    let one = image("one", &layer(&[entry("top").what(What::File(b"one")), entry(".wh.heavy")]));
    let two = image("two", &layer(&[entry("top").what(What::File(b"two"))]));
    let server = Server::start(state.path(), PROXY);
    add(&state);
    state.good(&["launch", "reg:test/one:1", "c1"]);
    let images = state.pool().join("images");
    let before = disk_use(&images);

    // The second brings its own layer and no other, even where nothing is kept of what was downloaded.
    std::fs::remove_dir_all(state.path().join("cache/blobs")).unwrap();
    server.requests();
    state.good(&["launch", "reg:test/two:1", "c2"]);
    let blobs: Vec<String> = server.requests().into_iter().filter(|r| r.contains("/blobs/")).collect();
    let blob = |digest: &str| format!("GET /v2/test/two/blobs/{digest} 200");
    assert_eq!(blobs, [blob(&two.config), blob(&two.layers[3])]);
    assert!(disk_use(&images) - before < 256 << 10, "{before} {}", disk_use(&images));
    let (ones, twos) = (of(&state, &one.fingerprint()), of(&state, &two.fingerprint()));
    assert_eq!((ones.len(), &ones[1..]), (4, &twos[1..]));
    assert_eq!(in_pool(&state), ones.iter().chain(&twos).cloned().collect());
    // image-spec 1.1: the lowest layer is known as itself, the others with what is below them.
    assert_eq!(format!("sha256:{}", ones[3]), sha256(&base));
    let next = sha256(format!("sha256:{} {}", ones[3], sha256(&heavy)).as_bytes());
    assert_eq!(format!("sha256:{}", ones[2]), next);

    for (instance, word) in [("c1", "one"), ("c2", "two")] {
        assert_eq!(says(&state, instance, "/top"), word);
        assert_eq!(says(&state, instance, "/two"), "one");
    }
    assert_eq!(says(&state, "c2", "/heavy").len(), ballast.len());
    assert_ne!(state.run(&["exec", "c1", "--", "/bin/busybox", "test", "-e", "/heavy"]).code, 0);

    as_one_tree(&state);

    // What one image alone had goes with it.
    state.good(&["image", "delete", &one.fingerprint()]);
    assert_eq!(in_pool(&state), twos.iter().cloned().collect());
    assert_eq!(state.good(&["file", "pull", "c2/top", "-"]), "two");
    state.good(&["image", "delete", &two.fingerprint()]);
    assert_eq!(in_pool(&state), twos.iter().cloned().collect(), "instances have it");
    state.good(&["delete", "-f", "c1", "c2", "c3", "c4"]);
    assert!(in_pool(&state).is_empty());
    state.assert_clean();
}

/// The tree is the same whether the layers below came with the image or were there.
#[test]
fn layers_that_were_there_make_the_same_tree() {
    const NAME: &str = "layers_that_were_there_make_the_same_tree";
    if !common_root::can_run(NAME) {
        return;
    }
    let [base, middle, top] = layers(&busybox());
    let all = [(&base[..], Packing::Gzip), (&middle[..], Packing::Plain), (&top[..], Packing::Zstd)];
    let (fresh, filled) = (State::new(), State::new());
    let dir = fresh.path().join("layout");
    layout(&dir, &all, CONFIG);
    let word = dir.to_str().unwrap();
    let image = fresh.import(&[word]);
    for count in 1..all.len() {
        let dir = filled.path().join(format!("first-{count}"));
        layout(&dir, &all[..count], CONFIG);
        filled.import(&[dir.to_str().unwrap(), "--alias", &format!("first-{count}")]);
    }
    assert_eq!(filled.import(&[word, "--alias", "all"]), image);
    assert_eq!(in_pool(&filled).len(), all.len());
    assert_eq!(tree(&rootfs(&fresh, &image)), tree(&rootfs(&filled, &image)));
    // In any order.
    filled.good(&["image", "delete", "first-1", "first-2"]);
    assert_eq!(in_pool(&filled), of(&filled, &image).into_iter().collect());
    filled.good(&["launch", "all", "c1"]);
    assert_eq!(says(&filled, "c1", "/wipe2"), "wipe2");
    filled.good(&["delete", "-f", "c1"]);
    filled.assert_clean();
    fresh.assert_clean();
}

/// What only doctor sees: layers without an image, and lists that cannot be read.
#[test]
fn layers_without_an_image_are_found() {
    const NAME: &str = "layers_without_an_image_are_found";
    if !common_root::can_run(NAME) {
        return;
    }
    let state = State::new();
    let [base, ..] = layers(&busybox());
    let import = |name: &str, top: Entry<'_>| {
        let dir = state.path().join(name);
        layout(&dir, &[(&base, Packing::Gzip), (&layer(&[top]), Packing::Gzip)], CONFIG);
        state.import(&[dir.to_str().unwrap(), "--alias", name])
    };
    let one = import("one", entry("one"));
    import("two", entry("two"));
    let [alone, shared] = of(&state, &one).try_into().unwrap();
    // As if a power cut had taken the image and left its layer.
    state.good(&["image", "delete", "one"]);
    let place = |layer: &str| state.pool().join(format!("images/{layer}.layer"));
    std::fs::create_dir_all(place(&alone).join("sub")).unwrap();
    let said = state.run(&["doctor"]);
    assert!(said.code != 0 && said.out.contains(&format!("what is left of image {}", &alone[..12])), "{said:?}");
    state.run(&["doctor", "--fix"]);
    assert!(!place(&alone).exists() && place(&shared).exists());
    state.assert_clean();
    // Where it is not clear what an image needs, nothing goes.
    let three = import("three", entry("three"));
    let (list, all) = (unpacked(&state, &three).join("layers"), in_pool(&state));
    let text = std::fs::read(&list).unwrap();
    for bad in ["../../x\n", ""] {
        std::fs::write(&list, bad).unwrap();
        state.run(&["image", "delete", "two"]);
        assert_eq!(in_pool(&state), all);
        assert!(state.run(&["create", "three", "c1"]).err.contains("/layers\": "));
    }
    std::fs::write(&list, text).unwrap();
    state.run(&["doctor", "--fix"]);
    assert_eq!(in_pool(&state), of(&state, &three).into_iter().collect());
    state.assert_clean();
}
