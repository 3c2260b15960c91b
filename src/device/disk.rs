//! `disk`: the root volume, a custom volume, a path of the host, or a tmpfs.

use super::Device;
use crate::base::{boolean, size};
use crate::error::{Error, Result};
use crate::model::attach::{Attachment, Mount, MountSource, Need, Supply};
use crate::model::instance::Device as Options;
use crate::model::keys::device::disk;
use std::path::PathBuf;

/// A disk device.
#[derive(Debug)]
pub(super) struct Disk {
    name: String,
    path: String,
    readonly: bool,
    source: Source,
    required: bool,
    shift: bool,
    recursive: bool,
    propagation: Option<String>,
    options: Vec<String>,
}

/// Owner, group and mode of what is made, as far as the device says them.
type Initial = (Option<u32>, Option<u32>, Option<u32>);

#[derive(Debug)]
enum Source {
    Root,
    Host(PathBuf),
    Volume { pool: String, volume: String, path: Option<PathBuf>, initial: Initial },
    Tmpfs { size: Option<u64>, uid: u32, gid: u32, mode: u32 },
}

impl Disk {
    pub(super) fn load(name: &str, o: &Options) -> Result<Self> {
        let flag = |key: &str, default| o.get(key).map_or(Ok(default), |v| boolean::parse(v));
        let path = o.get("path").cloned().unwrap_or_default();
        let source = source(name, o, &path)?;
        if path.is_empty() {
            return Err(Error::invalid(format!(
                "Invalid device \"{name}\": Disk entry is missing an absolute \"path\" in the instance"
            )));
        }
        // As Incus: one that is relative begins at the root.
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let raw = o.get("raw.mount.options").map(String::as_str).unwrap_or_default();
        Ok(Self {
            name: name.to_string(),
            path,
            readonly: flag("readonly", false)?,
            source,
            required: disk::is_required(o),
            shift: flag("shift", false)?,
            recursive: flag("recursive", false)?,
            propagation: o.get("propagation").filter(|p| !p.is_empty()).cloned(),
            options: raw.split(',').filter(|s| !s.is_empty()).map(str::to_string).collect(),
        })
    }

    fn mount(&self, source: MountSource, shift: bool) -> Attachment {
        Attachment::Mount(Mount {
            device: self.name.clone(),
            source,
            target: PathBuf::from(&self.path),
            readonly: self.readonly,
            shift,
            recursive: self.recursive,
            propagation: self.propagation.clone(),
            options: self.options.clone(),
        })
    }
}

fn source(name: &str, o: &Options, path: &str) -> Result<Source> {
    let given = o.get("source").map(String::as_str).unwrap_or_default();
    if path == "/" && given.is_empty() {
        return Ok(Source::Root);
    }
    if given == "tmpfs:" {
        return tmpfs(o);
    }
    if let disk::Source::Volume { pool, volume, path } = disk::source(o)
        && !volume.is_empty()
    {
        // What is only slashes is the volume itself.
        let path = path.map(|p| p.trim_matches('/')).filter(|p| !p.is_empty()).map(PathBuf::from);
        return Ok(Source::Volume { pool: pool.to_string(), volume: volume.to_string(), path, initial: initial(o)? });
    }
    if given.starts_with('/') {
        return Ok(Source::Host(given.into()));
    }
    let what = if given.is_empty() { "a disk without a source".to_string() } else { format!("source \"{given}\"") };
    Err(Error::unsupported(format!("Failed to start device \"{name}\": {what} is not supported by this version"))
        .hint("use a volume of a pool, an absolute path of the host, or \"tmpfs:\""))
}

fn initial(o: &Options) -> Result<Initial> {
    let read = |key: &str, radix| {
        let value = o.get(key).filter(|v| !v.is_empty());
        let wrong = |v: &String| Error::invalid(format!("Invalid \"{key}\": {v}"));
        value.map(|v| u32::from_str_radix(v, radix).map_err(|_| wrong(v))).transpose()
    };
    Ok((read("initial.uid", 10)?, read("initial.gid", 10)?, read("initial.mode", 8)?))
}

fn tmpfs(o: &Options) -> Result<Source> {
    let (uid, gid, mode) = initial(o)?;
    Ok(Source::Tmpfs {
        size: o.get("size").filter(|s| !s.is_empty()).map(|s| size::parse_bytes(s)).transpose()?,
        uid: uid.unwrap_or(0),
        gid: gid.unwrap_or(0),
        mode: mode.unwrap_or(0o711),
    })
}

impl Device for Disk {
    fn needs(&self) -> Vec<Need> {
        match &self.source {
            Source::Root => vec![Need::RootVolume],
            Source::Host(path) => vec![Need::HostPath { path: path.clone(), required: self.required }],
            Source::Volume { pool, volume, .. } => {
                vec![Need::Volume { pool: pool.clone(), volume: volume.clone(), required: self.required }]
            }
            Source::Tmpfs { .. } => Vec::new(),
        }
    }

    fn start(&self, supplies: Vec<Supply>) -> Result<Vec<Attachment>> {
        let wrong = || Error::internal(format!("Device \"{}\" was not supplied", self.name));
        Ok(match (&self.source, supplies.into_iter().next()) {
            (Source::Tmpfs { size, uid, gid, mode }, None) => {
                vec![self.mount(MountSource::Tmpfs { size: *size, uid: *uid, gid: *gid, mode: *mode }, false)]
            }
            (Source::Root, Some(Supply::Rootfs(rootfs))) => {
                vec![Attachment::Root { rootfs, readonly: self.readonly }]
            }
            (Source::Host(_), Some(Supply::HostPath { path, beneath })) => {
                let below = beneath.and_then(|folder| {
                    let path = path.strip_prefix(&folder).ok()?.to_path_buf();
                    Some(MountSource::HostBeneath { folder, path })
                });
                vec![self.mount(below.unwrap_or(MountSource::HostPath(path)), self.shift)]
            }
            (
                Source::Volume { path, initial: own, .. },
                Some(Supply::Volume { root, shift, on_disk, initial: (uid, gid, mode) }),
            ) => {
                let (uid, gid) = (own.0.unwrap_or(uid), own.1.unwrap_or(gid));
                let (uid, gid) = (on_disk.to_host_uid(uid).unwrap_or(uid), on_disk.to_host_gid(gid).unwrap_or(gid));
                let initial = (uid, gid, own.2.unwrap_or(mode));
                vec![self.mount(MountSource::Volume { root, path: path.clone(), initial }, shift)]
            }
            (Source::Host(_) | Source::Volume { .. }, Some(Supply::Absent)) => Vec::new(),
            _ => return Err(wrong()),
        })
    }

    fn order(&self) -> &str {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn host_path_becomes_a_mount() {
        let o = options(&[("type", "disk"), ("source", "/srv"), ("path", "/mnt"), ("shift", "true")]);
        let disk = Disk::load("data", &o).expect("loads");
        assert_eq!(disk.needs(), [Need::HostPath { path: "/srv".into(), required: true }]);
        let out = disk.start(vec![Supply::HostPath { path: "/srv".into(), beneath: None }]).expect("starts");
        let [Attachment::Mount(m)] = &out[..] else { panic!("one mount") };
        assert!(m.shift && !m.readonly);
        assert!(disk.start(vec![Supply::Absent]).expect("skips").is_empty());
    }

    #[test]
    fn volume_becomes_a_mount() {
        let o = options(&[("source", "data/a/b"), ("pool", "default"), ("path", "/mnt"), ("required", "false")]);
        let disk = Disk::load("data", &o).expect("loads");
        let need = Need::Volume { pool: "default".into(), volume: "data".into(), required: false };
        assert_eq!(disk.needs(), [need]);
        let initial = (0, 0, 0o711);
        let supply = || Supply::Volume { root: "/p".into(), shift: true, on_disk: Default::default(), initial };
        let out = disk.start(vec![supply()]);
        let [Attachment::Mount(m)] = &out.expect("starts")[..] else { panic!("one mount") };
        let path = Some("a/b".into());
        assert_eq!(m.source, MountSource::Volume { root: "/p".into(), path, initial: (0, 0, 0o711) });
        assert!(m.shift && disk.start(vec![Supply::Absent]).expect("skips").is_empty());
        // The device says more than the volume.
        let said = options(&[("initial.uid", "5"), ("initial.mode", "750")]);
        let disk = Disk::load("data", &o.into_iter().chain(said).collect()).expect("loads");
        let out = disk.start(vec![supply()]).expect("starts");
        let [Attachment::Mount(Mount { source: MountSource::Volume { initial, .. }, .. })] = &out[..] else {
            panic!("one mount")
        };
        assert_eq!(*initial, (5, 0, 0o750));
    }

    #[test]
    fn refuses_what_is_not_there_yet() {
        let other = options(&[("source", "ceph:x/y"), ("path", "/mnt")]);
        assert!(Disk::load("data", &other).is_err());
        assert!(Disk::load("data", &options(&[("source", "/srv")])).is_err());
        let relative = options(&[("source", "/srv"), ("path", "mnt")]);
        assert_eq!(Disk::load("data", &relative).expect("loads").path, "/mnt");
    }
}
