//! `disk`: the root volume, a path of the host, or a tmpfs. Custom volumes come with the storage verbs.

use super::Device;
use crate::base::{boolean, size};
use crate::error::{Error, Result};
use crate::model::attach::{Attachment, Mount, MountSource, Need, Supply};
use crate::model::instance::Device as Options;
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

#[derive(Debug)]
enum Source {
    Root,
    Host(PathBuf),
    Tmpfs { size: Option<u64>, uid: u32, gid: u32, mode: u32 },
}

impl Disk {
    pub(super) fn load(name: &str, o: &Options) -> Result<Self> {
        let flag = |key: &str, default| o.get(key).map_or(Ok(default), |v| boolean::parse(v));
        let path = o.get("path").cloned().unwrap_or_default();
        let source = source(name, o, &path)?;
        if path.is_empty() || !path.starts_with('/') {
            return Err(Error::invalid(format!(
                "Invalid device \"{name}\": Disk entry is missing an absolute \"path\" in the instance"
            )));
        }
        let raw = o.get("raw.mount.options").map(String::as_str).unwrap_or_default();
        Ok(Self {
            name: name.to_string(),
            path,
            readonly: flag("readonly", false)?,
            source,
            required: flag("required", true)?,
            shift: flag("shift", false)?,
            recursive: flag("recursive", false)?,
            propagation: o.get("propagation").filter(|p| !p.is_empty()).cloned(),
            options: raw.split(',').filter(|s| !s.is_empty()).map(str::to_string).collect(),
        })
    }

    fn mount(&self, source: MountSource) -> Attachment {
        Attachment::Mount(Mount {
            device: self.name.clone(),
            source,
            target: PathBuf::from(&self.path),
            readonly: self.readonly,
            shift: self.shift,
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
    if given.starts_with('/') {
        return Ok(Source::Host(given.into()));
    }
    let what = if given.is_empty() { "a disk without a source".to_string() } else { format!("source \"{given}\"") };
    Err(Error::unsupported(format!("Failed to start device \"{name}\": {what} is not supported by this version"))
        .hint("use an absolute path of the host, or \"tmpfs:\""))
}

fn tmpfs(o: &Options) -> Result<Source> {
    let id = |key: &str| {
        o.get(key).map_or(Ok(0), |v| v.parse::<u32>().map_err(|_| Error::invalid(format!("Invalid \"{key}\": {v}"))))
    };
    let mode = o.get("initial.mode").map_or("0711", String::as_str);
    let mode = u32::from_str_radix(mode, 8).map_err(|_| Error::invalid(format!("Invalid \"initial.mode\": {mode}")))?;
    Ok(Source::Tmpfs {
        size: o.get("size").filter(|s| !s.is_empty()).map(|s| size::parse_bytes(s)).transpose()?,
        uid: id("initial.uid")?,
        gid: id("initial.gid")?,
        mode,
    })
}

impl Device for Disk {
    fn needs(&self) -> Vec<Need> {
        match &self.source {
            Source::Root => vec![Need::RootVolume],
            Source::Host(path) => vec![Need::HostPath { path: path.clone(), required: self.required }],
            Source::Tmpfs { .. } => Vec::new(),
        }
    }

    fn start(&self, supplies: Vec<Supply>) -> Result<Vec<Attachment>> {
        let wrong = || Error::internal(format!("Device \"{}\" was not supplied", self.name));
        Ok(match (&self.source, supplies.into_iter().next()) {
            (Source::Tmpfs { size, uid, gid, mode }, None) => {
                vec![self.mount(MountSource::Tmpfs { size: *size, uid: *uid, gid: *gid, mode: *mode })]
            }
            (Source::Root, Some(Supply::Rootfs(rootfs))) => {
                vec![Attachment::Root { rootfs, readonly: self.readonly }]
            }
            (Source::Host(_), Some(Supply::HostPath(path))) => vec![self.mount(MountSource::HostPath(path))],
            (Source::Host(_), Some(Supply::Absent)) => Vec::new(),
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
        let out = disk.start(vec![Supply::HostPath("/srv".into())]).expect("starts");
        let [Attachment::Mount(m)] = &out[..] else { panic!("one mount") };
        assert!(m.shift && !m.readonly);
        assert!(disk.start(vec![Supply::Absent]).expect("skips").is_empty());
    }

    #[test]
    fn refuses_what_is_not_there_yet() {
        let volume = options(&[("source", "data"), ("pool", "default"), ("path", "/mnt")]);
        assert!(Disk::load("data", &volume).is_err());
        let relative = options(&[("source", "/srv"), ("path", "mnt")]);
        assert!(Disk::load("data", &relative).is_err());
    }
}
