//! The devices: what netpath's hooks saw on each, what the kernel counted, and why the two differ.

use super::super::block::{Block, Cell, Column, Row};
use super::super::labels;
use super::super::units::Scale;
use super::View;
use crate::model::{DeviceClass, KernelCounters};
use crate::report::{CauseKind, Device, HookCounts, Report};
use crate::sanitise::sanitise;

/// Whether something is wrong with a device: netpath did not see it all, or the kernel counted bytes for no known reason.
pub(super) fn is_odd(report: &Report) -> bool {
    report.devices.iter().any(is_odd_device)
}

fn is_odd_device(device: &Device) -> bool {
    let unexplained =
        device.residual.iter().flat_map(|both| [&both.rx, &both.tx]).any(|one| one.unexplained_bytes != 0);
    device.blind.is_some() || unexplained
}

/// The devices with the most bytes; only those with something wrong, unless devices were asked for.
pub(super) fn block(report: &Report, view: &View, scale: Scale) -> Block {
    let all = view.devices || view.all;
    let mut busy: Vec<(u64, &Device)> = report.devices.iter().map(|device| (moved(device), device)).collect();
    busy.retain(|(bytes, device)| is_odd_device(device) || all && *bytes > 0);
    busy.sort_by_key(|(bytes, device)| (std::cmp::Reverse(*bytes), device.facts.ifindex));
    let shown = view.rows(busy.len());
    let what = if all { "DEVICES" } else { "DEVICES TO LOOK AT" };
    let title = if shown < busy.len() { format!("{what}, {shown} OF {}", busy.len()) } else { what.to_owned() };
    let columns = vec![
        Column::name(""),
        Column::words("CLASS"),
        Column::number("RX"),
        Column::number("TX"),
        Column::number("KERNEL RX"),
        Column::number("KERNEL TX"),
        Column::number("DIFFERENCE"),
    ];
    let rows = busy[..shown].iter().map(|(_, device)| row(device, scale)).collect();
    let mut block = Block { title, columns, rows, ..Block::default() };
    block.notes.push(format!(
        "RX, TX: what netpath saw. DIFFERENCE: the kernel's counters minus that. {}",
        labels::IN_PARENTHESES
    ));
    let veth_like_eni =
        |device: &Device| device.facts.class == DeviceClass::Veth && device.facts.name.starts_with("eni");
    if busy[..shown].iter().any(|(_, device)| veth_like_eni(device)) {
        block.notes.push("A veth is the host's end of a pod's veth pair, even if its name starts with eni.".to_owned());
    }
    block
}

fn moved(device: &Device) -> u64 {
    let bytes = |hook: Option<HookCounts>| hook.map_or(0, |hook| hook.bytes);
    let kernel = device.facts.kernel.map_or(0, |kernel| kernel.rx_bytes.saturating_add(kernel.tx_bytes));
    bytes(device.rx).saturating_add(bytes(device.tx)).max(kernel)
}

fn row(device: &Device, scale: Scale) -> Row {
    let unknown = || Cell::from("unknown");
    let known = |count: Option<u64>| count.map_or_else(unknown, |count| Cell::number(scale.bytes(count), count));
    let seen = |hook: Option<HookCounts>| hook.map(|hook| hook.bytes);
    let kernel = |of: fn(&KernelCounters) -> u64| known(device.facts.kernel.as_ref().map(of));
    let difference = match (device.rx, device.tx, device.facts.kernel) {
        (Some(rx), Some(tx), Some(kernel)) => {
            let both = |one: u64, other: u64| i128::from(one) + i128::from(other);
            let difference = both(kernel.rx_bytes, kernel.tx_bytes) - both(rx.bytes, tx.bytes);
            i64::try_from(difference).map_or_else(|_| unknown(), |count| Cell::number(scale.signed(count), count))
        }
        _ => unknown(),
    };
    let name = sanitise(&device.facts.name);
    let name = if device.counted_by_container_insights { name.into_owned() } else { format!("({name})") };
    let cells = vec![
        Cell::from(name),
        labels::device_class(device.facts.class).into(),
        known(seen(device.rx)),
        known(seen(device.tx)),
        kernel(|kernel| kernel.rx_bytes),
        kernel(|kernel| kernel.tx_bytes),
        difference,
    ];
    let notes = device_notes(device, scale);
    Row { cells, details: if notes.is_empty() { Vec::new() } else { vec![notes] }, ..Row::default() }
}

/// Whose it is, what is wrong with it, and why the kernel counted something else.
fn device_notes(device: &Device, scale: Scale) -> String {
    let mut notes: Vec<_> = device.pod.iter().map(|pod| format!("pod {}", sanitise(pod))).collect();
    let facts = [device.facts.eni_id.as_deref(), device.blind.as_deref()];
    notes.extend(facts.into_iter().flatten().map(|fact| sanitise(fact).into_owned()));
    for (was, word) in
        [(device.facts.appeared, "appeared in the window"), (device.facts.vanished, "went away in the window")]
    {
        if was {
            notes.push(word.to_owned());
        }
    }
    for (direction, residual) in device.residual.iter().flat_map(|both| [("rx", &both.rx), ("tx", &both.tx)]) {
        for why in residual.causes.iter().filter(|why| why.name != CauseKind::NotAttached) {
            let bytes = why.bytes.map_or_else(|| "unknown bytes".to_owned(), |bytes| scale.signed(bytes));
            notes.push(format!("{direction} {}: {bytes}", labels::cause(why.name)));
        }
        if residual.unexplained_bytes != 0 {
            notes.push(format!("{direction} unexplained: {}", scale.signed(residual.unexplained_bytes)));
        }
    }
    notes.join(", ")
}
