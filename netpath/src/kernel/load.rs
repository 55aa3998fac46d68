//! Loads the embedded eBPF object, or gives the reason in one line ([`LoadError`]).
//!
//! In: how many flows to make room for. Out: the programs ([`Attacher`]), the maps ([`Drain`]), and how drops are
//! seen ([`SkbFrees`]).

use std::io::Read as _;

use aya::programs::SchedClassifier;
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use caps::{CapSet, Capability, CapsHashSet};
use flate2::bufread::GzDecoder;
use netpath_ebpf::map;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::attach::{Attacher, HookPrograms};
use super::drain::Drain;
use super::error::{LoadError, WITHOUT_MEMLOCK, explained};
use super::frees::SkbFrees;

/// The oldest kernel that netpath is tested on.
pub const OLDEST: KernelVersion = KernelVersion::new(5, 10, 0);

/// Whether this binary has its eBPF programs.
#[must_use]
pub fn has_object() -> bool {
    !OBJECT.is_empty()
}

/// Loads the object with room for `max_flows` flows of each address family, and as many ICMP errors, and its programs.
pub fn load(max_flows: u32) -> Result<(Attacher, Drain, SkbFrees), LoadError> {
    let kernel = prepare(OBJECT)?;
    load_object(max_flows, kernel).map_err(|error| explained(error, kernel))
}

/// What comes before an object is loaded: whether it can be, and the limit on locked memory.
pub(super) fn prepare(object: &[u8]) -> Result<KernelVersion, LoadError> {
    let kernel = KernelVersion::current().map_err(|error| LoadError::KernelVersion(error.to_string()))?;
    can_load(object, kernel, missing_capabilities())?;
    if kernel < WITHOUT_MEMLOCK {
        raise_memory_limit();
    }
    Ok(kernel)
}

fn load_object(max_flows: u32, kernel: KernelVersion) -> Result<(Attacher, Drain, SkbFrees), LoadError> {
    let mut frees = SkbFrees::of_kernel();
    let mut ebpf = load_maps(max_flows, &frees)?;
    load_programs(&mut ebpf, &COUNTING)?;
    frees.attach(&mut ebpf, map::COUNT_DROPPED, map::COUNT_FREED);
    let drain = Drain::new(&mut ebpf)?;
    Ok((Attacher::new(ebpf, COUNTING, kernel).map_err(LoadError::Clsact)?, drain, frees))
}

fn load_maps(max_flows: u32, frees: &SkbFrees) -> Result<Ebpf, LoadError> {
    let mut loader = EbpfLoader::new();
    frees.prepare(&mut loader);
    for epoch in 0..2 {
        for name in [map::V4[epoch], map::V6[epoch], map::ICMP_ERRORS[epoch]] {
            loader.map_max_entries(name, max_flows);
        }
    }
    Ok(loader.load(&unpacked(OBJECT)?)?)
}

/// The object, which build.rs compressed.
pub(super) fn unpacked(object: &[u8]) -> Result<Vec<u8>, LoadError> {
    let mut bytes = Vec::new();
    let read = GzDecoder::new(object).read_to_end(&mut bytes);
    read.map(|_| bytes).map_err(|error| LoadError::Layout(format!("the object is damaged: {error}")))
}

/// Lets this process lock as much memory as it may. Without `CAP_SYS_RESOURCE` that is the hard limit.
fn raise_memory_limit() {
    let unlimited = Rlimit { current: None, maximum: None };
    // Should neither work, the kernel refuses a map, and `explained` finds the reason.
    if setrlimit(Resource::Memlock, unlimited).is_err() {
        let limit = getrlimit(Resource::Memlock);
        let _ = setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, ..limit });
    }
}

/// The programs that count.
const COUNTING: HookPrograms = HookPrograms { ethernet: [map::RX, map::TX], ip: [map::RX_IP, map::TX_IP] };

/// Loads the programs for devices with Ethernet headers, both at once: the verifier takes most of a start, and works on as
/// many CPUs as it is given programs. Those for other devices are loaded when there is one.
pub(super) fn load_programs(ebpf: &mut Ebpf, programs: &HookPrograms) -> Result<(), LoadError> {
    for name in programs.ethernet.into_iter().chain(programs.ip) {
        ebpf.program(name).ok_or_else(|| LoadError::Layout(format!("no program {name}")))?;
    }
    std::thread::scope(|scope| {
        let named = |(name, program)| Some((programs.ethernet.into_iter().find(|needed| *needed == name)?, program));
        let loading: Vec<_> = ebpf
            .programs_mut()
            .filter_map(named)
            .map(|(name, program)| {
                let load = move || {
                    let program: &mut SchedClassifier = program.try_into()?;
                    program.load()
                };
                (name, scope.spawn(load))
            })
            .collect();
        loading.into_iter().try_for_each(|(name, thread)| {
            let loaded = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            loaded.map_err(|error| LoadError::Program { name, error })
        })
    })
}

#[cfg(not(netpath_without_ebpf))]
static OBJECT: &[u8] = include_bytes!(env!("NETPATH_EBPF_OBJECT"));

#[cfg(netpath_without_ebpf)]
static OBJECT: &[u8] = &[];

/// What is known before the kernel is asked: whether there is an object, the kernel is new enough, and the process may.
fn can_load(object: &[u8], kernel: KernelVersion, missing: Option<String>) -> Result<(), LoadError> {
    if object.is_empty() {
        return Err(LoadError::NoObject);
    }
    if kernel < OLDEST {
        return Err(LoadError::KernelTooOld(kernel));
    }
    missing.map_or(Ok(()), |missing| Err(LoadError::Capabilities(missing)))
}

/// Which capabilities this thread lacks, in words; `None` if none, or if that is unknown: then the kernel refuses what they
/// are for.
#[must_use]
pub fn missing_capabilities() -> Option<String> {
    missing_of(&caps::read(None, CapSet::Effective).ok()?)
}

fn missing_of(effective: &CapsHashSet) -> Option<String> {
    let has = |capability: Capability| effective.contains(&capability);
    // CAP_SYS_ADMIN stands in for those that were once a part of it.
    let stood_in_for = |capability| capability != Capability::CAP_NET_ADMIN && has(Capability::CAP_SYS_ADMIN);
    let missing: Vec<String> = [Capability::CAP_NET_ADMIN, Capability::CAP_BPF, Capability::CAP_PERFMON]
        .into_iter()
        .filter(|capability| !has(*capability) && !stood_in_for(*capability))
        .map(|capability| capability.to_string())
        .collect();
    (!missing.is_empty()).then(|| missing.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::error::tests::assert_says;

    #[test]
    fn each_refusal_names_the_fix() {
        let new = OLDEST;
        assert!(can_load(&[0], new, None).is_ok());
        assert_says(can_load(&[], new, None), "without its eBPF object", "cargo xtask setup");
        assert_says(can_load(&[0], KernelVersion::new(5, 9, 99), None), "Linux 5.9.99", "needs 5.10 or newer");
        assert_says(can_load(&[0], new, missing_of(&[].into())), "missing CAP_NET_ADMIN", "sudo");
    }

    #[test]
    fn capabilities() {
        use Capability::{CAP_BPF, CAP_CHOWN, CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_SYS_ADMIN};
        assert_eq!(missing_of(&caps::all()), None);
        let as_in_a_container = missing_of(&[CAP_CHOWN, CAP_NET_RAW].into());
        assert_eq!(as_in_a_container.as_deref(), Some("CAP_NET_ADMIN and CAP_BPF and CAP_PERFMON"));
        assert_eq!(missing_of(&[CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON].into()), None);
        assert_eq!(missing_of(&[CAP_NET_ADMIN, CAP_BPF].into()).as_deref(), Some("CAP_PERFMON"));
        assert_eq!(missing_of(&[CAP_NET_ADMIN, CAP_SYS_ADMIN].into()), None, "which once was the other two as well");
    }
}
