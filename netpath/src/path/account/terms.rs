//! What `node_network_total_bytes` is made of: terms whose sum is that number, exactly.
//!
//! In: the devices and flows of the report. Out: the terms, and each flow's part of them. What the hooks saw is in a term
//! by where and why it was counted; what they did not see is in a term by its cause; `residual` is what has none.

use hashbrown::HashMap;

use super::outside::kernel_bytes;
use super::residual::{self, clamped};
use crate::model::{Attach, DeviceClass};
use crate::path::topology::{Role, Topology};
use crate::report::{CauseKind, Device, Flow, FlowTerm, PathClass, Term, TermKind};

/// What is there without a total, in the order of the report; what the hooks did not see follows.
const COUNTED: [TermKind; 10] = [
    TermKind::Eni,
    TermKind::EniCopyOnVeth,
    TermKind::EniCopyOnVlan,
    TermKind::Local,
    TermKind::Host,
    TermKind::Undelivered,
    TermKind::Unresolved,
    TermKind::OtherDevices,
    TermKind::Unattributed,
    TermKind::Cause(CauseKind::NotAttached),
];

/// Bytes of each of [`COUNTED`].
#[derive(Default)]
struct Sums([i128; COUNTED.len()]);

impl Sums {
    fn add(&mut self, kind: TermKind, bytes: i128) {
        if let Some((_, sum)) = COUNTED.iter().zip(&mut self.0).find(|(counted, _)| **counted == kind) {
            *sum += bytes;
        }
    }

    fn of(&self, kind: TermKind) -> i128 {
        self.iter().find(|(counted, _)| *counted == kind).map_or(0, |(_, bytes)| bytes)
    }

    fn iter(&self) -> impl Iterator<Item = (TermKind, i128)> {
        COUNTED.into_iter().zip(self.0)
    }
}

/// What the bytes are that a flow has on a device.
fn kind_of(path: PathClass, class: DeviceClass, role: Role) -> TermKind {
    match (class, path) {
        (DeviceClass::Eni, _) => TermKind::Eni,
        (DeviceClass::Vlan, _) if role == Role::Outside => TermKind::EniCopyOnVlan,
        _ if role != Role::Pod || class == DeviceClass::Tunnel => TermKind::OtherDevices,
        (_, PathClass::Eni | PathClass::Transit) => TermKind::EniCopyOnVeth,
        (_, PathClass::Local) => TermKind::Local,
        (_, PathClass::Host) => TermKind::Host,
        (_, PathClass::Undelivered) => TermKind::Undelivered,
        (_, PathClass::Unresolved) => TermKind::Unresolved,
    }
}

/// One sentence for people.
fn explanation(kind: TermKind) -> &'static str {
    match kind {
        TermKind::Eni => "seen on the ENIs themselves: what EC2 counts",
        TermKind::EniCopyOnVeth => "the same bytes again, on the host's end of the pods' veth pairs",
        TermKind::EniCopyOnVlan => "the same bytes again, on VLAN devices that stand on an ENI (branch ENIs)",
        TermKind::Local => "between pods of this node: counted on both pods' veths, and on no ENI",
        TermKind::Host => "between this node and its own pods: counted on one veth, and on no ENI",
        TermKind::Undelivered => "entered by a veth and was dropped on this node",
        TermKind::Unresolved => "seen on a veth, and it is not known where else",
        TermKind::OtherDevices => "seen on bridges, tunnels and other devices on the way",
        TermKind::Unattributed => "seen, but in no flow: ARP, unreadable packets, or no room for more flows",
        TermKind::Cause(cause) => residual::explanation(cause),
        TermKind::Residual => {
            "counted by the kernel and not seen by netpath, or the reverse where it is negative, for no known reason"
        }
    }
}

/// The terms. Notes at each flow its part of them. Without a total there is no residual, nor its causes.
pub fn terms(total: Option<u64>, devices: &[Device], flows: &mut [Flow], topology: &Topology) -> Vec<Term> {
    let mut sums = Sums::default();
    // Of two devices with one ifindex the first has the hooks.
    let mut counted: HashMap<u32, Option<&Device>> = HashMap::new();
    for device in devices {
        counted.entry(device.facts.ifindex).or_insert(device.counted_by_container_insights.then_some(device));
        if device.counted_by_container_insights {
            for hook in [device.rx, device.tx].into_iter().flatten() {
                sums.add(TermKind::Unattributed, hook.unattributed_bytes.into());
            }
            if device.facts.attach == Attach::None {
                sums.add(TermKind::Cause(CauseKind::NotAttached), kernel_bytes(device).unwrap_or(0).into());
            }
        }
    }
    for flow in flows {
        let mut of_flow = Sums::default();
        for hop in &flow.hops {
            let Some(&Some(device)) = counted.get(&hop.ifindex) else { continue };
            // The kernel counted what passes again once, as it was before; without its counters the hook's count both.
            if !hop.shown_again || device.facts.kernel.is_none() {
                let kind = kind_of(flow.path, device.facts.class, topology.role(hop.ifindex));
                of_flow.add(kind, hop.bytes.into());
            }
        }
        // Of what is on veths, twice the local part went from pod to pod.
        let local = of_flow.of(TermKind::EniCopyOnVeth).min(i128::from(flow.local_bytes) * 2);
        of_flow.add(TermKind::EniCopyOnVeth, -local);
        of_flow.add(TermKind::Local, local);
        for (sum, part) in sums.0.iter_mut().zip(of_flow.0) {
            *sum += part;
        }
        let parts = of_flow.iter().filter(|(_, bytes)| *bytes > 0);
        flow.terms =
            parts.map(|(name, bytes)| FlowTerm { name, bytes: u64::try_from(bytes).unwrap_or(u64::MAX) }).collect();
    }

    let mut terms: Vec<Term> = sums.iter().map(|(kind, bytes)| term(kind, bytes)).collect();
    if let Some(total) = total {
        let mut unseen = i128::from(total) - sums.iter().map(|(_, bytes)| bytes).sum::<i128>();
        for cause in residual::TERMS {
            let bytes = caused(devices, cause);
            unseen -= bytes;
            terms.push(term(TermKind::Cause(cause), bytes));
        }
        terms.push(term(TermKind::Residual, unseen));
    }
    terms
}

/// What a cause explains on all counted devices.
fn caused(devices: &[Device], kind: CauseKind) -> i128 {
    let counted = devices.iter().filter(|device| device.counted_by_container_insights);
    let residuals = counted.filter_map(|device| device.residual.as_ref()).flat_map(|both| [&both.rx, &both.tx]);
    let causes = residuals.flat_map(|residual| &residual.causes).filter(|cause| cause.name == kind);
    causes.filter_map(|cause| cause.bytes).map(i128::from).sum()
}

fn term(name: TermKind, bytes: i128) -> Term {
    Term { name, bytes: clamped(bytes), explanation: explanation(name).to_owned() }
}
