//! What `node_network_total_bytes` is made of: terms whose sum is that number, exactly.
//!
//! In: the devices and flows of the report. Out: the terms, and each flow's part of them. What the hooks saw is in a term
//! by where and why it was counted; what they did not see is in a term by its cause; `residual` is what has none.

use hashbrown::HashMap;

use super::outside::kernel_bytes;
use super::residual::{Why, clamped};
use crate::model::{Attach, DeviceClass};
use crate::path::topology::{Role, Topology};
use crate::report::{Device, Flow, FlowTerm, PathClass, Term};

/// A part of `node_network_total_bytes`, in the order of the report; what netpath did not see follows them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Eni,
    EniCopyOnVeth,
    EniCopyOnVlan,
    Local,
    Host,
    Undelivered,
    Unresolved,
    OtherDevices,
    Unattributed,
    NotAttached,
}

impl Part {
    const ALL: [Self; 10] = [
        Self::Eni,
        Self::EniCopyOnVeth,
        Self::EniCopyOnVlan,
        Self::Local,
        Self::Host,
        Self::Undelivered,
        Self::Unresolved,
        Self::OtherDevices,
        Self::Unattributed,
        Self::NotAttached,
    ];

    /// What the bytes are that a flow has on a device.
    fn of(path: PathClass, class: DeviceClass, role: Role) -> Self {
        match (class, path) {
            (DeviceClass::Eni, _) => Self::Eni,
            (DeviceClass::Vlan, _) if role == Role::Outside => Self::EniCopyOnVlan,
            _ if role != Role::Pod || class == DeviceClass::Tunnel => Self::OtherDevices,
            (_, PathClass::Eni | PathClass::Transit) => Self::EniCopyOnVeth,
            (_, PathClass::Local) => Self::Local,
            (_, PathClass::Host) => Self::Host,
            (_, PathClass::Undelivered) => Self::Undelivered,
            (_, PathClass::Unresolved) => Self::Unresolved,
        }
    }

    /// The term's name and its explanation.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Eni => ("eni", "seen on the ENIs themselves: what EC2 counts"),
            Self::EniCopyOnVeth => {
                ("eni_copy_on_veth", "the same bytes again, on the host's end of the pods' veth pairs")
            }
            Self::EniCopyOnVlan => {
                ("eni_copy_on_vlan", "the same bytes again, on VLAN devices that stand on an ENI (branch ENIs)")
            }
            Self::Local => ("local", "between pods of this node: counted on both pods' veths, and on no ENI"),
            Self::Host => ("host", "between this node and its own pods: counted on one veth, and on no ENI"),
            Self::Undelivered => ("undelivered", "entered by a veth and was dropped on this node"),
            Self::Unresolved => ("unresolved", "seen on a veth, and it is not known where else"),
            Self::OtherDevices => ("other_devices", "seen on bridges, tunnels and other devices on the way"),
            Self::Unattributed => {
                ("unattributed", "seen, but in no flow: ARP, unreadable packets, or no room for more flows")
            }
            Self::NotAttached => Why::NotAttached.words(),
        }
    }
}

/// The terms. Notes at each flow its part of them. Without a total there is no residual, nor its causes.
pub fn terms(total: Option<u64>, devices: &[Device], flows: &mut [Flow], topology: &Topology) -> Vec<Term> {
    let mut sums = [0i128; Part::ALL.len()];
    // Of two devices with one ifindex the first has the hooks.
    let mut counted: HashMap<u32, Option<&Device>> = HashMap::new();
    for device in devices {
        counted.entry(device.facts.ifindex).or_insert(device.counted_by_container_insights.then_some(device));
        if device.counted_by_container_insights {
            for hook in [device.rx, device.tx].into_iter().flatten() {
                sums[Part::Unattributed as usize] += i128::from(hook.unattributed_bytes);
            }
            if device.facts.attach == Attach::None {
                sums[Part::NotAttached as usize] += i128::from(kernel_bytes(device).unwrap_or(0));
            }
        }
    }
    for flow in flows {
        let mut parts = [0u64; Part::ALL.len()];
        for hop in &flow.hops {
            let Some(&Some(device)) = counted.get(&hop.ifindex) else { continue };
            // The kernel counted what passes again once, as it was before; without its counters the hook's count both.
            if !hop.shown_again || device.facts.kernel.is_none() {
                let part = Part::of(flow.path, device.facts.class, topology.role(hop.ifindex)) as usize;
                parts[part] = parts[part].saturating_add(hop.bytes);
                sums[part] += i128::from(hop.bytes);
            }
        }
        // Of what is on veths, twice the local part went from pod to pod.
        let local = parts[Part::EniCopyOnVeth as usize].min(flow.local_bytes.saturating_mul(2));
        for (part, sign) in [(Part::EniCopyOnVeth, -1), (Part::Local, 1)] {
            parts[part as usize] = parts[part as usize].saturating_add_signed(sign * i64::try_from(local).unwrap_or(0));
            sums[part as usize] += i128::from(sign) * i128::from(local);
        }
        let of_flow = Part::ALL.into_iter().zip(parts).filter(|(_, bytes)| *bytes > 0);
        flow.terms = of_flow.map(|(part, bytes)| FlowTerm { name: part.words().0.into(), bytes }).collect();
    }

    let mut terms: Vec<Term> = Part::ALL.into_iter().zip(sums).map(|(part, bytes)| term(part.words(), bytes)).collect();
    if let Some(total) = total {
        let mut unseen = i128::from(total) - sums.iter().sum::<i128>();
        for why in Why::TERMS {
            let bytes = caused(devices, why);
            unseen -= bytes;
            terms.push(term(why.words(), bytes));
        }
        terms.push(term(RESIDUAL, unseen));
    }
    terms
}

const RESIDUAL: (&str, &str) = (
    "residual",
    "counted by the kernel and not seen by netpath, or the reverse where it is negative, for no known reason",
);

/// What a cause explains on all counted devices.
fn caused(devices: &[Device], why: Why) -> i128 {
    let counted = devices.iter().filter(|device| device.counted_by_container_insights);
    let residuals = counted.filter_map(|device| device.residual.as_ref()).flat_map(|both| [&both.rx, &both.tx]);
    let causes = residuals.flat_map(|residual| &residual.causes).filter(|cause| cause.name == why.words().0);
    causes.filter_map(|cause| cause.bytes).map(i128::from).sum()
}

fn term((name, explanation): (&str, &str), bytes: i128) -> Term {
    Term { name: name.to_owned(), bytes: clamped(bytes), explanation: explanation.to_owned() }
}
