//! Limits of the reading and writing of block devices: how those of several disks come together, the runtime specification's
//! words for them (`throttle…Device`), and the lines of `io.max` that these become.
//!
//! Sources: config-linux.md of the OCI runtime specification, the kernel's admin-guide/cgroup-v2.rst. What several disks on one
//! device ask for is averaged, as in Incus.

use super::resources::{Setting, internal};
use crate::error::{Error, Result};
use crate::host::block::Device;
use crate::model::keys::parse::IoLimit;
use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice, LinuxThrottleDeviceBuilder};
use std::collections::{BTreeMap, BTreeSet};

/// The control file.
pub const IO_MAX: &str = "io.max";
/// Its words, in the order of [`Throttle`].
const WORDS: [&str; 4] = ["rbps", "wbps", "riops", "wiops"];

/// Bytes read, bytes written, read requests, write requests: a second each; none is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Throttle([Option<u64>; 4]);

/// By device.
pub type Throttles = BTreeMap<Device, Throttle>;

impl Throttle {
    /// What limits of reading and of writing come to; 0 is no limit.
    pub fn of(read: IoLimit, write: IoLimit) -> Self {
        Self([read.bytes, write.bytes, read.iops, write.iops].map(|limit| limit.filter(|n| *n > 0)))
    }
}

/// Brings together what disks ask for, each with the devices that it lies on: the average of those that ask.
pub fn average(disks: &[(BTreeSet<Device>, Throttle)]) -> Throttles {
    let mut sums: BTreeMap<Device, [(u128, u128); 4]> = BTreeMap::new();
    for (devices, throttle) in disks {
        for device in devices {
            let sums = sums.entry(*device).or_default();
            for (sum, limit) in sums.iter_mut().zip(throttle.0) {
                *sum = (sum.0 + u128::from(limit.unwrap_or(0)), sum.1 + u128::from(limit.is_some()));
            }
        }
    }
    let mean = |(sum, count): (u128, u128)| u64::try_from(sum.checked_div(count)?).ok();
    let all = sums.into_iter().map(|(device, sums)| (device, Throttle(sums.map(mean))));
    all.filter(|(_, throttle)| *throttle != Throttle::default()).collect()
}

/// Puts them into the specification's words.
///
/// # Errors
/// [`crate::error::Kind::Internal`] if it cannot be built.
pub(super) fn to_spec(throttles: &Throttles, spec: &mut LinuxBlockIo) -> Result<()> {
    let of = |word: usize| {
        let asked = throttles.iter().filter_map(|(device, throttle)| Some((device, throttle.0[word]?)));
        let all = asked.map(|(device, rate)| entry(*device, rate)).collect::<Result<Vec<_>>>()?;
        Ok::<_, Error>((!all.is_empty()).then_some(all))
    };
    spec.set_throttle_read_bps_device(of(0)?).set_throttle_write_bps_device(of(1)?);
    spec.set_throttle_read_iops_device(of(2)?).set_throttle_write_iops_device(of(3)?);
    Ok(())
}

fn entry(device: Device, rate: u64) -> Result<LinuxThrottleDevice> {
    let entry = LinuxThrottleDeviceBuilder::default().major(device.major).minor(device.minor).rate(rate);
    entry.build().map_err(internal)
}

/// Back from them.
pub(super) fn from_spec(spec: &LinuxBlockIo) -> Throttles {
    let lists = [
        spec.throttle_read_bps_device(),
        spec.throttle_write_bps_device(),
        spec.throttle_read_iops_device(),
        spec.throttle_write_iops_device(),
    ];
    let mut all = Throttles::new();
    for (word, list) in lists.into_iter().enumerate() {
        for entry in list.iter().flatten() {
            let (Ok(major), Ok(minor)) = (entry.major().try_into(), entry.minor().try_into()) else { continue };
            all.entry(Device { major, minor }).or_default().0[word] = Some(entry.rate());
        }
    }
    all
}

/// One setting a device: the kernel takes one line at a time. Each says all four, so that nothing stays from before.
pub fn settings(throttles: &Throttles) -> Vec<Setting> {
    throttles.iter().map(|(device, throttle)| Setting::new(IO_MAX, line(*device, *throttle))).collect()
}

/// The settings that leave nothing but `throttles` of what `io.max` has now: `present`.
pub fn renewal(present: &str, throttles: &Throttles) -> Vec<Setting> {
    let had = present.lines().filter_map(|line| Device::parse(line.split(' ').next()?));
    let gone = had.filter(|device| !throttles.contains_key(device));
    let lifted = gone.map(|device| Setting::lifted(IO_MAX, line(device, Throttle::default())));
    lifted.chain(settings(throttles)).collect()
}

fn line(device: Device, throttle: Throttle) -> String {
    let word =
        |(word, limit): (&str, Option<u64>)| format!(" {word}={}", limit.map_or("max".into(), |n| n.to_string()));
    WORDS.into_iter().zip(throttle.0).map(word).fold(device.to_string(), |line, word| line + &word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::keys::parse::io_limit;

    const SDA: &str = "8:0";
    const DM: &str = "253:1";

    /// Disks as `devices read write`, `-` for no limit, and what they come to.
    fn averaged(disks: &[(&[&str], &str, &str)]) -> Throttles {
        let limit = |text: &str| if text == "-" { IoLimit::default() } else { io_limit(text).expect("limit") };
        let devices = |names: &[&str]| names.iter().map(|n| Device::parse(n).expect("numbers")).collect();
        let disks: Vec<_> = disks.iter().map(|(on, r, w)| (devices(on), Throttle::of(limit(r), limit(w)))).collect();
        average(&disks)
    }

    fn shown(settings: &[Setting]) -> String {
        let one = |s: &Setting| format!("{}{}", s.value, if s.optional { "?" } else { "" });
        settings.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn table() {
        type Case<'a> = (&'a [(&'a [&'a str], &'a str, &'a str)], &'a str);
        let cases: &[Case<'_>] = &[
            (&[], ""),
            (&[(&[SDA], "-", "-")], ""),
            (&[(&[SDA], "0", "0iops")], ""),
            (&[(&[SDA], "1MiB", "-")], "8:0 rbps=1048576 wbps=max riops=max wiops=max"),
            (&[(&[SDA], "1MB,20iops", "30iops")], "8:0 rbps=1000000 wbps=max riops=20 wiops=30"),
            // Who asks for nothing does not count.
            (&[(&[SDA], "10", "-"), (&[SDA], "25", "7"), (&[SDA], "-", "-")], "8:0 rbps=17 wbps=7 riops=max wiops=max"),
            (
                &[(&[DM, SDA], "10", "-"), (&[SDA], "20", "-")],
                "8:0 rbps=15 wbps=max riops=max wiops=max; 253:1 rbps=10 wbps=max riops=max wiops=max",
            ),
            (
                &[(&[SDA], "9223372036854775807", "-"), (&[SDA], "9223372036854775805", "-")],
                "8:0 rbps=9223372036854775806 wbps=max riops=max wiops=max",
            ),
        ];
        for (disks, wanted) in cases {
            let throttles = averaged(disks);
            assert_eq!(shown(&settings(&throttles)), *wanted, "{disks:?}");
            let mut spec = LinuxBlockIo::default();
            to_spec(&throttles, &mut spec).expect("builds");
            assert_eq!(from_spec(&spec), throttles, "{disks:?}");
        }
    }

    #[test]
    fn what_is_no_longer_wanted_is_lifted() {
        let throttles = averaged(&[(&[SDA], "5", "-")]);
        let present = "7:0 rbps=9 wbps=max riops=max wiops=max\n8:0 rbps=max wbps=3 riops=max wiops=max\n";
        let lifted = "7:0 rbps=max wbps=max riops=max wiops=max?";
        let set = "8:0 rbps=5 wbps=max riops=max wiops=max";
        assert_eq!(shown(&renewal(present, &throttles)), format!("{lifted}; {set}"));
        assert_eq!(shown(&renewal("", &throttles)), set);
        assert_eq!(shown(&renewal("", &Throttles::new())), "");
    }
}
