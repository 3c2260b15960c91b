//! L1: value types and their parsers. No I/O beyond the clock and the system's random source, no knowledge of what the
//! values are for.
pub mod boolean;
pub mod cron;
pub mod digest;
pub mod dns;
pub mod idmap;
pub mod idset;
pub mod inet;
pub mod json;
pub mod mac;
pub mod names;
pub mod natural;
pub mod parallel;
pub mod petname;
pub mod size;
pub mod time;
pub mod url;
pub mod user;
pub mod yaml;
