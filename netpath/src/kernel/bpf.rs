//! The few `bpf(2)` commands that aya has no call for: batched reads of a hash map, and waiting for running programs.
//!
//! In: file descriptors of maps. Out: bytes. Layouts are those of `union bpf_attr` (Linux, `include/uapi/linux/bpf.h`).
//! Nothing else in netpath calls `bpf(2)` by hand.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;

/// `union bpf_attr`, member for `BPF_MAP_*_BATCH`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `union bpf_attr`, member for `BPF_MAP_CREATE`, up to `inner_map_fd`.
#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
}

/// `union bpf_attr`, member for `BPF_MAP_*_ELEM`.
#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Runs `bpf(2)`; a negative answer becomes the `errno`.
///
/// # Safety
/// `attr` must be the member of `union bpf_attr` that `command` takes, and the addresses in it valid for what the
/// kernel reads and writes there.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: by this function's contract; the size passed is the size of what `attr` points to.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Reads every element of a hash map and deletes it, giving each to `take`.
///
/// `K` and `V` must be the map's key and value types. The map must be at rest: elements added during the call may or
/// may not be seen. Needs Linux 5.6 (`kernel/bpf/hashtab.c`, `__htab_map_lookup_and_delete_batch`).
///
/// # Safety
/// `K` and `V` must have the size of the map's key and value, and every bit pattern must be valid for them.
pub unsafe fn take_all<K: Copy, V: Copy>(map: BorrowedFd<'_>, mut take: impl FnMut(K, V)) -> io::Result<()> {
    // The kernel copies whole buckets, and answers ENOSPC where one does not fit; then the room doubles.
    let mut room: usize = 4096;
    let mut keys: Vec<K> = Vec::with_capacity(room);
    let mut values: Vec<V> = Vec::with_capacity(room);
    // The place to go on from is a bucket number (u32) to a hash map.
    let mut place: u32 = 0;
    let mut first = true;
    loop {
        let mut attr = BatchAttr {
            in_batch: if first { 0 } else { std::ptr::from_ref(&place) as u64 },
            out_batch: std::ptr::from_mut(&mut place) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(room).unwrap_or(u32::MAX),
            map_fd: map.as_raw_fd().cast_unsigned(),
            ..BatchAttr::default()
        };
        // SAFETY: keys and values have room for `count` elements of the map's sizes; the places are u32, as a hash
        // map's are.
        let answer = unsafe { bpf(BPF_MAP_LOOKUP_AND_DELETE_BATCH, &mut attr) };
        let done = match answer {
            Ok(_) => false,
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => true,
                Some(libc::ENOSPC) => {
                    room *= 2;
                    keys.reserve(room);
                    values.reserve(room);
                    false
                }
                _ => return Err(error),
            },
        };
        // 0 with ENOSPC, and the place is the bucket that did not fit.
        let count = (attr.count as usize).min(keys.capacity());
        // SAFETY: the kernel wrote `count` keys and values, and any bit pattern is valid for both.
        unsafe {
            keys.set_len(count);
            values.set_len(count);
        }
        for (key, value) in keys.drain(..).zip(values.drain(..)) {
            take(key, value);
        }
        if done {
            return Ok(());
        }
        first = false;
    }
}

/// Reads an element of a per-CPU array, and gives each CPU's value to `see`. It stays.
///
/// # Safety
/// `V` must have the size of the map's value, a multiple of 8, and every bit pattern must be valid for it; `cpus` must be
/// the number of possible CPUs.
pub unsafe fn see_per_cpu<V>(map: BorrowedFd<'_>, index: u32, cpus: usize, see: impl FnMut(&V)) -> io::Result<()> {
    const { assert!(size_of::<V>().is_multiple_of(8), "the kernel pads each CPU's value to 8 bytes") };
    let mut values: Vec<V> = Vec::with_capacity(cpus);
    let mut attr = ElementAttr {
        map_fd: map.as_raw_fd().cast_unsigned(),
        key: std::ptr::from_ref(&index) as u64,
        value: values.as_mut_ptr() as u64,
        ..ElementAttr::default()
    };
    // SAFETY: an array's keys are u32, and there is room for each possible CPU's value.
    unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) }?;
    // SAFETY: the kernel wrote each CPU's value, and any bit pattern is valid.
    unsafe { values.set_len(cpus) };
    values.iter().for_each(see);
    Ok(())
}

/// Waits until every eBPF program that was running when the call began has ended.
///
/// The kernel promises that for an update of a map of maps (`kernel/bpf/syscall.c`, `maybe_wait_bpf_programs`).
/// `membarrier(2)` would do as well, but is refused on kernels with `nohz_full` and does nothing on one CPU.
#[derive(Debug)]
pub struct Barrier {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Barrier {
    /// Makes the two maps that serve for waiting. Needs `CAP_BPF`.
    pub fn new() -> io::Result<Self> {
        let inner = create(BPF_MAP_TYPE_ARRAY, None)?;
        let outer = create(BPF_MAP_TYPE_ARRAY_OF_MAPS, Some(&inner))?;
        Ok(Self { outer, inner })
    }

    /// Waits; some milliseconds, as long as an RCU grace period of this kernel takes.
    pub fn wait(&self) -> io::Result<()> {
        let key = 0u32;
        let value = self.inner.as_raw_fd().cast_unsigned();
        let mut attr = ElementAttr {
            map_fd: self.outer.as_raw_fd().cast_unsigned(),
            key: std::ptr::from_ref(&key) as u64,
            value: std::ptr::from_ref(&value) as u64,
            ..ElementAttr::default()
        };
        // SAFETY: key and value are u32, as a map of maps takes them.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
    }
}

/// Makes an array, or an array of maps like `inner`, with one element of four bytes.
fn create(map_type: u32, inner: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    let mut attr = CreateAttr {
        map_type,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        inner_map_fd: inner.map_or(0, |fd| fd.as_raw_fd().cast_unsigned()),
        ..CreateAttr::default()
    };
    // SAFETY: BPF_MAP_CREATE takes CreateAttr and no addresses.
    let fd = unsafe { bpf(BPF_MAP_CREATE, &mut attr) }?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
