//! The allocator of test builds: it ends a process that allocates or frees between clone and exec.
//!
//! `main` installs it when the `faults` feature is on, so that the crash matrix, which passes every operation of the
//! interpreter in [`super::child`], finds a hidden allocation there. Never in a released binary.

use super::clone::in_child;
use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator behind the check.
#[derive(Debug, Default)]
pub struct Guard;

fn check() {
    if in_child() {
        const WORDS: &[u8] = b"stapes: memory was allocated or freed between clone and exec\n";
        // SAFETY: writes from a static slice, then ends the process; neither allocates.
        unsafe {
            libc::syscall(libc::SYS_write, 2, WORDS.as_ptr(), WORDS.len());
            libc::abort()
        }
    }
}

// SAFETY: hands every call on to the system's allocator as it is.
unsafe impl GlobalAlloc for Guard {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller keeps to the trait's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        check();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clone::mark_child;

    /// How a forked child ended that, marked or not, allocates and frees.
    fn allocate_in_child(marked: bool) -> i32 {
        let layout = Layout::new::<u64>();
        // SAFETY: the child calls the allocator under test and ends; System is not locked by this thread. The parent reaps.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                // No words on the test's output.
                libc::close(2);
                if marked {
                    mark_child();
                }
                let p = Guard.alloc(layout);
                Guard.dealloc(p, layout);
                libc::_exit(0);
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            status
        }
    }

    #[test]
    fn allocating_after_clone_ends_the_process() {
        assert_eq!(allocate_in_child(false), 0);
        let status = allocate_in_child(true);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "status {status}");
    }
}
