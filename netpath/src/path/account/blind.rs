//! Says whether programs that ran before netpath's on a device's hook kept packets from it.
//!
//! In: a device, and the difference between its own counters and what the hooks saw. Out: why it was not fully seen. A
//! program that only looks on makes no difference, and then there is nothing to say. What such a program drops on the way
//! out is in neither count, since the device never got it.

use crate::model::Direction;
use crate::model::OtherProgram;
use crate::report::Residuals;
use crate::snapshot::Device;

/// Why not all of the device's traffic was seen; `None` if it was.
pub fn reason(device: &Device, residuals: Option<&Residuals>) -> Option<String> {
    let hidden = |(direction, hook)| {
        let is_ahead = |one: &&OtherProgram| one.direction == direction && one.ahead;
        let programs: Vec<_> =
            device.facts.other_programs.iter().flatten().filter(is_ahead).map(ToString::to_string).collect();
        if programs.is_empty() {
            return None;
        }
        let programs = programs.join(", ");
        let residual = residuals.map(|both| if direction == Direction::Rx { &both.rx } else { &both.tx });
        match residual.map(|residual| residual.unexplained_bytes) {
            Some(..=0) => None,
            Some(bytes) => Some(format!(
                "before netpath on its {hook} hook: {programs}; {bytes} bytes that the device counted did not reach netpath"
            )),
            None => Some(format!(
                "before netpath on its {hook} hook: {programs}; without the device's counters it cannot be told whether packets \
                 were kept from netpath"
            )),
        }
    };
    let both = [(Direction::Rx, "ingress"), (Direction::Tx, "egress")].into_iter().filter_map(hidden);
    let reasons: Vec<String> = device.blind.clone().into_iter().chain(both).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}
