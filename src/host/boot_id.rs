//! The kernel's boot id: it tells a record of this boot from one of an earlier boot (design, section 6).
//!
//! Called by `store` (run files, the run folder's stamp) and by the monitor. Reads the file once per process.

use crate::error::{Context, Error, Result};
use std::sync::OnceLock;

const PATH: &str = "/proc/sys/kernel/random/boot_id";

/// The boot id of the running kernel, as the kernel prints it (random(4)).
///
/// # Errors
/// `/proc` is not there or cannot be read.
pub fn current() -> Result<&'static str> {
    static ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(id);
    }
    let text = std::fs::read_to_string(PATH).with_context(|| format!("Failed reading \"{PATH}\""))?;
    let id = text.trim();
    if id.is_empty() {
        return Err(Error::failed(format!("\"{PATH}\" is empty")));
    }
    Ok(ID.get_or_init(|| id.to_string()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_a_uuid_and_stays() {
        let id = super::current().expect("boot id");
        assert_eq!(id.len(), 36);
        assert_eq!(id, super::current().expect("boot id"));
    }
}
