//! Names of datasets below that of the pool: what lies in one is told by its name.
//!
//! `containers/c1`, `custom/default_v`, and `containers-snapshots/c1::snap0` for a snapshot; what ZFS takes in no name
//! (zfs(8)) is written `:XX`. Below `new` is what is being put together, below `deleted` what waits to be removed. Nothing here
//! runs a program.

use crate::base::names::Fingerprint;
use crate::error::Result;
use crate::storage::formatted::Kind;
use crate::storage::volume::{Staging, Trash, Volume, VolumeKind};

/// The dataset with the mark, the copies of records and the places that volumes are mounted at.
pub(super) const HOME: &str = "stapes";
/// What is being put together.
const NEW: &str = "new";
/// What waits to be removed.
pub(super) const DELETED: &str = "deleted";
const IMAGES: &str = "images";
/// Longest name (ZFS_MAX_DATASET_NAME_LEN of libzfs, with its NUL), less that of a snapshot of ours.
const LONGEST: usize = 255 - 48;

/// The datasets of a pool that others lie in; what is cloned from others before those.
pub(super) const FOLDERS: [&str; 8] =
    [NEW, DELETED, "containers", "containers-snapshots", "custom", "custom-snapshots", "virtual-machines", IMAGES];

fn escape(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'@' => out.push_str("::"),
            b'-' | b'_' | b'.' => out.push(char::from(byte)),
            b if b.is_ascii_alphanumeric() => out.push(char::from(b)),
            b => out.push_str(&format!(":{b:02x}")),
        }
    }
    out
}

/// The name that was written so; None: it is not of our making.
fn unescape(text: &str) -> Option<String> {
    let mut name = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => match bytes.next()? {
                b':' => name.push(b'@'),
                first => {
                    let digits = [first, bytes.next()?];
                    name.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                }
            },
            b => name.push(b),
        }
    }
    // Only what we would have called so ourselves.
    String::from_utf8(name).ok().filter(|name| escape(name) == text)
}

/// Of a volume.
pub(super) fn volume(of: &Volume) -> String {
    format!("{}/{}", of.kind().folder(), escape(of.name()))
}

/// The volume of that kind that a name in its folder is of.
pub(super) fn parse_volume(kind: VolumeKind, name: &str) -> Option<Volume> {
    Volume::new(kind, &unescape(name)?).ok()
}

/// Of what is put together for a volume.
pub(super) fn staged(of: &Volume) -> String {
    format!("{NEW}/{}", escape(&of.token()))
}

/// Of an image.
pub(super) fn image(image: &Fingerprint) -> String {
    format!("{IMAGES}/{image}")
}

/// Of an image as it is for volumes in block mode with that kind of file system, as in Incus.
pub(super) fn image_as(image: &Fingerprint, kind: Kind) -> String {
    format!("{IMAGES}/{image}_{}", kind.name())
}

/// Of the form of an image called `name` while it is made of another one.
pub(super) fn new_form(name: &str) -> String {
    format!("{NEW}/{IMAGES}.{name}")
}

/// The image that a name in the folder of images is of, in whatever form.
pub(super) fn parse_image(name: &str) -> Option<Fingerprint> {
    let (of, kind) = name.split_once('_').map_or((name, None), |(of, kind)| (of, Some(kind)));
    kind.is_none_or(|kind| Kind::parse(kind).is_ok()).then(|| Fingerprint::parse(of).ok())?
}

/// Of an image that is being unpacked.
pub(super) fn staging(staging: &Staging) -> String {
    format!("{NEW}/{IMAGES}.{}", staging.as_str())
}

/// The image being unpacked that a name in the folder of what is new is of.
pub(super) fn parse_staging(name: &str) -> Option<Staging> {
    Staging::parse(name.strip_prefix(IMAGES)?.strip_prefix('.')?).ok()
}

/// Folder of what is put together.
pub(super) fn new() -> &'static str {
    NEW
}

/// Folder of images.
pub(super) fn images() -> &'static str {
    IMAGES
}

/// Of something in the trash.
pub(super) fn trash(trash: &Trash) -> String {
    format!("{DELETED}/{}", escape(trash.as_str()))
}

/// What in the trash a name in its folder is of.
pub(super) fn parse_trash(name: &str) -> Option<Trash> {
    Trash::parse(&unescape(name)?).ok()
}

/// It was an image.
pub(super) fn was_image(trash: &Trash) -> bool {
    trash.as_str().starts_with(IMAGES)
}

/// A fresh entry of the trash for what was at `rel` in the pool; shorter than others, for ZFS's names are.
pub(super) fn fresh_trash(rel: &str) -> Result<Trash> {
    Trash::parse(&format!("{}.{}", rel.replace('/', ":"), short()))
}

/// What nothing else is called.
fn short() -> String {
    let mut text = uuid::Uuid::new_v4().simple().to_string();
    text.truncate(12);
    text
}

/// What the snapshots that `to` is cloned from are called: to be found again by it, and each once.
pub(super) fn origin(to: &str) -> String {
    // FNV-1a: it need not be hard to guess.
    let hash = to.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!("@copy-{hash:016x}-")
}

/// One of those.
pub(super) fn fresh_origin(to: &str) -> String {
    format!("{}{}", origin(to), short())
}

/// Name of a snapshot that is found by what tells of it.
pub(super) fn fresh(what: &str) -> String {
    format!("@{what}-{}", short())
}

/// All names that a volume may come to bear below `root` fit.
pub(super) fn fits(root: &str, volume: &Volume) -> bool {
    let trashed = fresh_trash(&volume.path()).map(|t| trash(&t)).unwrap_or_default();
    [trashed, staged(volume)].iter().all(|name| root.len() + 1 + name.len() <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        use VolumeKind::{Container, ContainerSnapshot, Custom, CustomSnapshot};
        for (kind, name, dataset) in [
            (Container, "c1", "containers/c1"),
            (Container, "web_my-box", "containers/web_my-box"),
            (ContainerSnapshot, "c-1@snap0", "containers-snapshots/c-1::snap0"),
            (Custom, "default_ö x", "custom/default_:c3:b6:20x"),
            (CustomSnapshot, "default_v:@4@", "custom-snapshots/default_v:3a::4::"),
        ] {
            let found = Volume::new(kind, name).expect("valid");
            assert_eq!(volume(&found), dataset);
            let (_, last) = dataset.split_once('/').expect("two parts");
            assert_eq!(parse_volume(kind, last), Some(found.clone()), "{name}");
            let gone = fresh_trash(&found.path()).expect("valid");
            assert!(gone.was_volume(&found) && !was_image(&gone));
            assert_eq!(trash(&gone).split_once('/').and_then(|(_, name)| parse_trash(name)), Some(gone));
            assert!(fits("tank", &found));
        }
        for bad in ["a:4", "a:zz", "a:61", "a:", "ö"] {
            assert_eq!(parse_volume(Custom, bad), None, "{bad}");
        }
        let long = Volume::new(Custom, &"ö".repeat(50)).expect("valid");
        assert!(!fits("tank", &long));
        let image = Fingerprint::parse(&"a1".repeat(32)).expect("valid");
        assert_eq!(image_as(&image, Kind::Xfs), format!("images/{image}_xfs"));
        for (name, known) in
            [(format!("{image}"), true), (format!("{image}_ext4"), true), (format!("{image}_x"), false)]
        {
            assert_eq!(parse_image(&name), known.then(|| image.clone()), "{name}");
        }
        let on_the_way = new_form(image.as_ref());
        assert_eq!(on_the_way.split_once('/').and_then(|(_, name)| parse_staging(name)), None);
        let fresh = Staging::fresh();
        assert_eq!(staging(&fresh).split_once('/').and_then(|(_, name)| parse_staging(name)), Some(fresh));
        assert!(fresh_origin("new/x").starts_with(&origin("new/x")) && origin("new/x") != origin("new/y"));
    }
}
