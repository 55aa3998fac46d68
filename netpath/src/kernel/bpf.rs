//! The few `bpf(2)` commands that aya has no call for: batched reads of a hash map, waiting for running programs,
//! attaching by ifindex, and which programs are on a hook, as far as the caller may know.
//!
//! In: file descriptors of maps, ifindexes. Out: bytes, numbers. Layouts are those of `union bpf_attr` (Linux,
//! `include/uapi/linux/bpf.h`). Nothing else in netpath calls `bpf(2)` by hand.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use crate::model::Direction;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;
const BPF_LINK_CREATE: libc::c_long = 28;
/// Without a relative program: before all.
const BPF_F_BEFORE: u32 = 1 << 3;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
/// `BPF_MPROG_MAX`: how many programs a hook has room for (`include/linux/bpf_mprog.h`).
const MAX_PROGRAMS: u32 = 64;

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

/// `union bpf_attr`, member for `BPF_MAP_CREATE`, up to `map_name`.
#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
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

/// `union bpf_attr`, member for `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// `union bpf_attr`, member for `BPF_LINK_CREATE`, with `tcx`.
#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative_fd: u32,
    padding: u32,
    expected_revision: u64,
}

/// `union bpf_attr`, member for `BPF_*_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// `union bpf_attr`, member for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_prog_info`, up to the name. The kernel fills as much as it is given room for.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    program_type: u32,
    id: u32,
    tag: [u8; 8],
    sizes: [u32; 2],
    instructions: [u64; 2],
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
}

const PROGRAM_INFO_BYTES: u32 = 80;
const _: () = assert!(size_of::<ProgramInfo>() == PROGRAM_INFO_BYTES as usize);

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

/// Reads and deletes every element of a hash map, passing each to `take`.
///
/// `K` and `V` must be the map's key and value types. The map must be at rest: elements added during the call may or
/// may not be seen. Needs Linux 5.6 (`kernel/bpf/hashtab.c`, `__htab_map_lookup_and_delete_batch`).
///
/// # Safety
/// `K` and `V` must have the size of the map's key and value, and every bit pattern must be valid for them.
pub unsafe fn drain_map<K: Copy, V: Copy>(map: BorrowedFd<'_>, mut take: impl FnMut(K, V)) -> io::Result<()> {
    // The kernel copies whole buckets, and answers ENOSPC where one does not fit; then the room doubles.
    let mut room: usize = 4096;
    let mut keys: Vec<K> = Vec::with_capacity(room);
    let mut values: Vec<V> = Vec::with_capacity(room);
    // A hash map's batch cursor is a bucket number (u32).
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
        // SAFETY: keys and values have room for `count` elements of the map's sizes; the cursors are u32, as a
        // hash map's are.
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
        // 0 with ENOSPC, and the cursor is the bucket that did not fit.
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

/// Reads an element of a per-CPU array, passing each CPU's value to `see`.
///
/// # Safety
/// `V` must have the size of the map's value, a multiple of 8, and every bit pattern must be valid for it; `cpus` must be
/// the number of possible CPUs.
pub unsafe fn read_per_cpu<V>(map: BorrowedFd<'_>, index: u32, cpus: usize, see: impl FnMut(&V)) -> io::Result<()> {
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
    /// Makes the two maps that waiting needs. Needs `CAP_BPF`.
    pub fn new() -> io::Result<Self> {
        let inner = create(BPF_MAP_TYPE_ARRAY, "", None)?;
        let outer = create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "", Some(&inner))?;
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

/// Makes a map that is used for its id alone, with a name of at most 15 bytes. Needs `CAP_BPF`.
pub fn named_map(name: &str) -> io::Result<OwnedFd> {
    create(BPF_MAP_TYPE_ARRAY, name, None)
}

/// Makes an array, or an array of maps like `inner`, with one element of four bytes.
fn create(map_type: u32, name: &str, inner: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    let mut map_name = [0; 16];
    // The last byte stays 0.
    map_name[..15].iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    let mut attr = CreateAttr {
        map_name,
        map_type,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        inner_map_fd: inner.map_or(0, |fd| fd.as_raw_fd().cast_unsigned()),
        ..CreateAttr::default()
    };
    // SAFETY: BPF_MAP_CREATE takes CreateAttr and no addresses, and answers with a descriptor.
    unsafe { open(BPF_MAP_CREATE, &mut attr) }
}

/// Runs a command of `bpf(2)` that answers with a descriptor.
///
/// # Safety
/// As [`bpf`]'s, and `command` must be one that makes a descriptor.
unsafe fn open<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: by this function's contract.
    let fd = unsafe { bpf(command, attr) }?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The ids of the TCX programs on one hook of a device in this thread's network namespace, in the order in which they run,
/// each with the id of its link (0 if it is attached without one).
///
/// Needs `CAP_NET_ADMIN` (else `EPERM`) and Linux 6.6 (else `EINVAL`). `ENODEV`: there is no such device.
pub fn tcx_programs(ifindex: u32, direction: Direction) -> io::Result<Vec<(u32, u32)>> {
    let (mut programs, mut links) = ([0u32; MAX_PROGRAMS as usize], [0u32; MAX_PROGRAMS as usize]);
    let mut attr = QueryAttr {
        target_ifindex: ifindex,
        attach_type: tcx_attach_type(direction),
        prog_ids: programs.as_mut_ptr() as u64,
        link_ids: links.as_mut_ptr() as u64,
        count: MAX_PROGRAMS,
        ..QueryAttr::default()
    };
    // SAFETY: BPF_PROG_QUERY takes QueryAttr, and both arrays have room for `count` ids.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr) }?;
    Ok(programs.into_iter().zip(links).take(attr.count as usize).collect())
}

/// Attaches a loaded program to a hook of a device in this thread's network namespace, before all that are there. It is
/// detached when the descriptor is closed.
///
/// By index, since a device's name need not be text. Needs `CAP_NET_ADMIN` and `CAP_BPF` (else `EPERM`) and Linux 6.6 (else
/// `EINVAL`). `ENODEV`: there is no such device; `ERANGE`: the hook has no room.
pub fn attach_tcx(program: BorrowedFd<'_>, ifindex: u32, direction: Direction) -> io::Result<OwnedFd> {
    let mut attr = LinkAttr {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_ifindex: ifindex,
        attach_type: tcx_attach_type(direction),
        flags: BPF_F_BEFORE,
        ..LinkAttr::default()
    };
    // SAFETY: BPF_LINK_CREATE takes LinkAttr and no addresses, and answers with a descriptor.
    unsafe { open(BPF_LINK_CREATE, &mut attr) }
}

const fn tcx_attach_type(direction: Direction) -> u32 {
    match direction {
        Direction::Rx => BPF_TCX_INGRESS,
        Direction::Tx => BPF_TCX_EGRESS,
    }
}

/// Name (at most 15 bytes; may be empty) and tag of a loaded program.
///
/// Needs `CAP_SYS_ADMIN` (else `EPERM`). `ENOENT`: there is no such program any more.
pub fn program_name_and_tag(id: u32) -> io::Result<(String, [u8; 8])> {
    let mut attr = IdAttr { id, ..IdAttr::default() };
    // SAFETY: BPF_PROG_GET_FD_BY_ID takes IdAttr and no addresses, and answers with a descriptor.
    let program = unsafe { open(BPF_PROG_GET_FD_BY_ID, &mut attr) }?;
    let mut info = ProgramInfo::default();
    let mut attr = InfoAttr {
        bpf_fd: program.as_raw_fd().cast_unsigned(),
        info_len: PROGRAM_INFO_BYTES,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: BPF_OBJ_GET_INFO_BY_FD takes InfoAttr; the kernel writes at most `info_len` bytes to `info`.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    let name = info.name.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok((String::from_utf8_lossy(name).into_owned(), info.tag))
}
