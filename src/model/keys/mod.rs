//! The registry of configuration keys (design, section 9): each key is declared once, in the file of its topic, and
//! validation, typed reading, completion, the reference page and live updates come from that declaration.
//!
//! A key's name is written nowhere else in the crate: others use the constants (`keys::LIMITS_CPU.get(&config)`).

/// Declares keys: `NAME: "key", Scope, value, "short text" => option(…), …;`.
macro_rules! keys {
    ($($id:ident: $name:literal, $scope:ident, $value:expr, $short:literal
       $(=> $($method:ident($($arg:expr),*)),+)?;)*) => {$(
        #[doc = concat!("`", $name, "`: ", $short, ".")]
        pub static $id: Key = Key::new($name, Scope::$scope, $value, $short)$($(.$method($($arg),*))+)?;
    )*};
    (@table $($id:ident: $name:literal, $scope:ident, $value:expr, $short:literal
       $(=> $($method:ident($($arg:expr),*)),+)?;)*) => {
        pub(super) static TABLE: &[&Key] = &[$(&$id),*];
    };
}

/// Declares keys and, as `TABLE`, the list of them.
macro_rules! key_table {
    ($($all:tt)*) => {
        keys! { $($all)* }
        keys! { @table $($all)* }
    };
}

mod boot;
mod checks;
mod cloud_init;
pub mod device;
mod image;
mod key;
mod limits;
mod migration;
pub mod network;
mod nvidia;
mod oci;
pub mod parse;
pub mod pool;
pub mod project;
mod raw;
mod security;
pub mod server;
mod snapshots;
mod syscalls;
mod user;
mod validate;
mod value;
mod volatile;
pub mod volume;

pub use boot::*;
pub use cloud_init::*;
pub use image::*;
pub use key::{Action, Key, Live, Scope, Shape, Suffix};
pub use limits::*;
pub use migration::*;
pub use nvidia::*;
pub use oci::*;
pub use raw::*;
pub use security::*;
pub use server::{server_keys, validate_server};
pub use snapshots::*;
pub use syscalls::*;
pub use user::*;
pub use validate::{check, validate_config, validate_expanded, validate_profile};
pub use value::Value;
pub use volatile::*;

use std::collections::HashMap;
use std::sync::LazyLock;

/// Keys the program keeps for itself.
pub const VOLATILE_PREFIX: &str = "volatile.";

static TABLES: [&[&Key]; 13] = [
    boot::TABLE,
    cloud_init::TABLE,
    image::TABLE,
    limits::TABLE,
    migration::TABLE,
    nvidia::TABLE,
    oci::TABLE,
    raw::TABLE,
    security::TABLE,
    snapshots::TABLE,
    syscalls::TABLE,
    user::TABLE,
    volatile::TABLE,
];

static EXACT: LazyLock<HashMap<&'static str, &'static Key>> =
    LazyLock::new(|| all().filter(|k| k.shape == Shape::Exact).map(|k| (k.name, k)).collect());

/// Every declaration, by topic.
pub fn all() -> impl Iterator<Item = &'static Key> {
    TABLES.iter().flat_map(|table| table.iter().copied())
}

/// The declaration that covers the key `name`; of several the most specific one.
pub fn find(name: &str) -> Option<&'static Key> {
    let loose = || all().filter(|k| k.shape != Shape::Exact && k.matches(name)).max_by_key(|k| k.name.len());
    EXACT.get(name).copied().or_else(loose)
}

/// Is it a key the program keeps for itself?
pub fn is_volatile(name: &str) -> bool {
    name.starts_with(VOLATILE_PREFIX)
}

#[cfg(test)]
mod tests;
