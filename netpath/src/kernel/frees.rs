//! The tracepoint `skb:kfree_skb` on the running kernel: what a program has to know before it can read a packet there.
//!
//! In: the kernel's BTF. Out: offsets, names of reasons, an attached program.

use std::collections::HashMap;

use aya::programs::{ProgramError, RawTracePoint};
use aya::{Ebpf, EbpfLoader};
use netpath_ebpf::{SkbOffsets, map};

use super::btf::Btf;

/// The first kernel with a third argument of `kfree_skb` (5.17) has as many.
const ARGUMENTS_WITH_REASON: usize = 3;

/// What the kernel says of the tracepoint and of packets.
#[derive(Debug, Default)]
pub struct SkbFrees {
    /// As the programs take them.
    offsets: [u32; 7],
    /// Names of reasons, by number: those of `enum skb_drop_reason` without the prefix that all have. None before Linux 5.17.
    /// Subsystems have reasons of their own, which that enumeration lacks.
    pub reasons: HashMap<u32, String>,
    /// Whether the kernel gives reasons.
    pub has_reasons: bool,
    /// Why drops cannot be seen, if they cannot.
    pub unseen: Option<String>,
}

impl SkbFrees {
    /// Reads what the running kernel says.
    #[must_use]
    pub fn of_kernel() -> Self {
        let unknown = |unseen| Self { unseen: Some(unseen), ..Self::default() };
        let btf = match Btf::of_kernel() {
            Ok(btf) => btf,
            Err(error) => return unknown(format!("the kernel does not describe its types (BTF): {error}")),
        };
        let Some(offsets) = offsets(&btf) else {
            return unknown("the kernel's description of its types (BTF) lacks struct sk_buff".to_owned());
        };
        let arguments = btf.tracepoint_arguments("kfree_skb");
        Self {
            offsets: offsets.words(),
            has_reasons: arguments.is_some_and(|arguments| arguments >= ARGUMENTS_WITH_REASON),
            reasons: btf
                .enum_names("skb_drop_reason")
                .into_iter()
                .map(|(number, name)| (number, short(name)))
                .collect(),
            unseen: None,
        }
    }

    /// Sets the offsets in an object that is yet to be loaded.
    pub fn prepare<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader.override_global(map::OFFSETS, self.offsets.as_slice(), true);
    }

    /// Attaches the program for kernels with reasons, or that for others. The link lives as long as the object.
    pub fn attach(&mut self, ebpf: &mut Ebpf, with_reasons: &str, without: &str) {
        if self.unseen.is_none() {
            let attached = attach(ebpf, if self.has_reasons { with_reasons } else { without });
            self.unseen = attached.err().map(|error| format!("the kernel refused: {error}"));
        }
    }
}

fn short(name: String) -> String {
    name.strip_prefix("SKB_DROP_REASON_").map(ToOwned::to_owned).unwrap_or(name)
}

fn offsets(btf: &Btf) -> Option<SkbOffsets> {
    let skb = |field| btf.field_offset("sk_buff", field);
    Some(SkbOffsets {
        head: skb("head")?,
        network_header: skb("network_header")?,
        protocol: skb("protocol")?,
        len: skb("len")?,
        dev: skb("dev")?,
        nd_net: btf.field_offset("net_device", "nd_net")?,
        inum: btf.field_offset("net", "ns")?.checked_add(btf.field_offset("ns_common", "inum")?)?,
    })
}

fn attach(ebpf: &mut Ebpf, name: &str) -> Result<(), ProgramError> {
    let program: &mut RawTracePoint = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()?;
    program.load()?;
    program.attach("kfree_skb").map(drop)
}
