//! A device of a report: what netpath's hooks counted there, what the kernel counted, and what explains the difference.

use serde::Deserialize;

use super::{NameOrigin, show};
use crate::Counters;

#[derive(Clone, Debug, Deserialize)]
pub struct Device {
    pub name: String,
    pub ifindex: u32,
    pub class: String,
    pub attach: String,
    pub blind: Option<String>,
    pub appeared: bool,
    pub vanished: bool,
    pub rx: Option<Hook>,
    pub tx: Option<Hook>,
    pub kernel: Option<Counters>,
    pub kernel_slack: Option<KernelSlack>,
    pub residual: Option<Residuals>,
    pub other_programs: Option<Vec<OtherProgram>>,
    pub filter_drops: Option<u64>,
    pub qdisc: Option<Qdisc>,
    pub xdp: Option<Xdp>,
    pub eni_id: Option<String>,
    pub pod: Option<String>,
    pub pod_origin: Option<NameOrigin>,
}

/// What netpath counted on one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Hook {
    pub packets: u64,
    pub bytes: u64,
    pub wire_bytes: u64,
    pub unattributed_packets: u64,
    pub unattributed_bytes: u64,
}

/// How far the kernel's counters may be off, since they move while they are read.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct KernelSlack {
    pub below: Counters,
    pub above: Counters,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Residuals {
    pub rx: Residual,
    pub tx: Residual,
}

/// What the kernel counted and the hook did not, in one direction.
#[derive(Clone, Debug, Deserialize)]
pub struct Residual {
    pub bytes: i64,
    pub packets: i64,
    pub unexplained_bytes: i64,
    pub causes: Vec<Cause>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Cause {
    pub name: String,
    pub bytes: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct OtherProgram {
    pub direction: String,
    pub ahead: bool,
    pub name: Option<String>,
    pub program_id: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Qdisc {
    pub passed_bytes: u64,
    pub dropped_packets: u64,
    pub queued_bytes: i64,
    pub queued_packets: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Xdp {
    pub mode: String,
    pub program_id: Option<u32>,
}

show!(Device, Hook, KernelSlack, Residual, Qdisc);

impl Device {
    /// What netpath counted in this direction, "rx" or "tx".
    ///
    /// # Panics
    /// When it counted nothing there.
    #[must_use]
    #[track_caller]
    pub fn hook(&self, direction: &str) -> Hook {
        let hook = if one_of(direction) == "rx" { self.rx } else { self.tx };
        hook.unwrap_or_else(|| panic!("netpath counted nothing: {self}"))
    }

    /// What netpath counted of received packets.
    ///
    /// # Panics
    /// When it counted nothing there.
    #[must_use]
    #[track_caller]
    pub fn rx(&self) -> Hook {
        self.hook("rx")
    }

    /// What netpath counted of sent packets.
    ///
    /// # Panics
    /// When it counted nothing there.
    #[must_use]
    #[track_caller]
    pub fn tx(&self) -> Hook {
        self.hook("tx")
    }

    /// What netpath counted on both hooks, as the kernel's counters have it.
    ///
    /// # Panics
    /// When it counted nothing there.
    #[must_use]
    #[track_caller]
    pub fn hooks(&self) -> Counters {
        let (rx, tx) = (self.rx(), self.tx());
        Counters { rx_bytes: rx.bytes, rx_packets: rx.packets, tx_bytes: tx.bytes, tx_packets: tx.packets }
    }

    /// What the kernel counted.
    ///
    /// # Panics
    /// When that is not known.
    #[must_use]
    #[track_caller]
    pub fn kernel(&self) -> Counters {
        self.kernel.unwrap_or_else(|| panic!("the kernel's counters are not known: {self}"))
    }

    /// How far the kernel's counters may be off.
    ///
    /// # Panics
    /// When that is not known.
    #[must_use]
    #[track_caller]
    pub fn kernel_slack(&self) -> KernelSlack {
        self.kernel_slack.unwrap_or_else(|| panic!("the counters' slack is not known: {self}"))
    }

    /// The difference between the two in this direction, "rx" or "tx".
    ///
    /// # Panics
    /// When that is not known.
    #[must_use]
    #[track_caller]
    pub fn residual(&self, direction: &str) -> &Residual {
        let both = self.residual.as_ref().unwrap_or_else(|| panic!("no difference is known: {self}"));
        if one_of(direction) == "rx" { &both.rx } else { &both.tx }
    }

    /// Why netpath did not see all packets here; empty if it did.
    #[must_use]
    pub fn blind(&self) -> &str {
        self.blind.as_deref().unwrap_or_default()
    }
}

impl Residual {
    /// The cause of this name.
    #[must_use]
    pub fn cause(&self, name: &str) -> Option<&Cause> {
        self.causes.iter().find(|cause| cause.name == name)
    }

    /// All causes, with what each explains.
    #[must_use]
    pub fn causes(&self) -> Vec<(&str, Option<i64>)> {
        self.causes.iter().map(|cause| (cause.name.as_str(), cause.bytes)).collect()
    }
}

/// A direction, if it is one.
#[track_caller]
fn one_of(direction: &str) -> &str {
    assert!(["rx", "tx"].contains(&direction), "{direction} is no direction");
    direction
}
