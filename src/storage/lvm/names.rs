//! Names of logical volumes: what lies in one is told by its name, in Incus's way, so that nothing else has to be kept.
//!
//! `containers_c1`, `custom_default_v`, and `containers_c1-snap0` for a snapshot: a "-" of a name is doubled, and what LVM takes in
//! no name (lvm(8), "VALID NAMES") is written `+XX`. `new_…` is being put together, `trash_…` waits to be removed. Nothing
//! here runs a program.

use crate::base::names::Fingerprint;
use crate::storage::volume::{Staging, Trash, Volume, VolumeKind};
use std::path::PathBuf;

/// Parts that LVM keeps for itself.
const RESERVED: &[&str] = &[
    "_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage",
    "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig",
];
/// Longest name of a device (DM_NAME_LEN of linux/dm-ioctl.h), less what LVM appends to some.
const LONGEST: usize = 118;
const NEW: &str = "new_";
const TRASH: &str = "trash_";
const IMAGES: &str = "images_";

fn escape(name: &str) -> String {
    let mut out = String::new();
    for (i, byte) in name.bytes().enumerate() {
        match byte {
            b'-' if i > 0 => out.push_str("--"),
            b'_' | b'.' => out.push(char::from(byte)),
            b if b.is_ascii_alphanumeric() => out.push(char::from(b)),
            b => out.push_str(&format!("+{b:02x}")),
        }
    }
    out
}

/// The names in `text`, which single dashes stand between; None: it is not of our making.
fn unescape(text: &str) -> Option<Vec<String>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let here = parts.last_mut()?;
        match byte {
            b'-' if bytes.next_if_eq(&b'-').is_some() => here.push(b'-'),
            b'-' => parts.push(Vec::new()),
            b'+' => {
                let digits = [bytes.next()?, bytes.next()?];
                here.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            b => here.push(b),
        }
    }
    parts.into_iter().map(|part| String::from_utf8(part).ok()).collect()
}

/// With what LVM keeps for itself out of the way.
fn allowed(mut name: String) -> String {
    for word in RESERVED {
        let hidden = format!("_+{:02x}{}", word.as_bytes()[1], &word[2..]);
        name = name.replace(word, &hidden);
    }
    name
}

/// The folder of what a snapshot of this kind is of.
fn family(kind: VolumeKind) -> VolumeKind {
    match kind {
        VolumeKind::ContainerSnapshot => VolumeKind::Container,
        VolumeKind::CustomSnapshot => VolumeKind::Custom,
        other => other,
    }
}

/// Of a volume.
pub(super) fn volume(volume: &Volume) -> String {
    let name = match volume.snapshot_of() {
        Some((of, snapshot)) => format!("{}-{}", escape(of), escape(snapshot)),
        None => escape(volume.name()),
    };
    allowed(format!("{}_{name}", family(volume.kind()).folder()))
}

/// The volume that a name is of.
pub(super) fn parse_volume(name: &str) -> Option<Volume> {
    let (folder, rest) = name.split_once('_')?;
    let kind = VolumeKind::ALL.into_iter().find(|k| k.folder() == folder)?;
    let found = match &unescape(rest)?[..] {
        [name] => Volume::new(kind, name).ok()?,
        [of, snapshot] => {
            let kind = VolumeKind::ALL.into_iter().find(|k| *k != kind && family(*k) == kind)?;
            Volume::new(kind, &format!("{of}@{snapshot}")).ok()?
        }
        _ => return None,
    };
    // Only what we would have called so ourselves.
    (volume(&found) == name).then_some(found)
}

/// Of what is put together for a volume.
pub(super) fn staged(of: &Volume) -> String {
    format!("{NEW}{}", volume(of))
}

/// Of an image.
pub(super) fn image(image: &Fingerprint) -> String {
    format!("{IMAGES}{image}")
}

/// The image that a name is of.
pub(super) fn parse_image(name: &str) -> Option<Fingerprint> {
    Fingerprint::parse(name.strip_prefix(IMAGES)?).ok()
}

/// Of an image that is being unpacked.
pub(super) fn staging(staging: &Staging) -> String {
    format!("{NEW}{IMAGES}{}", staging.as_str())
}

/// The image being unpacked that a name is of.
pub(super) fn parse_staging(name: &str) -> Option<Staging> {
    Staging::parse(name.strip_prefix(NEW)?.strip_prefix(IMAGES)?).ok()
}

/// Of something in the trash.
pub(super) fn trash(trash: &Trash) -> String {
    allowed(format!("{TRASH}{}", escape(trash.as_str())))
}

/// What in the trash a name is of.
pub(super) fn parse_trash(name: &str) -> Option<Trash> {
    match &unescape(name.strip_prefix(TRASH)?)?[..] {
        [name] => Trash::parse(name).ok(),
        _ => None,
    }
}

/// A fresh entry of the trash for what was at `rel` in the pool; shorter than others, for LVM's names are.
pub(super) fn fresh_trash(rel: &str) -> crate::error::Result<Trash> {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    Trash::parse(&format!("{}.{}", rel.replace('/', ":"), &unique[..8]))
}

/// It is one of ours, whatever of.
pub(super) fn is_ours(name: &str) -> bool {
    let new = name.strip_prefix(NEW).and_then(parse_volume).is_some() || parse_staging(name).is_some();
    new || parse_volume(name).is_some() || parse_image(name).is_some() || parse_trash(name).is_some()
}

/// The name of a logical volume's device (dmsetup(8), "NAMES").
pub(super) fn device(group: &str, name: &str) -> String {
    format!("{}-{}", group.replace('-', "--"), name.replace('-', "--"))
}

/// Its path.
pub(super) fn device_path(group: &str, name: &str) -> PathBuf {
    PathBuf::from("/dev/mapper").join(device(group, name))
}

/// All names that a volume may come to bear in the group fit.
pub(super) fn fits(group: &str, volume: &Volume) -> bool {
    let trashed = fresh_trash(&volume.path()).map(|t| trash(&t)).unwrap_or_default();
    [trashed, staged(volume)].iter().all(|name| device(group, name).len() <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: VolumeKind, name: &str) -> Volume {
        Volume::new(kind, name).expect("valid")
    }

    #[test]
    fn names_are_incus_s_and_come_back() {
        use VolumeKind::{Container, ContainerSnapshot, Custom, CustomSnapshot};
        for (found, name) in [
            (of(Container, "c1"), "containers_c1"),
            (of(Container, "web_my-box"), "containers_web_my--box"),
            (of(ContainerSnapshot, "c-1@snap0"), "containers_c--1-snap0"),
            (of(Custom, "default_v"), "custom_default_v"),
            (of(Custom, "default_ö x"), "custom_default_+c3+b6+20x"),
            (of(CustomSnapshot, "default_v-@-s"), "custom_default_v---+2ds"),
            (of(Container, "tmeta"), "containers_+74meta"),
            (of(Custom, "x_rimage_0"), "custom_x_+72image_0"),
        ] {
            assert_eq!(volume(&found), name);
            assert_eq!(parse_volume(name), Some(found.clone()), "{name}");
            assert!(is_ours(name) && is_ours(&staged(&found)));
            assert_eq!(parse_volume(&staged(&found)), None);
            let gone = fresh_trash(&found.path()).expect("valid");
            assert!(gone.was_volume(&found));
            assert_eq!(parse_trash(&trash(&gone)), Some(gone));
        }
        for bad in
            ["root", "swap_1", "containers_", "containers_a-b-c", "containers_+7", "images_x", "custom_+74", "new_x"]
        {
            assert!(!is_ours(bad), "{bad}");
        }
    }

    #[test]
    fn devices_double_dashes_and_have_short_names() {
        assert_eq!(device("my-vg", "containers_a--b"), "my--vg-containers_a----b");
        assert!(fits("default", &of(VolumeKind::Container, &"x".repeat(63))));
        assert!(!fits("default", &of(VolumeKind::Container, &"x-".repeat(31))));
        let image = Fingerprint::parse(&"a".repeat(64)).expect("valid");
        assert_eq!(parse_image(&super::image(&image)), Some(image));
        let fresh = Staging::fresh();
        assert_eq!(parse_staging(&staging(&fresh)), Some(fresh));
    }
}
