//! The little of D-Bus that making a scope takes, over systemd's private socket, which serves root without a bus.
//!
//! One call, `StartTransientUnit`, then the signal `JobRemoved`. Written by hand because a library would be a hundred times
//! the code; the format is that of the D-Bus specification (0.41, "Message Protocol", "Authentication Protocol"), the call that
//! of org.freedesktop.systemd1(5). What systemd answers is read with bounds: a message over 1 MiB is refused.

use crate::error::{Context, Error, Result};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const SOCKET: &str = "/run/systemd/private";
/// How long systemd may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest message taken.
const MOST: usize = 1 << 20;

const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
/// Serial number of our only call.
const SERIAL: u32 = 1;

/// Has systemd make the transient scope `unit` in `slice` around process `pid`, delegated to us. False: a unit of this name is
/// there already.
///
/// # Errors
/// Busy: systemd refuses, or could not do it now. Else it cannot be reached or takes more than a minute.
pub fn start_scope(unit: &str, slice: &str, pid: u32) -> Result<bool> {
    let mut link = Link::open()?;
    link.stream.write_all(&call(unit, slice, pid)).context("Failed talking to systemd")?;
    loop {
        let message = link.receive()?;
        match message.kind {
            RETURN if message.reply_to == SERIAL => {}
            ERROR if message.reply_to == SERIAL && message.error.ends_with(".UnitExists") => return Ok(false),
            ERROR if message.reply_to == SERIAL => {
                let text = Reader::new(&message.body).text().unwrap_or_default();
                return Err(Error::busy(format!("systemd refuses: {text}")));
            }
            SIGNAL if message.member == "JobRemoved" => match removed(&message.body) {
                Some((of, result)) if of == unit && result == "done" => return Ok(true),
                Some((of, result)) if of == unit => {
                    return Err(Error::busy(format!("systemd could not start it: {result}"))
                        .hint(format!("see: systemctl status {unit}")));
                }
                _ => {}
            },
            _ => {}
        }
    }
}

/// The body of `JobRemoved`: number, path, unit, result.
fn removed(body: &[u8]) -> Option<(String, String)> {
    let mut body = Reader::new(body);
    body.number()?;
    body.text()?;
    Some((body.text()?, body.text()?))
}

/// The call. The properties are those of systemd.scope(5), systemd.kill(5) and systemd.resource-control(5).
fn call(unit: &str, slice: &str, pid: u32) -> Vec<u8> {
    let mut body = Writer::default();
    body.text(unit);
    body.text("fail");
    body.array(8, |all| {
        all.property("Description", "s", |v| v.text("Containers of stapes"));
        all.property("Slice", "s", |v| v.text(slice));
        all.property("PIDs", "au", |v| v.array(4, |a| a.number(pid)));
        all.property("Delegate", "b", |v| v.number(1));
        all.property("CollectMode", "s", |v| v.text("inactive-or-failed"));
        // A limit for ordinary services, far too low for all containers together.
        all.property("TasksMax", "t", |v| v.long(u64::MAX));
        // When it is stopped, monitors shut their containers down. The containers' own processes are in it, too, and are
        // not to be ended past their init: nobody dies of this signal, and monitors know it.
        all.property("KillSignal", "i", |v| v.number(libc::SIGURG as u32));
        // Each monitor has a deadline of its own.
        all.property("TimeoutStopUSec", "t", |v| v.long(600_000_000));
        // At shutdown the service, which stops instances in order, comes first.
        all.property("Before", "as", |v| v.array(4, |a| a.text("stapes.service")));
    });
    body.array(8, |_| {});
    let body = body.0;

    let mut message = Writer(vec![b'l', 1, 0, 1]);
    message.number(body.len() as u32);
    message.number(SERIAL);
    message.array(8, |fields| {
        let mut field = |code: u8, signature: &str, value: &str| {
            fields.align(8);
            fields.0.push(code);
            fields.signature(signature);
            if signature == "g" { fields.signature(value) } else { fields.text(value) }
        };
        field(1, "o", "/org/freedesktop/systemd1");
        field(2, "s", "org.freedesktop.systemd1.Manager");
        field(3, "s", "StartTransientUnit");
        field(6, "s", "org.freedesktop.systemd1");
        field(8, "g", "ssa(sv)a(sa(sv))");
    });
    message.align(8);
    message.0.extend(body);
    message.0
}

/// Marshals, little endian; positions count from the beginning of the body or of the message, both multiples of 8.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn long(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// The length does not count the padding before the first element.
    fn array(&mut self, align: usize, elements: impl FnOnce(&mut Self)) {
        self.number(0);
        let at = self.0.len() - 4;
        self.align(align);
        let start = self.0.len();
        elements(self);
        let size = (self.0.len() - start) as u32;
        self.0[at..at + 4].copy_from_slice(&size.to_le_bytes());
    }

    fn property(&mut self, name: &str, signature: &str, value: impl FnOnce(&mut Self)) {
        self.align(8);
        self.text(name);
        self.signature(signature);
        value(self);
    }
}

struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let part = self.data.get(self.at..end)?;
        self.at = end;
        Some(part)
    }

    fn number(&mut self) -> Option<u32> {
        self.at = self.at.next_multiple_of(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let size = self.number()? as usize;
        let text = self.take(size.checked_add(1)?)?;
        String::from_utf8(text[..size].to_vec()).ok()
    }

    fn signature(&mut self) -> Option<String> {
        let size = usize::from(self.take(1)?[0]);
        let text = self.take(size + 1)?;
        String::from_utf8(text[..size].to_vec()).ok()
    }
}

/// What of a message concerns us.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    kind: u8,
    reply_to: u32,
    error: String,
    member: String,
    body: Vec<u8>,
}

impl Message {
    /// Its header fields, of which all that systemd sends hold a string, a signature or a number.
    fn fields(&mut self, data: &[u8]) -> Option<()> {
        let mut reader = Reader::new(data);
        while reader.at < data.len() {
            reader.at = reader.at.next_multiple_of(8);
            let code = reader.take(1)?[0];
            match (code, reader.signature()?.as_str()) {
                (5, "u") => self.reply_to = reader.number()?,
                (3, "s") => self.member = reader.text()?,
                (4, "s") => self.error = reader.text()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.number()?),
                _ => return None,
            }
        }
        Some(())
    }
}

/// The connection.
struct Link {
    stream: UnixStream,
    end: Instant,
}

impl Link {
    fn open() -> Result<Self> {
        let stream = UnixStream::connect(SOCKET).context("Failed reaching systemd")?;
        let mut link = Self { stream, end: Instant::now() + PATIENCE };
        let uid: String = rustix::process::geteuid().as_raw().to_string().bytes().map(|b| format!("{b:02x}")).collect();
        let hello = format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n");
        link.stream.write_all(hello.as_bytes()).context("Failed talking to systemd")?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") && answer.len() < 256 {
            let mut byte = [0];
            link.read(&mut byte)?;
            answer.push(byte[0]);
        }
        if answer.starts_with(b"OK ") { Ok(link) } else { Err(Error::denied("systemd does not let us in")) }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<()> {
        let left = self.end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read_exact(into).context("Failed waiting for systemd")
    }

    fn receive(&mut self) -> Result<Message> {
        let bad = || Error::failed("systemd's answer is not understood");
        let mut head = [0; 16];
        self.read(&mut head)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (body, fields) = (number(4), number(12));
        if head[0] != b'l' || body > MOST || fields > MOST {
            return Err(bad());
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        self.read(&mut rest)?;
        let mut message = Message { kind: head[1], ..Message::default() };
        message.fields(&rest[..fields]).ok_or_else(bad)?;
        message.body = rest.split_off(fields.next_multiple_of(8));
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a message as [`Link::receive`] does.
    fn parse(data: &[u8]) -> Option<Message> {
        let number = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().expect("four")) as usize;
        let fields = number(12);
        let mut message = Message { kind: data[1], ..Message::default() };
        message.fields(&data[16..16 + fields])?;
        message.body = data[16 + fields.next_multiple_of(8)..].to_vec();
        assert_eq!(message.body.len(), number(4));
        Some(message)
    }

    #[test]
    fn the_call_is_well_formed() {
        let message = parse(&call("stapes.scope", "machine.slice", 77)).expect("message");
        assert_eq!((message.kind, message.member.as_str()), (1, "StartTransientUnit"));
        let mut body = Reader::new(&message.body);
        assert_eq!((body.text().as_deref(), body.text().as_deref()), (Some("stapes.scope"), Some("fail")));
        let size = body.number().expect("array") as usize;
        body.at = body.at.next_multiple_of(8);
        let end = body.at + size;
        let mut seen = Vec::new();
        while body.at < end {
            body.at = body.at.next_multiple_of(8);
            let (name, signature) = (body.text().expect("name"), body.signature().expect("signature"));
            match signature.as_str() {
                "s" => drop(body.text().expect("text")),
                "b" | "i" => drop(body.number().expect("number")),
                "t" => {
                    body.at = body.at.next_multiple_of(8);
                    body.take(8).expect("long");
                }
                "au" | "as" => {
                    let size = body.number().expect("array") as usize;
                    body.take(size).expect("elements");
                }
                other => panic!("{other}"),
            }
            seen.push(name);
        }
        assert_eq!(body.at, end);
        assert!(["Slice", "PIDs", "Delegate", "TasksMax"].iter().all(|n| seen.iter().any(|s| s == n)), "{seen:?}");
        assert_eq!(body.number(), Some(0), "no further units");
    }

    #[test]
    fn damaged_answers_are_refused() {
        let whole = call("stapes.scope", "machine.slice", 77);
        let fields = u32::from_le_bytes(whole[12..16].try_into().expect("four")) as usize;
        for cut in 1..fields {
            // Some cuts end between two fields; none may panic.
            let _ = Message::default().fields(&whole[16..16 + cut]);
        }
        assert!(Message::default().fields(&[9, 1, b'x', 0, 0, 0, 0, 0]).is_none(), "a type nobody sends");
        assert!(removed(&[1, 0, 0, 0, 255, 255, 255, 255]).is_none());
    }
}
