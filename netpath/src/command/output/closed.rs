//! Which descriptors whoever started netpath left open for it.
//!
//! Stdout may be closed, or open for reading only. Rust's runtime opens /dev/null in its place, and overlooks that it cannot be
//! written: a report would be lost unnoticed.

use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether nobody can read what is written to stdout.
pub fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// Runs before the runtime starts: the C library calls what is in this section before `main`.
#[used]
// SAFETY: it only makes a system call and sets a flag, which needs nothing that is initialised later.
#[unsafe(link_section = ".init_array")]
static CHECK: extern "C" fn() = check;

extern "C" fn check() {
    // SAFETY: F_GETFL takes no pointers, and fails for a descriptor that is not open.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFL) };
    CLOSED.store(flags == -1 || flags & libc::O_ACCMODE == libc::O_RDONLY, Ordering::Relaxed);
}

/// Whether whoever started netpath has opened this descriptor. netpath's own are closed when another program takes its place.
pub fn is_inherited(descriptor: i32) -> bool {
    // SAFETY: as above.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}
