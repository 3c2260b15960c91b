//! The one error type of the library (design, section 11).
//!
//! Everything above `sys` returns [`Error`]. Its [`Kind`] decides the exit code of the command line and, later, an HTTP
//! status; its message is Incus's wording, because scripts match on it. Only the fronts print it.

use std::fmt;

/// What went wrong, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The named object is not there.
    NotFound,
    /// The name is taken.
    Exists,
    /// Another operation holds the object.
    Busy,
    /// The input is wrong.
    Invalid,
    /// The host or this version cannot do it.
    Unsupported,
    /// Permission or policy says no.
    Denied,
    /// The object is in a state that forbids it.
    Conflict,
    /// It was tried and did not work.
    Failed,
    /// A bug of ours.
    Internal,
}

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error: a message for the user, an optional hint on what to do, the cause, and further errors of a teardown that went
/// on after its first one.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Source>,
    others: Vec<Error>,
    errno: Option<i32>,
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(message: impl Into<String>) -> Self {
            Self::new(Kind::$kind, message)
        }
    )*};
}

impl Error {
    /// An error of `kind`. `message`: capital first, no full stop, names in double quotes.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            source: None,
            others: Vec::new(),
            errno: None,
        }))
    }

    constructors! {
        /// [`Kind::NotFound`].
        not_found => NotFound;
        /// [`Kind::Exists`].
        exists => Exists;
        /// [`Kind::Busy`].
        busy => Busy;
        /// [`Kind::Invalid`].
        invalid => Invalid;
        /// [`Kind::Unsupported`].
        unsupported => Unsupported;
        /// [`Kind::Denied`].
        denied => Denied;
        /// [`Kind::Conflict`].
        conflict => Conflict;
        /// [`Kind::Failed`].
        failed => Failed;
        /// [`Kind::Internal`].
        internal => Internal;
    }

    /// Adds what the user can do about it (one line, shown below the message).
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Keeps the number of the failed system call reachable through [`Error::errno`].
    #[must_use]
    pub fn with_errno(mut self, errno: i32) -> Self {
        self.0.errno = Some(errno);
        self
    }

    /// Adds an error that came up while tearing down after this one.
    #[must_use]
    pub fn and(mut self, other: Error) -> Self {
        self.0.others.push(other);
        self
    }

    /// Puts `message` in front; this error becomes its cause. Kind, hint and the other errors stay.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let hint = self.0.hint.take();
        let others = std::mem::take(&mut self.0.others);
        let kind = self.0.kind;
        Self(Box::new(Inner { kind, message: message.into(), hint, source: Some(Box::new(self)), others, errno: None }))
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The hint, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Errors of the teardown that followed.
    pub fn others(&self) -> &[Error] {
        &self.0.others
    }

    /// The first operating-system error number in the chain of causes.
    pub fn errno(&self) -> Option<i32> {
        let mut at: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(e) = at {
            let found = match e.downcast_ref::<Error>() {
                Some(ours) => ours.0.errno,
                None => e.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error),
            };
            if found.is_some() {
                return found;
            }
            at = e.source();
        }
        None
    }

    /// Joins the errors of a batch into one; `None` if there were none.
    pub fn join(errors: Vec<Error>) -> Option<Error> {
        let mut all = errors.into_iter();
        let first = all.next()?;
        Some(all.fold(first, Error::and))
    }
}

/// The whole chain on one line: `message: cause: cause`.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut at = self.0.source.as_ref().map(|s| &**s as &(dyn std::error::Error + 'static));
        while let Some(e) = at {
            match e.downcast_ref::<Error>() {
                // It prints its own chain.
                Some(ours) => return write!(f, ": {ours}"),
                None => write!(f, ": {e}")?,
            }
            at = e.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        for o in &self.0.others {
            write!(f, "; also {o:?}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| &**s as &(dyn std::error::Error + 'static))
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        let mut error = Error::failed(os_text(&e));
        error.0.errno = e.raw_os_error();
        error
    }
}

impl From<nix::errno::Errno> for Error {
    fn from(e: nix::errno::Errno) -> Self {
        std::io::Error::from(e).into()
    }
}

impl From<serde_json::Error> for Error {
    fn from(e: serde_json::Error) -> Self {
        Error::failed(e.to_string())
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(e: rustix::io::Errno) -> Self {
        std::io::Error::from(e).into()
    }
}

/// Text of an I/O error without Rust's "(os error N)".
fn os_text(e: &std::io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error ") {
        Some(at) => text[..at].to_string(),
        None => text,
    }
}

/// Adds context to the errors of lower layers.
pub trait Context<T> {
    /// Puts a fixed message in front.
    fn context(self, message: impl Into<String>) -> Result<T>;
    /// Puts a message in front that is built only on failure.
    fn with_context<S: Into<String>>(self, message: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, message: impl Into<String>) -> Result<T> {
        self.map_err(|e| e.into().context(message))
    }
    fn with_context<S: Into<String>>(self, message: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.into().context(message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_prints_on_one_line_and_keeps_the_errno() {
        let io = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let e: Result<()> = Err(io).context("Failed writing \"x\"");
        let e = e.context("Failed creating instance").expect_err("is an error").hint("free some space");
        assert_eq!(e.to_string(), "Failed creating instance: Failed writing \"x\": No space left on device");
        assert_eq!(e.errno(), Some(libc::ENOSPC));
        assert_eq!(e.context("Outer").hint_text(), Some("free some space"));
    }

    #[test]
    fn join_keeps_all() {
        let e = Error::join(vec![Error::not_found("A"), Error::busy("B"), Error::failed("C")]).expect("three");
        assert_eq!(e.kind(), Kind::NotFound);
        assert_eq!(e.others().len(), 2);
        assert!(Error::join(Vec::new()).is_none());
    }
}
