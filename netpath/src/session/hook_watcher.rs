//! Watches netpath's place on the hooks: whether its programs are still there, and who runs before them.
//!
//! In: who is on the hooks, when it looks. Out: what it saw in the window, in words. A program that ran before netpath's may
//! have kept packets from it; whether it did is for `path::account` to say, which has the numbers. TCX sends no messages, so
//! this looks: every few seconds for those that come and go, and once when the window is closed. What was taken off stays
//! off, so the last look sees that in any case.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::foreign;
use crate::kernel::hooks::{DeviceHooks, HookReader};
use crate::model::{Blind, Direction, OtherProgram};

/// How long between two looks, unless they take long.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// At most one part in so many of the time is spent looking. A look at 1,000 devices takes some milliseconds.
const REST: u32 = 200;

/// Looks at the hooks of devices.
#[derive(Debug)]
pub struct HookWatcher {
    hooks: HookReader,
    next: Instant,
}

/// What was seen of one device's hooks in the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookState {
    /// Who else is there; `None` if that is not known.
    present: Option<Vec<OtherProgram>>,
    /// Who ran before netpath at some time, and is not there any more.
    left: Vec<OtherProgram>,
    /// netpath's programs that are not there any more.
    pub lost: Vec<Blind>,
}

impl HookWatcher {
    /// Reads who is on these devices' hooks, since programs' names may be asked for now, and perhaps not later.
    pub fn new(devices: impl IntoIterator<Item = u32>) -> io::Result<Self> {
        let mut hooks = HookReader::open()?;
        hooks.read(devices)?;
        Ok(Self { hooks, next: Instant::now() })
    }

    /// Waits until it is time to look again. Cancel safe.
    pub async fn due(&self) {
        sleep_until(self.next).await;
    }

    /// Looks at these devices, to which netpath's programs `own` are attached.
    pub fn look(&mut self, own: &[u32], devices: BTreeMap<u32, &mut HookState>) -> io::Result<()> {
        let began = Instant::now();
        let hooks = self.hooks.read(devices.keys().copied());
        let now = Instant::now();
        self.next = now + LOOK_EVERY.max((now - began) * REST);
        let hooks = hooks?;
        for (ifindex, state) in devices {
            // One that is gone is told of by a message about devices.
            if let Some(hooks) = hooks.get(&ifindex) {
                state.see(hooks, own);
            }
        }
        Ok(())
    }
}

impl HookState {
    /// Who else is there, and then who ran before netpath at some time; `None` if that is not known.
    pub fn foreign(&self) -> Option<Vec<OtherProgram>> {
        let present = self.present.as_ref()?;
        Some(present.iter().chain(&self.left).cloned().collect())
    }

    /// Begins the next window.
    pub fn roll(&mut self) {
        self.left.clear();
        self.lost.clear();
    }

    fn see(&mut self, hooks: &DeviceHooks, own: &[u32]) {
        let lost =
            [(&hooks.rx, Direction::Rx), (&hooks.tx, Direction::Tx)].into_iter().filter_map(|(hook, direction)| {
                let taken_off = foreign::is_there(hook, own) == Some(false);
                taken_off.then(|| Blind::TakenOff { direction, present: hook.attached() })
            });
        let lost: Vec<_> = lost.collect();
        // The last look knows of all.
        if !lost.is_empty() {
            self.lost = lost;
        }
        let now = foreign::foreign(hooks, own);
        self.left.extend(self.present.take().into_iter().flatten().filter(|one| one.ahead));
        self.left.retain(|one| now.as_ref().is_some_and(|now| !now.contains(one)));
        self.present = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::hooks::{BpfFilter, Filter, Hook, Program, TcxProgram};

    fn program(id: u32) -> Program {
        Program { id, name: (id == 7).then(|| "other".to_owned()), tag: None }
    }

    fn tcx(ids: &[u32]) -> Vec<TcxProgram> {
        ids.iter().map(|&id| TcxProgram { program: program(id), link_id: None }).collect()
    }

    fn filter(chain: u32, id: Option<u32>) -> Filter {
        Filter {
            kind: if id.is_some() { "bpf" } else { "flower" }.to_owned(),
            parent: 0,
            shared_block: None,
            priority: 1,
            handle: 1,
            protocol: 3,
            chain,
            bpf: id.map(|id| BpfFilter { program: Some(program(id)), ..BpfFilter::default() }),
        }
    }

    /// Those ahead on the ingress hook, of two looks at it. netpath's programs are 1 and 2.
    fn ahead(first: Hook, second: Hook) -> (Vec<String>, Vec<Blind>) {
        let mut state = HookState::default();
        for rx in [first, second] {
            let tx = Hook { tcx: Some(tcx(&[2])), filters: vec![] };
            state.see(&DeviceHooks { qdisc: None, rx, tx }, &[1, 2]);
        }
        let ahead = state.foreign().into_iter().flatten().filter(|one| one.ahead);
        (ahead.map(|one| one.program_id.map_or(one.kind, |id| id.to_string())).collect(), state.lost)
    }

    #[test]
    fn by_tcx_filters_never_come_before() {
        let hook = |ids: &[u32]| Hook { tcx: Some(tcx(ids)), filters: vec![filter(0, Some(6))] };
        assert_eq!(ahead(hook(&[1, 7]), hook(&[1])), (vec![], vec![]));
        let both = vec!["8".to_owned(), "7".to_owned()];
        assert_eq!(ahead(hook(&[7, 1, 9]), hook(&[8, 1, 9])), (both, vec![]), "who is ahead, and who was");
    }

    #[test]
    fn by_clsact_both_do() {
        let filters =
            vec![filter(0, None), filter(5, Some(9)), filter(0, Some(7)), filter(0, Some(1)), filter(0, Some(6))];
        let hook = || Hook { tcx: Some(tcx(&[8])), filters: filters.clone() };
        let expected = ["8", "flower", "7"].map(str::to_owned).to_vec();
        assert_eq!(ahead(hook(), hook()), (expected, vec![]));
    }

    #[test]
    fn what_was_lost_is_said_with_who_is_there() {
        let hook = |ids: &[u32]| Hook { tcx: Some(tcx(ids)), filters: vec![] };
        let (_, lost) = ahead(hook(&[1]), hook(&[7]));
        let present = vec!["other (TCX program 7)".to_owned()];
        assert_eq!(lost, [Blind::TakenOff { direction: Direction::Rx, present }]);
        assert_eq!(ahead(Hook::default(), Hook::default()).1, [], "the kernel did not tell");

        let mut state = HookState::default();
        for (rx, tx) in [(hook(&[1]), hook(&[])), (hook(&[]), hook(&[]))] {
            state.see(&DeviceHooks { qdisc: None, rx, tx }, &[1, 2]);
        }
        let taken_off = |direction| Blind::TakenOff { direction, present: vec![] };
        assert_eq!(state.lost, [taken_off(Direction::Rx), taken_off(Direction::Tx)]);
    }
}
