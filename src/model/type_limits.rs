//! Instance types such as `c2-m4`: so many CPUs, so many GiB of memory, and with `d` of disk. Called by `create` and `launch`.

use super::instance::Config;
use super::keys;
use crate::error::{Error, Result};

/// The keys that a type stands for, and the size of the root disk in bytes if it says one. As in Incus a part of a CPU is an
/// allowance of one more CPU.
///
/// # Errors
/// It is no such type: the names of clouds (`t2.micro`) are not known here.
pub fn parse(word: &str) -> Result<(Config, Option<u64>)> {
    let unknown = || {
        let text = format!("Provided instance type doesn't exist: {word}");
        Error::unsupported(text)
            .hint("the types of clouds aren't known here; say CPUs and GiB of memory, such as c2-m4")
    };
    let (mut cpu, mut memory, mut disk) = (0.0_f32, 0.0_f32, 0.0_f32);
    for field in word.split('-') {
        let bad = || Error::invalid(format!("Bad custom instance type: {word}"));
        let mut rest = field.chars();
        let wanted = match rest.next() {
            _ if field.len() < 2 => return Err(unknown()),
            Some('c') => &mut cpu,
            Some('m') => &mut memory,
            Some('d') => &mut disk,
            _ => return Err(unknown()),
        };
        let number = rest.as_str().parse().ok().filter(|n: &f32| (0.0..=MOST).contains(n));
        *wanted = number.ok_or_else(bad)?;
    }
    let mut config = Config::new();
    if cpu > 0.0 {
        let cores = cpu.ceil();
        let allowance = whole(cpu / cores * 100.0);
        keys::LIMITS_CPU.set(&mut config, whole(cores).to_string());
        if allowance < 100 {
            keys::LIMITS_CPU_ALLOWANCE.set(&mut config, format!("{allowance}%"));
        }
    }
    if memory > 0.0 {
        keys::LIMITS_MEMORY.set(&mut config, format!("{}MiB", whole(memory * 1024.0)));
    }
    Ok((config, Some(whole(disk * 1024.0 * 1024.0 * 1024.0)).filter(|bytes| *bytes > 0)))
}

/// More is no type of anything.
const MOST: f32 = 1_000_000.0;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and a million GiB; cut as Go does"
)]
fn whole(number: f32) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(word: &str) -> String {
        match parse(word) {
            Ok((config, disk)) => {
                let pairs = config.iter().map(|(k, v)| format!("{}={v}", k.trim_start_matches("limits.")));
                pairs.chain(disk.map(|d| d.to_string())).collect::<Vec<_>>().join(" ")
            }
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn types() {
        assert_eq!(show("c0.5-m0.2"), "cpu=1 cpu.allowance=50% memory=204MiB");
        assert_eq!(show("c1-m2"), "cpu=1 memory=2048MiB");
        assert_eq!(show("m4-c2.5-d10"), "cpu=3 cpu.allowance=83% memory=4096MiB 10737418240");
        assert_eq!((show("c2"), show("c0-m0")), ("cpu=2".into(), String::new()));
        for word in ["t2.micro", "aws:t2.micro", "c1-", "c", "", "x1"] {
            assert_eq!(show(word), format!("Provided instance type doesn't exist: {word}"));
        }
        for word in ["cx", "c-1", "minf", "mnan", "c1e9", "c1.2.3"] {
            let why = if word == "c-1" { "Provided instance type doesn't exist" } else { "Bad custom instance type" };
            assert_eq!(show(word), format!("{why}: {word}"));
        }
    }
}
