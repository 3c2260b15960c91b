//! YAML documents. The layout is `base::yaml`'s; this is the one place where the command line asks for it.

use crate::error::Result;
use serde::Serialize;

/// `value` as a YAML document, with a newline at the end.
///
/// # Errors
/// The value does not serialise.
pub fn document<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let mut text = crate::base::yaml::to_string(value)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
