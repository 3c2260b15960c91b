//! A change as data: the request, and what is said if the kernel refuses it.

use crate::error::{Error, Kind};
use crate::sys::netlink::{Refusal, Request};
use netlink_packet_route::RouteNetlinkMessage;

/// Which interface is meant: the kernel goes by the number, messages by the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Number in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
}

/// One change of the kernel's network state, to be run by [`super::Links`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Step {
    pub(super) request: Request,
    what: String,
    passes: &'static [i32],
}

impl Step {
    /// A request, and what was not done if it fails: `Failed to …`.
    pub(super) fn new(what: String, message: RouteNetlinkMessage) -> Self {
        Self { request: Request { message, flags: 0 }, what, passes: &[] }
    }

    /// Flags of the request.
    pub(super) fn flags(mut self, flags: u16) -> Self {
        self.request.flags = flags;
        self
    }

    /// Error numbers that say that nothing was left to do.
    pub(super) fn passes(mut self, numbers: &'static [i32]) -> Self {
        self.passes = numbers;
        self
    }

    /// The request and what reads its answer.
    pub(super) fn split(self) -> (Request, impl FnOnce(Result<(), Refusal>) -> Result<(), Error>) {
        let Self { request, what, passes } = self;
        (request, move |answer: Result<(), Refusal>| match answer {
            Err(refusal) if !passes.contains(&refusal.errno) => Err(error(what, refusal)),
            _ => Ok(()),
        })
    }
}

/// The kernel's refusal as an error of ours.
pub(super) fn error(what: String, refusal: Refusal) -> Error {
    let kind = match refusal.errno {
        libc::EEXIST => Kind::Exists,
        libc::ENODEV | libc::ESRCH => Kind::NotFound,
        libc::EBUSY => Kind::Busy,
        libc::EPERM | libc::EACCES => Kind::Denied,
        libc::EOPNOTSUPP => Kind::Unsupported,
        _ => Kind::Failed,
    };
    Error::new(kind, what).caused_by(Error::from(refusal))
}
