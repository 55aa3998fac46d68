//! A driver's own statistics: the ioctls behind `ethtool -S`.
//!
//! In: a device's name. Out: the driver's names and numbers. Needs no privilege. There is no other way to them: ethtool's
//! netlink interface has statistics that are the same for all drivers, and no others.

use std::io;
use std::ptr;

use super::{ask, text};

// linux/ethtool.h
const GSTRINGS: u32 = 0x1b;
const GSTATS: u32 = 0x1d;
const GSSET_INFO: u32 = 0x37;
const SS_STATS: u32 = 1;
const NAME_BYTES: usize = 32;

/// Drivers with a queue a CPU have some thousands.
const MAX_STATISTICS: usize = 16 << 10;
/// How often to ask again, if the number of statistics changes while they are read.
const ATTEMPTS: u32 = 3;

/// `struct ethtool_sset_info` for one set.
#[repr(C)]
struct SsetInfo {
    cmd: u32,
    reserved: u32,
    sset_mask: u64,
    count: u32,
}

/// The statistics of the device `name`, as many as its driver has, in its order.
///
/// # Errors
/// `EOPNOTSUPP` if it has none, `ENODEV` if there is no such device.
pub fn statistics(name: &[u8]) -> io::Result<Vec<(String, u64)>> {
    for _ in 0..ATTEMPTS {
        if let Some(statistics) = read(name)? {
            return Ok(statistics);
        }
    }
    Err(io::Error::other("the statistics change while they are read"))
}

/// `None` if their number changed meanwhile.
fn read(name: &[u8]) -> io::Result<Option<Vec<(String, u64)>>> {
    let mut info = SsetInfo { cmd: GSSET_INFO, reserved: 0, sset_mask: 1 << SS_STATS, count: 0 };
    // SAFETY: with one bit in its mask, ETHTOOL_GSSET_INFO writes one number behind it; all of it outlives the call.
    unsafe { ask(name, (&raw mut info).cast())? };
    let count = usize::try_from(info.count).unwrap_or(usize::MAX);
    if info.sset_mask == 0 || count == 0 {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    if count > MAX_STATISTICS {
        return Err(io::Error::other(format!("{count} statistics are more than netpath reads")));
    }

    // `struct ethtool_gstrings`: command, set, length, then the names.
    let names = Guarded::new(12 + MAX_STATISTICS * NAME_BYTES)?;
    names.write([GSTRINGS, SS_STATS, info.count]);
    // SAFETY: ETHTOOL_GSTRINGS reads the three numbers that were written, and writes names, which `names` has room for; of
    // more it would fail at the page behind.
    unsafe { ask(name, names.start().cast())? };
    // `struct ethtool_stats`: command, count, then the numbers.
    let numbers = Guarded::new(8 + MAX_STATISTICS * size_of::<u64>())?;
    numbers.write([GSTATS, info.count]);
    // SAFETY: as above, of ETHTOOL_GSTATS and its numbers.
    unsafe { ask(name, numbers.start().cast())? };

    Ok(of(names.bytes(), numbers.bytes(), info.count))
}

/// The `count` statistics in a `struct ethtool_gstrings` and a `struct ethtool_stats`; `None` if one of these has another
/// number of them, or is cut off.
#[must_use]
pub fn of(names: &[u8], numbers: &[u8], count: u32) -> Option<Vec<(String, u64)>> {
    let count_in = |bytes: &[u8], at| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    if count_in(names, 8) != Some(count) || count_in(numbers, 4) != Some(count) {
        return None;
    }
    let values = numbers.get(8..)?.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
    let names = names.get(12..)?.chunks_exact(NAME_BYTES).map(|name| text(name).unwrap_or_default());
    let count = usize::try_from(count).ok()?;
    let statistics: Vec<_> = names.zip(values).take(count).collect();
    (statistics.len() == count).then_some(statistics)
}

/// Memory with a guard page behind it. The kernel writes as many statistics as there are when it does,
/// not as many as the caller has made room for; that they have become more must not cost more than an error.
struct Guarded {
    start: *mut u8,
    bytes: usize,
    mapped: usize,
}

impl Guarded {
    /// All zero.
    fn new(bytes: usize) -> io::Result<Self> {
        const PAGE: usize = 64 << 10;
        let bytes = bytes.next_multiple_of(PAGE);
        let mapped = bytes + PAGE;
        // SAFETY: a new private mapping, where the kernel likes to put it.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), mapped, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let guarded = Self { start: start.cast(), bytes, mapped };
        // SAFETY: the beginning of the mapping, to which there is no other pointer.
        if unsafe { libc::mprotect(start, bytes, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(guarded)
    }

    fn start(&self) -> *mut u8 {
        self.start
    }

    /// Writes numbers to its beginning.
    fn write<const N: usize>(&self, numbers: [u32; N]) {
        // SAFETY: `bytes` is a multiple of a page, and a page has room for a few numbers and is aligned for them.
        unsafe { self.start.cast::<[u32; N]>().write(numbers) };
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable for this long, and was zero or written by the kernel.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping that was made, of which no reference is left.
        unsafe { libc::munmap(self.start.cast(), self.mapped) };
    }
}
