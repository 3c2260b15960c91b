//! `wait`: until an instance is in a given condition.

use super::complete;
use super::{Context, DONE, Outcome, config, kv};
use crate::error::{Error, Result};
use crate::ops::wait::{self, Condition, Pace};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// Wait for an instance to satisfy a condition
///
/// Supported Conditions:
///
///   agent            Wait for the VM agent to be running
///   ip               Wait for any globally routable IP address
///   ipv4             Wait for a globally routable IPv4 address
///   ipv6             Wait for a globally routable IPv6 address
///   status=STATUS    Wait for the instance status to become STATUS
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "stapes wait c1 status=running
    Wait for c1 to run."
)]
pub struct Wait {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// Condition
    #[arg(value_name = "condition")]
    pub condition: String,
    /// Polling interval (in seconds)
    #[arg(long, value_name = "seconds", default_value_t = 5)]
    pub interval: u64,
    /// Maximum wait time
    #[arg(long, value_name = "seconds", default_value_t = -1)]
    pub timeout: i64,
}

/// Reads the word.
fn condition(word: &str) -> Result<Condition> {
    match word {
        "ip" => Ok(Condition::Address(vec!["inet", "inet6"])),
        "ipv4" => Ok(Condition::Address(vec!["inet"])),
        "ipv6" => Ok(Condition::Address(vec!["inet6"])),
        _ if word.eq_ignore_ascii_case("agent") => Ok(Condition::Agent),
        _ => match word.split_once('=') {
            Some(("status", status)) if !status.is_empty() => Ok(Condition::Status(status.to_string())),
            _ => Err(Error::invalid(format!("Unknown condition {word:?}"))),
        },
    }
}

impl Wait {
    /// Waits.
    ///
    /// # Errors
    /// See `ops`; the time is up.
    pub fn run(self, cx: &Context) -> Outcome {
        let name = kv::local(&self.instance)?;
        let condition = condition(&self.condition)?;
        // The store is let go of: this may last.
        let (project, instance) = config::instance(cx, &cx.reader()?, &name)?;
        let seconds = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0).map(std::time::Duration::from_secs);
        let interval = std::time::Duration::from_secs(self.interval.max(1));
        let pace = Pace { interval, timeout: seconds(self.timeout) };
        if wait::wait(&cx.layout, (&project, &instance), &condition, pace)? {
            return Ok(DONE);
        }
        Err(Error::failed(format!("Timeout for instance {name} for condition: {}", self.condition)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        assert_eq!(condition("ipv4").expect("ip"), Condition::Address(vec!["inet"]));
        assert_eq!(condition("status=Running").expect("status"), Condition::Status("Running".into()));
        assert_eq!(condition("Agent").expect("agent"), Condition::Agent);
        for bad in ["", "status=", "status", "x=y"] {
            assert_eq!(condition(bad).expect_err("bad").to_string(), format!("Unknown condition {bad:?}"));
        }
    }
}
