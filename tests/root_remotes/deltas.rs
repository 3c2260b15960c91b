//! Differences to older images: fetched instead of the whole, and never trusted.

use super::image_server::{Server, Version, add_difference, difference, grown_squashfs, sha256, tree};
use super::support::{self, State};
use super::{add, hidden, metadata, prepared, read};
use std::os::unix::fs::PermissionsExt;

const OLD: &str = "20260101_00:00";
const NEW: &str = "20260202_00:00";

/// An older and a newer image.
struct Pair {
    meta: [Vec<u8>; 2],
    root: [Vec<u8>; 2],
}

impl Pair {
    fn version(&self, n: usize) -> Version<'_> {
        Version { serial: [OLD, NEW][n], meta: &self.meta[n], root: &self.root[n], ftype: "squashfs" }
    }

    /// Serves both, with a difference to the version `base`; what it is reached under.
    fn serve(&self, state: &State, base: &str, delta: &[u8]) -> String {
        tree(state.path(), &[self.version(0), self.version(1)]);
        let _ = std::fs::remove_dir_all(state.path().join("cache/simplestreams"));
        add_difference(state.path(), base, delta)
    }
}

/// A state that has the older one.
fn with_the_older(test: &str) -> Option<(State, Pair)> {
    for program in ["mksquashfs", "xdelta3"] {
        if !support::program(test, program) {
            return None;
        }
    }
    let state = prepared(test)?;
    let meta = [1_700_000_000, 1_800_000_000].map(|date| metadata(&state, date));
    let pair = Pair { meta, root: [read(&state, "rootfs.squashfs"), grown_squashfs(state.path())] };
    tree(state.path(), &[pair.version(0)]);
    let server = Server::start(state.path(), "");
    add(&state);
    state.good(&["image", "copy", "mine:test/1", "local:", "--alias", "img"]);
    drop(server);
    Some((state, pair))
}

#[test]
fn a_difference_to_an_older_image_is_enough() {
    let Some((state, pair)) = with_the_older("a_difference_to_an_older_image_is_enough") else { return };
    let [old, new] = &pair.root;
    // One that names programs: what it makes is to be packed with gzip.
    for (n, options) in [&[][..], &["-A", "x/G/y/G"]].iter().enumerate() {
        let delta = difference(state.path(), old, new, options);
        assert!(delta.len() < new.len() / 4, "{} of {}", delta.len(), new.len());
        let path = pair.serve(&state, OLD, &delta);
        let server = Server::start(state.path(), "");
        // What came from this name before would do.
        state.good(&["launch", "mine:test", "c1"]);
        let [meta, _] = pair.version(1).paths();
        assert_eq!(
            server.requests()[2..],
            [format!("GET /{path} 200"), format!("GET /{meta} 200")],
            "{options:?}: the whole was fetched"
        );
        assert_eq!(state.good(&["exec", "c1", "--", "cat", "/grown"]), "grown\n");
        state.good(&["delete", "-f", "c1"]);
        let fingerprint = pair.version(1).fingerprint();
        let file = state.images().join(format!("{fingerprint}.rootfs"));
        assert!(std::fs::read(&file).unwrap() == *new, "{options:?}");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(hidden(&state), Vec::<String>::new());
        if n == 0 {
            state.good(&["image", "delete", &fingerprint]);
        }
    }
    // Copied, it stays; the older one goes where it is followed.
    state.good(&["image", "delete", &pair.version(1).fingerprint()]);
    let server = Server::start(state.path(), "");
    assert_eq!(state.good(&["image", "refresh", "img"]), "Image refreshed successfully!\n");
    assert!(!server.requests().iter().any(|line| line.contains("rootfs")), "the whole was fetched");
    assert_eq!(state.good(&["image", "list", "-f", "csv", "-c", "F"]), format!("{}\n", pair.version(1).fingerprint()));
    // Nobody who has not the older one asks for the difference.
    state.good(&["image", "delete", "img"]);
    state.good(&["image", "copy", "mine:test/1", "local:"]);
    assert!(!server.requests().iter().any(|line| line.contains("vcdiff")));
    state.assert_clean();
}

#[test]
fn a_wrong_difference_costs_only_time() {
    let Some((state, pair)) = with_the_older("a_wrong_difference_costs_only_time") else { return };
    let [old, new] = &pair.root;
    let good = difference(state.path(), old, new, &[]);
    let mut other = new.clone();
    *other.last_mut().unwrap() ^= 1;
    let bomb = vec![0; 256 << 20];
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let [_, root] = pair.version(1).paths();
    let whole = format!("GET /{root} 200");
    let server = Server::start(state.path(), "");
    let case = |what: &str, base: &str, delta: &[u8], asked: bool, change: &dyn Fn(&std::path::Path)| {
        let path = pair.serve(&state, base, delta);
        change(&state.path().join("www").join(&path));
        server.requests();
        state.good(&["image", "copy", "mine:test/1", "local:", "--alias", "new"]);
        let requests = server.requests();
        assert_eq!(requests.iter().any(|line| line.contains(&path)), asked, "{what}: {requests:?}");
        assert!(requests.contains(&whole), "{what}: {requests:?}");
        let fingerprint = pair.version(1).fingerprint();
        let file = std::fs::read(state.images().join(format!("{fingerprint}.rootfs"))).unwrap();
        assert_eq!(sha256(&[&file]), sha256(&[new]), "{what}");
        assert_eq!(hidden(&state), Vec::<String>::new(), "{what}");
        state.assert_clean();
        state.good(&["image", "delete", "new"]);
    };
    let as_it_is = |_: &std::path::Path| {};
    case("garbage", OLD, &[7; 5000], true, &as_it_is);
    case("nothing but a header", OLD, &good[..20], true, &as_it_is);
    case("damaged", OLD, &damaged, true, &as_it_is);
    case("of another file", OLD, &difference(state.path(), old, &other, &[]), true, &as_it_is);
    case("of a shorter file", OLD, &difference(state.path(), old, &new[..new.len() / 2], &[]), true, &as_it_is);
    case("of an endless file", OLD, &difference(state.path(), old, &bomb, &[]), true, &as_it_is);
    case("to another file", OLD, &difference(state.path(), &other, new, &[]), true, &as_it_is);
    case("another hash", OLD, &good, true, &|path| std::fs::write(path, vec![0; good.len()]).unwrap());
    case("longer", OLD, &good, true, &|path| std::fs::write(path, vec![0; good.len() + 1]).unwrap());
    case("gone", OLD, &good, true, &|path| std::fs::remove_file(path).unwrap());
    case("to no version", "20250101_00:00", &good, false, &as_it_is);
    case("to itself", NEW, &good, false, &as_it_is);
    case("larger than the whole", OLD, &vec![1; new.len() + 1], false, &as_it_is);
    state.assert_clean();
}
