//! Who else is on the hooks of a device, and may take packets from netpath or from the device's counter.
//!
//! In: what is on the hooks, and which programs are netpath's own. Out: the others, as a snapshot holds them. It must not
//! judge what they did.

use crate::kernel::hooks::{DeviceHooks, Hook};
use crate::model::{Direction, OtherProgram};

/// The other programs and filters; `None` if the caller may not know all of them.
pub fn foreign(hooks: &DeviceHooks, own: &[u32]) -> Option<Vec<OtherProgram>> {
    let mut all = on_hook(&hooks.rx, Direction::Rx, own)?;
    all.extend(on_hook(&hooks.tx, Direction::Tx, own)?);
    Some(all)
}

/// netpath's own program is the mark: what packets meet before it is ahead.
fn on_hook(hook: &Hook, direction: Direction, own: &[u32]) -> Option<Vec<OtherProgram>> {
    let tcx = hook.tcx.as_ref()?;
    let programs = tcx.iter().map(|one| OtherProgram {
        direction,
        ahead: true,
        kind: "tcx".to_owned(),
        program_id: Some(one.program.id),
        name: one.program.name.clone(),
        offloaded: false,
    });
    let filters = hook.filters.iter().map(|filter| {
        let bpf = filter.bpf.as_ref();
        let program = filter.program();
        OtherProgram {
            direction,
            // What is in another chain runs only if a filter of the first one sends packets there.
            ahead: filter.chain == 0,
            kind: filter.kind.clone(),
            program_id: program.map(|program| program.id),
            name: program.and_then(|program| program.name.clone()).or_else(|| bpf?.name.clone()),
            offloaded: bpf.is_some_and(|bpf| bpf.skip_sw || bpf.in_hw),
        }
    });
    let mut all: Vec<_> = programs.chain(filters).collect();
    let is_own = |one: &OtherProgram| one.program_id.is_some_and(|id| own.contains(&id));
    // If netpath's is gone, all that come where it was were in its way.
    let position = all.iter().position(is_own).unwrap_or(tcx.len());
    for one in &mut all[position..] {
        one.ahead = false;
    }
    all.retain(|one| !is_own(one));
    Some(all)
}

/// Whether netpath's own program is on a hook; `None` if the caller may not know.
pub fn is_there(hook: &Hook, own: &[u32]) -> Option<bool> {
    let tcx = hook.tcx.as_ref()?.iter().map(|one| &one.program);
    let filters = hook.filters.iter().filter_map(|filter| filter.program());
    Some(tcx.chain(filters).any(|program| own.contains(&program.id)))
}
