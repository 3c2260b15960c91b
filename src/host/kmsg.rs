//! The kernel's log (`/dev/kmsg`, Documentation/ABI/testing/dev-kmsg in the kernel's sources): one record a read.

use crate::error::{Context, Result};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Microseconds since the boot.
    pub at: u64,
    /// The text, one line.
    pub text: String,
}

/// As dmesg(1) shows it.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:5}.{:06}] {}", self.at / 1_000_000, self.at % 1_000_000, self.text)
    }
}

/// Longest record there is.
const RECORD: usize = 8192;

/// What the log holds now, oldest first.
///
/// # Errors
/// It may not be read, or there is none here.
pub fn read() -> Result<Vec<Message>> {
    let open = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open("/dev/kmsg");
    let fail = || "The kernel's log can't be read (/dev/kmsg)";
    let mut file = open.with_context(fail)?;
    let mut all = Vec::new();
    let mut buffer = [0; RECORD];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(all),
            Ok(n) => all.extend(parse(&String::from_utf8_lossy(&buffer[..n]))),
            // Overwritten meanwhile: the next read goes on with the oldest that is left.
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(all),
            Err(e) => return Err(e).with_context(fail),
        }
    }
}

/// `priority,number,microseconds,flags;text`, then lines that begin with a space.
fn parse(record: &str) -> Option<Message> {
    let (head, rest) = record.split_once(';')?;
    let at = head.split(',').nth(2)?.parse().ok()?;
    Some(Message { at, text: rest.lines().next()?.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let message = parse("4,339,5140900,-;net0-ingress-0 IN=up0 OUT=net0 \n SUBSYSTEM=x\n").expect("record");
        assert_eq!(message, Message { at: 5_140_900, text: "net0-ingress-0 IN=up0 OUT=net0 ".into() });
        assert_eq!(message.to_string(), "[    5.140900] net0-ingress-0 IN=up0 OUT=net0 ");
        assert_eq!((parse("4,339;x"), parse("no"), parse("4,3,x,-;y")), (None, None, None));
    }
}
