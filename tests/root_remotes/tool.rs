//! Against the tool of Incus that makes trees of images (`incus-simplestreams`): its trees are remotes for us, and ours are what
//! it makes of the same files.

use super::image_server::Server;
use super::support::{self, State};
use super::{add, common_root, prepared};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const TOOL: &str = "incus-simplestreams";

/// A state, unless something is missing here.
fn with_tool(test: &str) -> Option<State> {
    if !support::program(test, "mksquashfs") {
        return None;
    }
    if !common_root::have(TOOL) {
        let why =
            "the program \"incus-simplestreams\" is missing (Debian's incus-extra, for Debian 12 in its backports)";
        common_root::skip(test, why);
        return None;
    }
    prepared(test)
}

/// What the tool says in a tree.
#[track_caller]
fn tool(tree: &Path, words: &[&str]) -> String {
    std::fs::create_dir_all(tree).unwrap();
    let mut command = Command::new(TOOL);
    let said = command.args(words).current_dir(tree).env("TZ", "UTC").output().unwrap();
    assert!(said.status.success(), "{words:?}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

/// Whether it takes archives of root file systems: since Incus 6.1 or so.
fn takes_archives(state: &State, files: &Files) -> bool {
    let scratch = state.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let said = Command::new(TOOL).args(["add", &files.old, &files.root]).current_dir(&scratch).output().unwrap();
    let refused = String::from_utf8_lossy(&said.stderr).contains("Unsupported data type");
    assert!(said.status.success() != refused, "{said:?}");
    !refused
}

/// The metadata of an image as the tool wants it.
fn yaml(release: &str, date: u32) -> String {
    let (arch, debian) = (std::env::consts::ARCH, debian());
    format!(
        "architecture: {arch}\ncreation_date: {date}\nproperties:\n  architecture: {debian}\n  description: Debian\n  \
         os: Debian\n  release: {release}\n  variant: default\n"
    )
}

fn debian() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// Archives of the images: metadata of two dates, a root file system as squashfs and as archive, another release as one archive.
struct Files {
    old: String,
    new: String,
    squashfs: String,
    root: String,
    unified: String,
}

fn files(state: &State) -> Files {
    let dir = state.path().join("archives");
    let pack = |name: &str, text: &str, what: &[&str]| {
        let from = dir.join(format!("{name}.d"));
        std::fs::create_dir_all(from.join("rootfs")).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(state.path().join("rootfs.tar")).arg("-C").arg(from.join("rootfs"));
        assert!(tar.status().unwrap().success());
        std::fs::write(from.join("metadata.yaml"), text).unwrap();
        let to = dir.join(name).to_str().unwrap().to_string();
        let mut tar = Command::new("tar");
        assert!(tar.arg("-cJf").arg(&to).arg("-C").arg(&from).args(what).status().unwrap().success());
        to
    };
    let (old, new) = (yaml("bookworm", 1_700_000_000), yaml("bookworm", 1_800_000_000));
    Files {
        old: pack("old.tar.xz", &old, &["metadata.yaml"]),
        new: pack("new.tar.xz", &new, &["metadata.yaml"]),
        squashfs: state.path().join("rootfs.squashfs").to_str().unwrap().to_string(),
        root: pack("root.tar.xz", "", &["-C", "rootfs", "."]),
        unified: pack("unified.tar.xz", &yaml("trixie", 1_750_000_000), &["metadata.yaml", "rootfs"]),
    }
}

#[test]
fn squashfs_from_the_tool_of_incus() {
    let Some(state) = with_tool("squashfs_from_the_tool_of_incus") else { return };
    let files = files(&state);
    let www = state.path().join("www");
    tool(&www, &["add", &files.old, &files.squashfs, "--alias", "debian/12"]);
    let archives = takes_archives(&state, &files);
    if archives {
        tool(&www, &["add", &files.old, &files.root]);
    }
    tool(&www, &["add", &files.unified, "--alias", "debian/13", "--no-default-alias"]);
    let server = Server::start(state.path(), "");
    add(&state);
    // The same images under the same names.
    let prints = |text: &str| {
        let mut all: Vec<String> = text.lines().map(|line| line.split(',').next().unwrap().to_string()).collect();
        all.sort();
        all
    };
    let theirs = tool(&www, &["list", "-f", "csv"]);
    let ours = state.good(&["image", "list", "mine:", "-f", "csv", "-c", "F"]);
    assert_eq!((prints(&ours), prints(&ours).len()), (prints(&theirs), 2 + usize::from(archives)));
    let list = state.good(&["image", "list", "mine:", "release=bookworm", "type=container", "-f", "csv", "-c", "Lat"]);
    assert!(list.contains("debian/12") && list.contains("Debian/bookworm/default"), "{list}");
    let info = state.good(&["image", "info", "mine:debian/12"]);
    for line in ["Type: container", "    release: bookworm", "    type: squashfs", "    variant: default"] {
        assert!(info.contains(&format!("{line}\n")), "{line}: {info}");
    }
    let info = state.good(&["image", "info", "mine:debian/13"]);
    assert!(info.contains("    release: trixie\n") && !info.contains("Debian/trixie"), "{info}");
    for (name, instance) in [("debian/12", "c1"), ("debian/13", "c2")] {
        state.good(&["launch", &format!("mine:{name}"), instance]);
        state.good(&["exec", instance, "--", "true"]);
    }
    state.good(&["image", "copy", "mine:Debian/bookworm/default", "local:", "--alias", "theirs"]);
    assert!(state.good(&["image", "list", "-f", "csv", "-c", "l"]).lines().any(|line| line == "theirs"));
    if archives {
        state.good(&["run", &format!("mine:{}", sum(&[&files.old, &files.root])), "--", "true"]);
    }

    // It adds a version, and takes an image away.
    tool(&www, &["add", &files.new, &files.squashfs]);
    assert_eq!(state.good(&["image", "refresh", "theirs"]), "Image refreshed successfully!\n");
    let newest = sum(&[&files.new, &files.squashfs]);
    assert!(state.good(&["image", "info", "theirs"]).contains(&format!("Fingerprint: {newest}\n")));
    tool(&www, &["remove", &newest]);
    let _ = std::fs::remove_dir_all(state.path().join("cache/simplestreams"));
    let old = sum(&[&files.old, &files.squashfs]);
    assert!(state.good(&["image", "info", "mine:debian/12"]).contains(&format!("Fingerprint: {old}\n")));
    drop(server);
    state.good(&["delete", "-f", "c1", "c2"]);
    state.assert_clean();
}

/// The hash of files joined.
fn sum(files: &[&str]) -> String {
    let paths: Vec<&Path> = files.iter().map(|file| Path::new(*file)).collect();
    support::sha256(&paths)
}

fn json(tree: &Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(tree.join("streams/v1").join(name)).unwrap()).unwrap()
}

/// A tree's list of images without what each names as it likes (files), and what only newer tools write.
fn comparable(tree: &Path) -> Value {
    let mut list = json(tree, "images.json");
    for product in list["products"].as_object_mut().unwrap().values_mut() {
        for version in product["versions"].as_object_mut().unwrap().values_mut() {
            for item in version["items"].as_object_mut().unwrap().values_mut() {
                let fields = item.as_object_mut().unwrap();
                let path = fields.remove("path").unwrap();
                assert!(tree.join(path.as_str().unwrap()).is_file(), "{path}");
                if let Some(kind) = fields.remove("combined_type") {
                    assert_eq!(kind, "container");
                }
            }
        }
    }
    list
}

/// Both trees say the same, and the tool finds ours in order.
#[track_caller]
fn agree(ours: &Path, theirs: &Path) {
    assert_eq!(comparable(ours), comparable(theirs));
    // It has them in no order.
    let index = |tree: &Path| {
        let mut index = json(tree, "index.json");
        index["index"]["images"]["products"].as_array_mut().unwrap().sort_by_key(Value::to_string);
        index
    };
    assert_eq!(index(ours), index(theirs));
    tool(ours, &["verify"]);
    let listed = |tree: &Path| {
        let mut lines: Vec<String> = tool(tree, &["list", "-f", "csv"]).lines().map(ToString::to_string).collect();
        lines.sort();
        lines
    };
    assert_eq!(listed(ours), listed(theirs));
}

#[test]
fn an_exported_tree_is_what_the_tool_of_incus_makes() {
    let Some(state) = with_tool("an_exported_tree_is_what_the_tool_of_incus_makes") else { return };
    let files = files(&state);
    let trees: [PathBuf; 2] = ["ours", "theirs"].map(|name| state.path().join(name));
    let [ours, theirs] = &trees;
    let export = |tree: &Path, words: &[&str], alias: &[&str]| {
        let named: Vec<&str> = alias.iter().flat_map(|name| ["--alias", name]).collect();
        let image = state.import(&[words, &named].concat());
        state.good(&["image", "export", "--simplestreams", tree.to_str().unwrap(), &image]);
        image
    };
    // One after the other into both.
    let steps: [(&[&str], &[&str]); 4] = [
        (&[&files.old, &files.squashfs], &["debian/12"]),
        (&[&files.new, &files.squashfs], &[]),
        (&[&files.unified], &["another", "debian/13"]),
        (&[&files.old, &files.root], &[]),
    ];
    let steps = &steps[..3 + usize::from(takes_archives(&state, &files))];
    let mut images = Vec::new();
    for &(words, alias) in steps {
        images.push(export(ours, words, alias));
        let named: Vec<&str> = alias.iter().flat_map(|name| ["--alias", name]).collect();
        tool(theirs, &[&["add"], words, &named].concat());
        agree(ours, theirs);
    }
    // Each goes on with the other's tree.
    state.good(&["image", "delete", &images[1]]);
    for image in [&images[1], &images[0]] {
        tool(ours, &["remove", image]);
        tool(theirs, &["remove", image]);
    }
    agree(ours, theirs);
    tool(ours, &["add", &files.new, &files.squashfs]);
    assert_eq!(export(theirs, &[&files.new, &files.squashfs], &[]), images[1]);
    agree(ours, theirs);
    // Nothing in ours is a file that it does not know.
    tool(ours, &["prune"]);
    agree(ours, theirs);
    // It does look.
    let file = ours.join(json(ours, "images.json")["products"]["Debian:trixie:default:".to_string() + debian()]
        ["versions"]["202506151506"]["items"]["incus_combined.tar.gz"]["path"].as_str().unwrap());
    std::fs::write(file, "other").unwrap();
    assert!(!Command::new(TOOL).arg("verify").current_dir(ours).status().unwrap().success());
    state.assert_clean();
}
