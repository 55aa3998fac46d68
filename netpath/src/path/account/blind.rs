//! Whether programs that ran before netpath's on a device's hook kept packets from it.
//!
//! In: a device, and the difference between its own counters and what the hooks saw. Out: why it was not fully seen. A
//! program that only looks on makes no difference, and is no reason. What such a program drops on the way out is in neither
//! count, since the device never got it.

use crate::model::{Blind, Direction, OtherProgram};
use crate::report::Residuals;
use crate::snapshot::Device;

/// Why not all of the device's traffic was seen; empty if it was.
pub fn reasons(device: &Device, residuals: Option<&Residuals>) -> Vec<Blind> {
    let hidden = |direction| {
        let is_ahead = |one: &&OtherProgram| one.direction == direction && one.ahead;
        let programs: Vec<_> =
            device.facts.other_programs.iter().flatten().filter(is_ahead).map(ToString::to_string).collect();
        let residual = residuals.map(|both| if direction == Direction::Rx { &both.rx } else { &both.tx });
        let hidden_bytes = residual.map(|residual| residual.unexplained_bytes);
        let none_hidden = programs.is_empty() || hidden_bytes.is_some_and(|bytes| bytes <= 0);
        (!none_hidden).then_some(Blind::Ahead { direction, programs, hidden_bytes })
    };
    device.blind.iter().cloned().chain([Direction::Rx, Direction::Tx].into_iter().filter_map(hidden)).collect()
}
