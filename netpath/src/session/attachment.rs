//! Attaches to tracked devices, and detaches from all.
//!
//! In: the loaded programs and devices. Out: what each device's attachment is now. It must not decide which devices are tracked.

use super::ledger::Ledger;
use super::tracked::{Attachment, TrackedDevice};
use crate::kernel::attach::Attacher;
use crate::privilege::{self, Purpose};

/// A device, after the attempt to attach to it.
pub fn attached(attacher: &mut Attacher, mut device: TrackedDevice) -> TrackedDevice {
    attach(attacher, &mut device);
    device
}

/// Attaches to a device, if packets of pods or ENIs pass it.
pub fn attach(attacher: &mut Attacher, device: &mut TrackedDevice) {
    if device.is_pending() {
        let link = &device.link;
        device.attachment = match attacher.attach(link.ifindex, &link.name, link.layer) {
            Ok(how) => {
                log::info!("attached to {} ({}) by {how}", link.name, link.ifindex);
                Attachment::Attached(how)
            }
            Err(error) => {
                log::warn!("cannot attach to {} ({}): {error:#}", link.name, link.ifindex);
                Attachment::Failed(root_cause(&error))
            }
        };
    }
}

/// Fails if netpath is attached to no device.
pub fn check_attached(ledger: &Ledger) -> anyhow::Result<()> {
    if ledger.iter().any(TrackedDevice::is_attached) {
        return Ok(());
    }
    for device in ledger.iter() {
        if let Attachment::Failed(reason) = &device.attachment {
            anyhow::bail!(
                "no device to measure here, {} for example: netpath could not attach to it: {reason}",
                device.link.name.escape_debug()
            );
        }
    }
    let names: Vec<&str> = ledger.iter().map(|device| device.link.name.as_str()).collect();
    anyhow::bail!(
        "no device to measure here, only {}; run netpath in the node's own network namespace (hostNetwork, or nsenter -t 1 -n)",
        names.join(", ").escape_debug()
    );
}

/// Takes the programs off the hooks, and gives up what only they were needed for.
pub fn detach(attacher: Attacher, purpose: Purpose) -> anyhow::Result<()> {
    if attacher.needs_detach() {
        drop(attacher);
        return privilege::after_measuring(purpose);
    }
    // This thread asks the kernel for nothing more. Those that follow conntrack and names have their own, and end.
    privilege::after_measuring(purpose)?;
    // The kernel takes a grace period for each program that it detaches, some seconds for hundreds of devices. The
    // report need not wait for that; the end of the process does. Without a thread it happens right here.
    let _ = std::thread::Builder::new().name("detach".into()).spawn(move || drop(attacher));
    Ok(())
}

/// The innermost error: what the kernel said.
fn root_cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map_or_else(String::new, ToString::to_string)
}
