//! Gives up what netpath was started with and does not need: root's capabilities, or those that a user was given.
//!
//! Capabilities belong to threads, and new threads inherit them: so [`while_measuring`] is called before the first thread of
//! a measurement starts, and [`after_measuring`] by the thread that is left. What a thread has given up it cannot get back.
//! A command that netpath runs gets what it would have had without netpath in front.
//!
//! | needed to start | for |
//! |---|---|
//! | `CAP_BPF` | eBPF maps and programs |
//! | `CAP_PERFMON` | programs that compare and subtract packet pointers, which the verifier allows to nobody else |
//! | `CAP_NET_ADMIN` | programs for tc, attaching them, asking who else is there, conntrack |
//!
//! With more it can do more: `CAP_SYS_PTRACE` shows processes' network namespaces, which tell whose a veth is.
//! `CAP_SYS_ADMIN` stands in for the first two, and gets the names of other programs that are on the hooks at the start.
//! Those that come later have a number only.

use anyhow::Context as _;
use caps::{CapSet, Capability, CapsHashSet};

/// What stays while a window is open, since devices may appear that are attached to, perhaps by a program that was not
/// needed before. A source of facts that needs more in the window adds it here, with the reason.
const WHILE_MEASURING: [Capability; 3] = [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_NET_ADMIN];

/// What stays besides, if it is there: the kernel shows other processes' network namespaces to nobody else.
const FOR_NAMES: [Capability; 1] = [Capability::CAP_SYS_PTRACE];

/// What stays to write a file: root may do so in everybody's folder, and replace everybody's file. It is not in effect while
/// a window is open, but for the moment of writing.
const TO_WRITE_A_FILE: [Capability; 2] = [Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER];

/// What happens beside measuring.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// The report goes to a regular file.
    pub writes_file: bool,
    /// The window is as long as a command runs.
    pub runs_command: bool,
}

/// Gives up what is not needed in the window. Threads that run already keep what they have.
pub fn while_measuring(purpose: Purpose) -> anyhow::Result<()> {
    let now = read(CapSet::Permitted)?;
    let mut effective = both(&now, &WHILE_MEASURING);
    if effective.len() < WHILE_MEASURING.len() {
        effective.extend(both(&now, &[Capability::CAP_SYS_ADMIN]));
    }
    effective.extend(both(&now, &FOR_NAMES));
    let mut permitted = effective.clone();
    if purpose.writes_file {
        permitted.extend(both(&now, &TO_WRITE_A_FILE));
    }
    if purpose.runs_command {
        // What a user was given for commands goes through netpath to this one. Root's commands need nothing of netpath's.
        permitted.extend(read(CapSet::Ambient)?);
    } else {
        // Whatever this process might run, a root shell for example, would not get back what was given up.
        clear_bounding()?;
        clear(CapSet::Ambient)?;
        clear(CapSet::Inheritable)?;
    }
    set(&effective, &permitted)
}

/// Writes a file while a window is open, with what that needs in effect.
pub fn to_write_a_file<T>(write: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let before = read(CapSet::Effective)?;
    let needed = both(&read(CapSet::Permitted)?, &TO_WRITE_A_FILE);
    caps::set(None, CapSet::Effective, &before.union(&needed).copied().collect()).context(FAILED)?;
    let written = write();
    caps::set(None, CapSet::Effective, &before).context(FAILED)?;
    written
}

/// Gives up all that is left, but for what writing the report needs.
pub fn after_measuring(purpose: Purpose) -> anyhow::Result<()> {
    let needed: &[Capability] = if purpose.writes_file { &TO_WRITE_A_FILE } else { &[] };
    let needed = both(&read(CapSet::Permitted)?, needed);
    clear(CapSet::Ambient)?;
    clear(CapSet::Inheritable)?;
    set(&needed, &needed)
}

/// Gives up everything, for a thread that needs nothing. What it might run would get nothing back.
pub fn give_up_all() -> anyhow::Result<()> {
    clear_bounding()?;
    rustix::thread::set_no_new_privs(true).context(FAILED)?;
    after_measuring(Purpose { writes_file: false, runs_command: false })
}

/// Limits what this thread might ever get by running something, where it may.
fn clear_bounding() -> anyhow::Result<()> {
    if read(CapSet::Effective)?.contains(&Capability::CAP_SETPCAP) {
        clear(CapSet::Bounding)?;
    }
    Ok(())
}

fn both(have: &CapsHashSet, want: &[Capability]) -> CapsHashSet {
    want.iter().copied().filter(|one| have.contains(one)).collect()
}

const FAILED: &str = "cannot give up capabilities; check what confines this process (seccomp)";

fn read(which: CapSet) -> anyhow::Result<CapsHashSet> {
    caps::read(None, which).context(FAILED)
}

fn clear(which: CapSet) -> anyhow::Result<()> {
    caps::clear(None, which).context(FAILED)
}

fn set(effective: &CapsHashSet, permitted: &CapsHashSet) -> anyhow::Result<()> {
    // What is in effect must be permitted at any time.
    let now = read(CapSet::Effective)?;
    caps::set(None, CapSet::Effective, &now.intersection(effective).copied().collect()).context(FAILED)?;
    caps::set(None, CapSet::Permitted, permitted).context(FAILED)?;
    caps::set(None, CapSet::Effective, effective).context(FAILED)
}
