//! Booleans as configuration values write them: `true`/`1`/`yes`/`on` and `false`/`0`/`no`/`off`, in any case.

use crate::error::{Error, Result};

/// Reads a boolean. Empty input is an error; callers that know a default test for it first.
pub fn parse(value: &str) -> Result<bool> {
    if is_true(value) {
        Ok(true)
    } else if is_false(value) {
        Ok(false)
    } else {
        Err(Error::invalid(format!("Invalid value for a boolean {value:?}")))
    }
}

/// One of the four words for true.
pub fn is_true(value: &str) -> bool {
    ["true", "1", "yes", "on"].iter().any(|w| w.eq_ignore_ascii_case(value))
}

/// One of the four words for false.
pub fn is_false(value: &str) -> bool {
    ["false", "0", "no", "off"].iter().any(|w| w.eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for v in ["true", "TRUE", "1", "Yes", "on"] {
            assert!(parse(v).expect(v));
        }
        for v in ["false", "0", "NO", "Off"] {
            assert!(!parse(v).expect(v));
        }
        assert_eq!(parse("ja").expect_err("no").to_string(), "Invalid value for a boolean \"ja\"");
        for v in ["", " true", "2", "t", "y"] {
            assert!(parse(v).is_err(), "{v}");
        }
    }
}
