//! DNS zones as they are served, as data: what the server is told, what it answers, and zones as a whole for their peers.
//!
//! `ops::network` makes the text ([`text`]) of the records and compares it with what was told; the role `nameserver` reads it
//! and hands every packet to [`answer`]. Messages are read, built and signed by the library `domain`; what the names in them
//! stand for is decided here (RFC 1034, 4592 for wildcards, 5936 for transfers, 8945 for TSIG).
//!
//! Everybody gets answers to single questions, and a zone as a whole goes to its peers, as with Incus. Packets are hostile: no
//! answer is larger than what the asker says it takes over UDP (1232 bytes at most), and nothing here panics.

pub mod answer;
pub mod data;
mod lookup;
pub mod notify;
pub mod text;
pub mod transfer;

#[cfg(test)]
mod tests;
