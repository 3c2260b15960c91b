//! One connection: messages with their length before them (RFC 1035, section 4.2.2), answered one after the other.

use super::serve::now;
use crate::network::zones::answer::{By, Reply, reply};
use crate::network::zones::data::Zones;
use crate::network::zones::transfer::Transfer;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Largest question; what is longer has no business here.
pub const QUESTION: usize = 4096;
/// How long a question may take to arrive, and the other side not to take an answer (RFC 7766, section 6.2.3).
const PATIENCE: Duration = Duration::from_secs(10);
/// Steps before others are looked at.
const TURNS: usize = 64;

/// Whether there is more to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Open,
    Over,
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    from: IpAddr,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    transfer: Option<Box<Transfer>>,
    ended: bool,
    /// When it is given up.
    pub until: Instant,
}

impl Connection {
    /// Of a client's address; it does not block.
    pub fn new(stream: TcpStream, from: IpAddr) -> Self {
        let (input, output, until) = (Vec::new(), Vec::new(), Instant::now() + PATIENCE);
        Self { stream, from, input, output, sent: 0, transfer: None, ended: false, until }
    }

    /// What is waited for.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Is there something to be taken by the other side, or a question that has arrived already?
    pub fn is_writing(&self) -> bool {
        self.sent < self.output.len() || self.transfer.is_some() || self.question().is_some()
    }

    /// The first question, if all of it has arrived.
    fn question(&self) -> Option<&[u8]> {
        let length = usize::from(u16::from_be_bytes(*self.input.first_chunk()?));
        self.input.get(2..2 + length)
    }

    /// Takes and gives what can be.
    pub fn turn(&mut self, zones: &Rc<Zones>) -> State {
        for _ in 0..TURNS {
            match self.step(zones) {
                Ok(true) => {}
                Ok(false) => return State::Over,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return State::Open,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return State::Over,
            }
        }
        State::Open
    }

    /// False at the end.
    fn step(&mut self, zones: &Rc<Zones>) -> std::io::Result<bool> {
        if self.sent < self.output.len() {
            self.sent += self.stream.write(&self.output[self.sent..])?;
            self.until = Instant::now() + PATIENCE;
            return Ok(true);
        }
        (self.output, self.sent) = (Vec::new(), 0);
        if let Some(transfer) = &mut self.transfer {
            match transfer.next(now()) {
                Some(message) => self.say(&message),
                None => self.transfer = None,
            }
            return Ok(true);
        }
        if let Some(question) = self.question().map(<[u8]>::to_vec) {
            self.input.drain(..2 + question.len());
            return Ok(self.answer(zones, question));
        }
        if self.ended || self.input.len() > QUESTION {
            return Ok(false);
        }
        let mut chunk = [0; 512];
        let n = self.stream.read(&mut chunk)?;
        self.ended = n == 0;
        self.input.extend_from_slice(&chunk[..n]);
        Ok(true)
    }

    fn answer(&mut self, zones: &Rc<Zones>, question: Vec<u8>) -> bool {
        self.until = Instant::now() + PATIENCE;
        match reply(zones, question, self.from, By::Stream, now()) {
            Reply::Nothing => return false,
            Reply::Message(message) => self.say(&message),
            Reply::Transfer(transfer) => self.transfer = Some(transfer),
        }
        true
    }

    fn say(&mut self, message: &[u8]) {
        let Ok(length) = u16::try_from(message.len()) else { return };
        self.output = [&length.to_be_bytes(), message].concat();
    }
}
