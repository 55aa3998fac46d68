//! Who else is on the hooks of a device, and may take packets from netpath or from the device's counter.
//!
//! In: what is on the hooks, and which programs are netpath's own. Out: the others, as a snapshot holds them. It must not
//! judge what they did.

use crate::kernel::hooks::{DeviceHooks, Hook};
use crate::report::Direction;
use crate::snapshot::OtherProgram;

/// The other programs and filters; `None` if the caller may not know all of them.
pub fn others(hooks: &DeviceHooks, own: &[u32]) -> Option<Vec<OtherProgram>> {
    let mut all = on_hook(&hooks.rx, Direction::Rx, own)?;
    all.extend(on_hook(&hooks.tx, Direction::Tx, own)?);
    Some(all)
}

fn on_hook(hook: &Hook, direction: Direction, own: &[u32]) -> Option<Vec<OtherProgram>> {
    let is_own = |id: u32| own.contains(&id);
    let tcx = hook.tcx.as_ref()?;
    // If netpath's is gone, all of them were in its way.
    let position = tcx.iter().position(|one| is_own(one.program.id)).unwrap_or(tcx.len());
    let programs = tcx.iter().enumerate().map(|(at, one)| OtherProgram {
        direction,
        ahead: at < position,
        kind: "tcx".to_owned(),
        program_id: Some(one.program.id),
        name: one.program.name.clone(),
        offloaded: false,
    });
    let filters = hook.filters.iter().map(|filter| {
        let bpf = filter.bpf.as_ref();
        let program = bpf.and_then(|bpf| bpf.program.as_ref());
        OtherProgram {
            direction,
            // TCX programs run before filters.
            ahead: false,
            kind: filter.kind.clone(),
            program_id: program.map(|program| program.id),
            name: program.and_then(|program| program.name.clone()).or_else(|| bpf?.name.clone()),
            offloaded: bpf.is_some_and(|bpf| bpf.skip_sw || bpf.in_hw),
        }
    });
    Some(programs.chain(filters).filter(|one| !one.program_id.is_some_and(is_own)).collect())
}
