//! Why CloudWatch and EC2 show different numbers of this node, in one thought.
//!
//! In: a report. Out: the two rates, and the term that makes most of the difference. Pure; the words are the renderers'.

use crate::model::DeviceClass;
use crate::report::{Device, Report, TermKind};

/// What a tired person asks first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// `node_network_total_bytes` as CloudWatch shows it, bytes a second.
    pub cloudwatch: f64,
    /// `NetworkIn` and `NetworkOut` together, bytes a second.
    pub ec2: f64,
    /// Of `node_network_total_bytes`, the largest part that EC2 does not show, and its share from 0 to 1. `None` if there is none.
    pub cause: Option<(TermKind, f64)>,
}

impl Verdict {
    /// How many times EC2's number CloudWatch's is; `None` if EC2 shows nothing.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (self.ec2 > 0.0).then(|| self.cloudwatch / self.ec2)
    }
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No time passed.
    NoTime,
    /// No device is an ENI, so that nothing is what EC2 shows.
    NoEni,
    /// No device is one that Container Insights counts.
    NoneCounted,
    /// The counters of a device could not be read.
    Counters,
}

/// The verdict, or why there is none.
///
/// # Errors
/// If one of the numbers is not known, or no time passed.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn verdict(report: &Report) -> Result<Verdict, Unknown> {
    let accounting = &report.accounting;
    let seconds = report.window.duration_ns as f64 / 1e9;
    if seconds <= 0.0 {
        return Err(Unknown::NoTime);
    }
    let total = accounting.container_insights.node_network_total_bytes;
    let ec2 = accounting.ec2.network_in_bytes.zip(accounting.ec2.network_out_bytes);
    let Some((total, (input, output))) = total.zip(ec2) else {
        let is_any = |test: fn(&Device) -> bool| report.devices.iter().any(test);
        return Err(if !is_any(|device| device.facts.class == DeviceClass::Eni) {
            Unknown::NoEni
        } else if !is_any(|device| device.counted_by_container_insights) {
            Unknown::NoneCounted
        } else {
            Unknown::Counters
        });
    };
    let ec2 = input.saturating_add(output);
    let others = accounting.terms.iter().filter(|term| term.name != TermKind::Eni && term.bytes > 0);
    let largest = others.max_by_key(|term| term.bytes).filter(|_| total > 0);
    Ok(Verdict {
        cloudwatch: total as f64 / seconds,
        ec2: ec2 as f64 / seconds,
        cause: largest.map(|term| (term.name, term.bytes as f64 / total as f64)),
    })
}
