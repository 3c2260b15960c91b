//! The states an instance can be in, with Incus's names and numbers.

use serde::{Serialize, Serializer};

/// State of an instance. Derived from the kernel each time, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Runs.
    Running,
    /// Does not run.
    Stopped,
    /// Runs, but is frozen.
    Frozen,
    /// Its record or its state cannot be read.
    Error,
    /// Is being started.
    Starting,
    /// Is being stopped.
    Stopping,
    /// Runs, and the guest has called itself ready.
    Ready,
}

impl Status {
    /// As objects show it: `Running`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Stopped => "Stopped",
            Self::Frozen => "Frozen",
            Self::Error => "Error",
            Self::Starting => "Starting",
            Self::Stopping => "Stopping",
            Self::Ready => "Ready",
        }
    }

    /// As tables show it: `RUNNING`.
    pub fn upper(self) -> String {
        self.as_str().to_uppercase()
    }

    /// Number in objects.
    pub fn code(self) -> u32 {
        match self {
            Self::Stopped => 102,
            Self::Running => 103,
            Self::Starting => 106,
            Self::Stopping => 107,
            Self::Frozen => 110,
            Self::Error => 112,
            Self::Ready => 113,
        }
    }

    /// Is there something that runs?
    pub fn is_active(self) -> bool {
        !matches!(self, Self::Stopped | Self::Error)
    }

    /// Reads a name in any case.
    pub fn parse(text: &str) -> Option<Self> {
        const ALL: [Status; 7] = [
            Status::Running,
            Status::Stopped,
            Status::Frozen,
            Status::Error,
            Status::Starting,
            Status::Stopping,
            Status::Ready,
        ];
        ALL.into_iter().find(|s| s.as_str().eq_ignore_ascii_case(text))
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(Status::parse("RUNNING"), Some(Status::Running));
        assert_eq!(Status::Frozen.upper(), "FROZEN");
        assert_eq!((Status::Running.code(), Status::Stopped.code()), (103, 102));
        assert!(Status::Frozen.is_active() && !Status::Error.is_active());
        assert_eq!(Status::parse("x"), None);
    }
}
