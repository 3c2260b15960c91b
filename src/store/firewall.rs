//! The rules of the host as they were last seen to hold all that is ours: `firewall.toml` in the run folder. A hint.

use super::Store;
use super::atomic::Durability;
use super::layout::rel;
use super::record::{self, Record, records};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// A state of the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Format of the record; set when written.
    #[serde(default)]
    pub format: u32,
    /// The boot it belongs to.
    pub boot_id: String,
    /// The kernel's number for it.
    pub generation: u32,
}

records! { Seen => "Run file of the firewall", }

impl Store {
    /// As it was last seen; `None` if it was not, or the file is damaged: it is a hint.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn firewall_seen(&self) -> Result<Option<Seen>> {
        let Some(run) = &self.run else { return Ok(None) };
        Ok(record::read(run, rel::FIREWALL).unwrap_or(None))
    }

    /// Notes how it is.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_firewall_seen(&self, seen: &Seen) -> Result<()> {
        record::write(self.run_mut()?, rel::FIREWALL, seen, Durability::Fast)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Access;
    use crate::store::layout::Layout;

    #[test]
    fn a_hint_is_kept_and_a_damaged_one_is_none() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(&Layout::under(dir.path()), Access::Write).expect("open");
        assert_eq!(store.firewall_seen().expect("none"), None);
        let seen = Seen { format: 1, boot_id: "a".into(), generation: 7 };
        store.save_firewall_seen(&seen).expect("save");
        assert_eq!(store.firewall_seen().expect("read"), Some(seen));
        #[expect(clippy::disallowed_methods, reason = "a test damages it")]
        std::fs::write(dir.path().join("run").join(rel::FIREWALL), "nonsense").expect("write");
        assert_eq!(store.firewall_seen().expect("damaged"), None);
    }
}
