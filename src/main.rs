//! The program: decides by its arguments which role this process has, and hands over.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Test builds end when the child of a clone allocates (see `sys::child`).
#[cfg(feature = "faults")]
#[global_allocator]
static ALLOCATOR: stapes::sys::alloc_guard::Guard = stapes::sys::alloc_guard::Guard;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    #[cfg(feature = "faults")]
    stapes::cli::arm_faults();
    // The roles are recognised here, before anything of the command line is touched.
    if args.first().is_some_and(|a| a == stapes::ops::spawn::ROLE) {
        return ExitCode::from(u8::try_from(stapes::monitor::main()).unwrap_or(1));
    }
    if args.first().is_some_and(|a| a == stapes::ops::proxies::ROLE) {
        return ExitCode::from(u8::try_from(stapes::proxy::main()).unwrap_or(1));
    }
    if args.first().is_some_and(|a| a == stapes::ops::network::zone_server::ROLE) {
        return ExitCode::from(u8::try_from(stapes::nameserver::main()).unwrap_or(1));
    }
    command_line(args)
}

/// A function of its own: a monitor must not keep the command line's stack frame for good.
#[inline(never)]
fn command_line(args: Vec<std::ffi::OsString>) -> ExitCode {
    stapes::sys::backtrace::forbid();
    stapes::cli::main(args)
}
