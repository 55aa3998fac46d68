//! The block of devices: what netpath's hooks saw on each, what the kernel counted, and why the two differ.
//!
//! In: the report's devices. Out: rows with the most bytes first.

use std::io::{self, Write};

use super::super::units::Scale;
use super::{Style, cause, heading, plain_table, write_table};
use crate::model::DeviceClass;
use crate::report::{CauseKind, Device, HookCounts, Report};
use crate::sanitise::sanitise;

/// Writes the devices with the most bytes, and those that were not fully seen.
pub(super) fn write(report: &Report, out: &mut impl Write, style: Style) -> io::Result<()> {
    let kernel_bytes =
        |device: &Device| device.facts.kernel.map(|kernel| kernel.rx_bytes.saturating_add(kernel.tx_bytes));
    let seen = |hook: Option<HookCounts>| hook.map(|hook| hook.bytes);
    let mut busy: Vec<_> = report
        .devices
        .iter()
        .map(|device| {
            let hooks = seen(device.rx).unwrap_or(0).saturating_add(seen(device.tx).unwrap_or(0));
            (hooks.max(kernel_bytes(device).unwrap_or(0)), device)
        })
        .filter(|(bytes, device)| *bytes > 0 || device.blind.is_some())
        .collect();
    busy.sort_by_key(|(bytes, device)| (std::cmp::Reverse(*bytes), device.facts.ifindex));

    let idle = report.devices.len() - busy.len();
    let shown = busy.len().min(style.top);
    let rest = format!("   {shown} of {} with traffic, by bytes; {idle} idle", busy.len());
    heading(out, style, "DEVICES", &rest)?;
    let header = ["DEVICE", "CLASS", "RX", "TX", "KERNEL RX", "KERNEL TX", "DIFFERENCE", "COUNTED", "NOTE"];
    let mut table = plain_table(style, header, 2..=6);
    let scale = style.scale(report);
    let known = |count: Option<u64>| count.map_or_else(|| "unknown".to_owned(), |count| scale.bytes(count));
    for (_, device) in &busy[..shown] {
        let difference = match (device.rx, device.tx, device.facts.kernel) {
            (Some(rx), Some(tx), Some(kernel)) => {
                let both = |one: u64, other: u64| i128::from(one) + i128::from(other);
                let difference = both(kernel.rx_bytes, kernel.tx_bytes) - both(rx.bytes, tx.bytes);
                i64::try_from(difference).map_or_else(|_| "unknown".to_owned(), |count| scale.signed(count))
            }
            _ => "unknown".to_owned(),
        };
        table.add_row([
            sanitise(&device.facts.name).into_owned(),
            device_class(device.facts.class).to_owned(),
            known(seen(device.rx)),
            known(seen(device.tx)),
            known(device.facts.kernel.map(|kernel| kernel.rx_bytes)),
            known(device.facts.kernel.map(|kernel| kernel.tx_bytes)),
            difference,
            if device.counted_by_container_insights { "yes" } else { "no" }.to_owned(),
            device_notes(device, scale),
        ]);
    }
    write_table(out, &table)?;
    writeln!(
        out,
        "  RX and TX: as netpath saw it; DIFFERENCE: the kernel's counters minus that; COUNTED: by Container Insights."
    )?;
    if busy[..shown]
        .iter()
        .any(|(_, device)| device.facts.class == DeviceClass::Veth && device.facts.name.starts_with("eni"))
    {
        writeln!(
            out,
            "  A device of class veth is the host's end of a pod's veth pair, also if its name starts with eni."
        )?;
    }
    Ok(())
}

/// Whose it is, what is wrong with it, and why the kernel counted something else.
fn device_notes(device: &Device, scale: Scale) -> String {
    let facts = [device.pod.as_deref(), device.facts.eni_id.as_deref(), device.blind.as_deref()];
    let mut notes: Vec<_> = facts.into_iter().flatten().map(|fact| sanitise(fact).into_owned()).collect();
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
            notes.push(format!("{direction} {}: {bytes}", cause(why.name)));
        }
        if residual.unexplained_bytes != 0 {
            notes.push(format!("{direction} unexplained: {}", scale.signed(residual.unexplained_bytes)));
        }
    }
    notes.join(", ")
}

pub(in crate::render) fn device_class(class: DeviceClass) -> &'static str {
    match class {
        DeviceClass::Eni => "ENI",
        DeviceClass::Veth => "veth",
        DeviceClass::Vlan => "vlan",
        DeviceClass::Bridge => "bridge",
        DeviceClass::Tunnel => "tunnel",
        DeviceClass::Tap => "tap",
        DeviceClass::Loopback => "loopback",
        DeviceClass::Other => "other",
    }
}
