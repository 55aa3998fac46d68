//! CPU time and memory of this process and thread, as the kernel counts them.

use std::fs;

use anyhow::{Context, Result};

/// CPU time of the calling thread, in ns: what others do on the machine is not in it.
pub fn thread_cpu_ns() -> u64 {
    now_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of all threads of this process, in ns.
pub fn process_cpu_ns() -> u64 {
    now_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Time since the machine started, in ns, the same for every process.
pub fn monotonic_ns() -> u64 {
    now_ns(libc::CLOCK_MONOTONIC)
}

fn now_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec. These clocks exist on every Linux, so it cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Makes the peak of resident memory start anew, at what is resident now (proc(5), `clear_refs`).
pub fn reset_peak_memory() -> Result<()> {
    fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of resident memory")
}

/// The peak of resident memory, in bytes (`VmHWM`).
pub fn peak_memory_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.split_whitespace().next().context("no VmHWM")?.parse()?;
    Ok(kib * 1024)
}

/// Keeps this thread on the CPU it is on, so that its per-CPU slots stay its own.
pub fn stay_on_this_cpu() {
    // SAFETY: sched_getcpu takes nothing; the set is a plain value that lives through the call. If it fails, the figures
    // are noisier, not wrong.
    unsafe {
        let cpu = libc::sched_getcpu();
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if let Ok(cpu) = usize::try_from(cpu) {
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
        }
    }
}
