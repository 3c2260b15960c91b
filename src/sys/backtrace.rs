//! Backtraces of errors: there are none.
//!
//! Called by `main`, once.

/// Has no error carry a backtrace, whatever the environment asks for: the static binary has no tables for unwinding, and the
/// attempt would end it (`abort` in the C compiler's unwinder). To be called first in `main`.
#[expect(clippy::disallowed_methods, reason = "before anything else runs, and all is as it was afterwards")]
pub fn forbid() {
    const ASKED_BY: &str = "RUST_LIB_BACKTRACE";
    let before = std::env::var_os(ASKED_BY);
    // SAFETY: no other thread is there yet that could read or write the environment.
    unsafe { std::env::set_var(ASKED_BY, "0") };
    // The standard library looks once and remembers.
    drop(std::backtrace::Backtrace::capture());
    // SAFETY: as above.
    unsafe {
        match before {
            Some(value) => std::env::set_var(ASKED_BY, value),
            None => std::env::remove_var(ASKED_BY),
        }
    }
}
