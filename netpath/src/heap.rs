//! Keeps memory between windows: what one frees, the next takes again.
//!
//! In: nothing. Out: nothing. It is for the C library of GNU, which gives the top of the heap and large blocks back to the kernel at
//! once, so that each window pays for clearing their pages again. Others are left as they are.

/// Free memory up to this stays with the process: about what a window of 30,000 flows takes.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 64 << 20;
/// Larger blocks are the kernel's when they are free; the most that the C library takes (`HEAP_MAX_SIZE / 2`, malloc/arena.c).
#[cfg(target_env = "gnu")]
const LARGE_BYTES: libc::c_int = 32 << 20;

/// To be called before anything large is allocated.
pub fn keep_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers. What it does not take, it leaves as it was.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
    }
}
