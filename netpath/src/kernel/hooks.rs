//! What is attached to the TC hooks of a device, in the order in which packets meet it: TCX programs, then legacy filters.
//!
//! In: ifindexes, in the network namespace of the calling thread. Out: [`DeviceHooks`], plain data. It only reads, and does
//! not judge what it finds. What the caller may not read is `None`: any process may list legacy filters, but TCX
//! programs need `CAP_NET_ADMIN`, and programs' names `CAP_SYS_ADMIN`.

pub mod message;

use std::collections::{BTreeMap, HashMap};
use std::{fmt, io};

use super::bpf;
use crate::model::Direction;
use crate::netlink::Requester;
use crate::netlink::qdiscs::{FilterQdisc, Qdiscs};
use crate::netlink::tc::{EGRESS, INGRESS, TcMessage};

/// What is on a device's hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceHooks {
    /// The parent of legacy filters, if there is one.
    pub qdisc: Option<FilterQdisc>,
    /// TC ingress.
    pub rx: Hook,
    /// TC egress.
    pub tx: Hook,
}

/// One hook: TCX programs run first, then filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hook {
    /// TCX programs, in order; none on kernels before 6.6. `None`: the caller may not ask.
    pub tcx: Option<Vec<TcxProgram>>,
    /// Legacy filters: by chain, in it by priority; of one priority those of one kind and protocol, in order. A packet starts
    /// in chain 0, and reaches another only by a filter's action.
    pub filters: Vec<Filter>,
}

/// A program on a TCX hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcxProgram {
    /// Which program.
    pub program: Program,
    /// The link that holds it there; `None` if it was attached without one.
    pub link_id: Option<u32>,
}

/// A loaded eBPF program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The kernel's number for it.
    pub id: u32,
    /// Its name: at most 15 bytes, with U+FFFD for what is not UTF-8. `None` if it has none or the caller may not know.
    pub name: Option<String>,
    /// A hash of its instructions. `None` if the caller may not know.
    pub tag: Option<[u8; 8]>,
}

/// A legacy filter, with what it takes to delete it (`RTM_DELTFILTER`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// "bpf", "flower", "matchall", …
    pub kind: String,
    /// `tcm_parent`: the hook. A filter of a shared block has no parent.
    pub parent: u32,
    /// The block that several devices share, if it is in one: it acts on all of them.
    pub shared_block: Option<u32>,
    /// Lower ones run first.
    pub priority: u16,
    /// The kind's own number for it.
    pub handle: u32,
    /// `EtherType` of the packets it sees, in host byte order; 3 (`ETH_P_ALL`) for all.
    pub protocol: u16,
    /// The chain it is in.
    pub chain: u32,
    /// What is known of a filter of kind "bpf".
    pub bpf: Option<BpfFilter>,
}

impl Hook {
    /// All programs and filters on it, in order and in words.
    #[must_use]
    pub fn attached(&self) -> Vec<String> {
        let tcx = self.tcx.iter().flatten().map(ToString::to_string);
        tcx.chain(self.filters.iter().map(ToString::to_string)).collect()
    }
}

/// "`cil_from_netdev` (TCX program 47)".
impl fmt::Display for TcxProgram {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program.name {
            Some(name) => write!(to, "{name} (TCX program {})", self.program.id),
            None => write!(to, "TCX program {}", self.program.id),
        }
    }
}

/// "`handle_ingress` (filter of priority 1, program 47)", "a flower filter of priority 2".
impl fmt::Display for Filter {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let priority = self.priority;
        match self.program() {
            Some(Program { id, name: Some(name), .. }) => {
                write!(to, "{name} (filter of priority {priority}, program {id})")
            }
            Some(Program { id, name: None, .. }) => write!(to, "program {id} (filter of priority {priority})"),
            None => write!(to, "a {} filter of priority {priority}", self.kind),
        }
    }
}

impl Filter {
    /// The eBPF program that it is, if it is one.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        self.bpf.as_ref()?.program.as_ref()
    }
}

/// A legacy filter that is an eBPF program (or a classic BPF one, which has no id).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BpfFilter {
    /// The name that its loader gave to the filter: not the program's.
    pub name: Option<String>,
    /// Whether the program's return value is the verdict.
    pub direct_action: bool,
    /// It runs on the network card only (`skip_sw`).
    pub skip_sw: bool,
    /// It runs on the network card (`in_hw`).
    pub in_hw: bool,
    /// The program.
    pub program: Option<Program>,
}

/// Reads what is attached to hooks. Must be used on a thread in the network namespace in which it was opened.
#[derive(Debug)]
pub struct HookReader {
    netlink: Requester,
    /// A program is often on every device, and never changes.
    programs: HashMap<u32, Program>,
}

impl HookReader {
    /// Opens a netlink socket.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Requester::open()?, programs: HashMap::new() })
    }

    /// What is on the hooks of these devices. Those that are gone are missing from the answer.
    pub fn read(&mut self, ifindexes: impl IntoIterator<Item = u32>) -> io::Result<BTreeMap<u32, DeviceHooks>> {
        let qdiscs = self.qdiscs()?;
        let mut devices = BTreeMap::new();
        for ifindex in ifindexes {
            let qdisc = qdiscs.get(&ifindex).copied();
            match self.read_one(ifindex, qdisc) {
                Ok(hooks) => drop(devices.insert(ifindex, hooks)),
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(devices)
    }

    fn read_one(&mut self, ifindex: u32, qdisc: Option<FilterQdisc>) -> io::Result<DeviceHooks> {
        let mut hook = |direction, parent: Option<u32>| -> io::Result<Hook> {
            let filters = parent.map_or(Ok(Vec::new()), |parent| self.filters(ifindex, parent))?;
            Ok(Hook { tcx: self.tcx(ifindex, direction)?, filters })
        };
        // An ingress qdisc answers with its filters, whichever hook it is asked for.
        let rx = hook(Direction::Rx, qdisc.map(|_| INGRESS))?;
        let tx = hook(Direction::Tx, (qdisc == Some(FilterQdisc::Clsact)).then_some(EGRESS))?;
        Ok(DeviceHooks { qdisc, rx, tx })
    }

    /// Which devices have a qdisc for filters.
    pub fn qdiscs(&mut self) -> io::Result<HashMap<u32, FilterQdisc>> {
        Qdiscs::read(&mut self.netlink).map(|qdiscs| qdiscs.for_filters)
    }

    /// The TCX programs on one hook, in order; none on kernels before 6.6. `None`: the caller may not ask (`CAP_NET_ADMIN`).
    /// `ENODEV`: there is no such device.
    pub fn tcx(&mut self, ifindex: u32, direction: Direction) -> io::Result<Option<Vec<TcxProgram>>> {
        match bpf::tcx_programs(ifindex, direction) {
            Ok(programs) => {
                let attached = |(program, link): (u32, u32)| TcxProgram {
                    program: self.program(program),
                    link_id: (link != 0).then_some(link),
                };
                Ok(Some(programs.into_iter().map(attached).collect()))
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EINVAL) => Ok(Some(Vec::new())),
                Some(libc::EPERM) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// The legacy filters on one hook of a device that has a qdisc for them; none if there is no such device.
    fn filters(&mut self, ifindex: u32, parent: u32) -> io::Result<Vec<Filter>> {
        let request = TcMessage { ifindex, parent, ..TcMessage::default() }.to_bytes();
        let mut filters: Vec<Filter> = Vec::new();
        // The kernel's traffic control does not report changes during a dump.
        let _ = self.netlink.dump_all(libc::RTM_GETTFILTER, &request, "filters", |kind, body| {
            filters.extend(message::filter(kind, body)?);
            Ok(())
        })?;
        for program in filters.iter_mut().filter_map(|filter| filter.bpf.as_mut()?.program.as_mut()) {
            program.name = self.program(program.id).name;
        }
        Ok(filters)
    }

    fn program(&mut self, id: u32) -> Program {
        let known = self.programs.entry(id).or_insert_with(|| {
            let (name, tag) = bpf::program_name_and_tag(id).ok().unzip();
            Program { id, name: name.filter(|name| !name.is_empty()), tag }
        });
        known.clone()
    }
}
