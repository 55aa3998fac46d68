//! A report for people, before it is text: the answer first, then why CloudWatch says otherwise, then who talked to whom.
//!
//! In: a report, and what of it to show. Out: a [`Page`]. It computes nothing that is not in the report but sums and
//! differences of what it shows, and every string from elsewhere is sanitised.

pub(super) mod answer;
mod conntrack;
mod conversations;
mod devices;
pub(super) mod groups;
mod health;
mod names;
mod trust;

pub use self::answer::terms;
pub use self::conversations::{ends as conversation_ends, rows as conversation_rows};
pub use self::groups::{name as group_name, nouns as group_nouns};
pub use self::health::{good, problems};
pub use self::trust::warning;
use super::block::Block;
use super::enis;
use super::units::{Scale, Units, duration};
use crate::path::conversations::Merge;
use crate::report::Report;
use crate::sanitise::sanitise;

/// How many rows are shown where nothing limits them.
const DEFAULT_ROWS: usize = 20;

/// What to show.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub struct View {
    /// This many rows of conversations, groups, devices; `None`: as many as fit.
    pub top: Option<usize>,
    /// Each conversation by itself, with the client's port.
    pub flows: bool,
    /// The devices, also if nothing is wrong with them.
    pub devices: bool,
    /// What is known of ENIs and of ipamd.
    pub enis: bool,
    /// Where the names of pods came from.
    pub names: bool,
    /// All columns.
    pub wide: bool,
    /// All blocks, all columns, all rows.
    pub all: bool,
    /// Units of bytes.
    pub units: Units,
    /// Bytes a second instead of sums.
    pub per_second: bool,
}

impl View {
    pub(super) fn scale(&self, report: &Report) -> Scale {
        if self.per_second { Scale::rates(self.units, report.window.duration_ns) } else { Scale::sums(self.units) }
    }

    /// Which connections are one conversation.
    pub(super) const fn merge(&self) -> Merge {
        if self.flows { Merge::Nothing } else { Merge::ClientPorts }
    }

    /// How many rows, where there are so many.
    pub(super) fn rows(&self, there: usize) -> usize {
        there.min(if self.all { usize::MAX } else { self.top.unwrap_or(DEFAULT_ROWS) })
    }
}

/// A report as it is laid out.
pub struct Page {
    /// Nothing in the report can be trusted: why.
    pub warning: Option<String>,
    /// Which node, and when.
    pub head: String,
    /// The answer in one sentence.
    pub verdict: Option<String>,
    /// Where the bytes went, and why CloudWatch says otherwise.
    pub answer: Vec<Block>,
    /// Conversations or groups.
    pub rows: Rows,
    /// Asked for, or with something wrong.
    pub more: Vec<Block>,
    /// All is well: one line.
    pub good: Option<String>,
    /// What to know about the report, and what to do.
    pub problems: Vec<String>,
}

/// Rows with the most bytes, of which there may be more than are laid out.
pub struct Rows {
    /// Those that may be shown, still without a title.
    pub block: Block,
    /// What one of them is called, and what several are.
    pub noun: [&'static str; 2],
    /// How many there are.
    pub there: usize,
}

impl Rows {
    /// The block under its title: "TOP 3 OF 212 CONVERSATIONS", "1 CONVERSATION".
    #[must_use]
    pub fn titled(self) -> Block {
        let Self { block, noun: [one, several], there } = self;
        let shown = block.rows.len();
        let title = match there {
            1 => format!("1 {one}"),
            there if shown < there => format!("TOP {shown} OF {there} {several}"),
            there => format!("{there} {several}"),
        };
        Block { title, ..block }
    }
}

/// Lays a report out. `width`: the screen's, if it is limited.
#[must_use]
pub fn page(report: &Report, view: &View, width: Option<usize>) -> Page {
    let scale = view.scale(report);
    let rows = match &report.grouping {
        Some(grouping) => groups::rows(grouping, view, scale),
        None => conversations::rows(report, view, width),
    };
    let mut more = Vec::new();
    let mut nothing_of_enis = false;
    if view.devices || view.all || devices::is_odd(report) {
        more.push(devices::block(report, view, scale));
    }
    if view.enis || view.all {
        let blocks = enis::blocks(&report.enis, report.ipam.as_ref(), report.node.instance_id.as_deref());
        nothing_of_enis = view.enis && blocks.is_empty();
        more.extend(blocks);
    }
    if view.names || view.all {
        more.push(names::block(&report.names));
    }
    let (mut problems, warning) = (problems(report), warning(&report.health));
    if nothing_of_enis {
        problems.push("nothing is known of ENIs but their devices: no source of ENIs answered".to_owned());
    }
    let nothing_matches = report.selection.is_some() && report.flows.is_empty();
    Page {
        good: (problems.is_empty() && warning.is_none()).then(|| good(report)),
        warning,
        head: head(report),
        verdict: answer::verdict(report, scale).filter(|_| !nothing_matches),
        answer: if nothing_matches {
            Vec::new()
        } else {
            vec![answer::where_the_bytes_went(report, view, scale), answer::why(report, view, scale)]
        },
        rows,
        more,
        problems,
    }
}

/// "node-1, Linux 6.1.0, 10.0 s from 2025-01-01 00:00:00 UTC".
fn head(report: &Report) -> String {
    let (host, kernel) = (sanitise(&report.node.hostname), sanitise(&report.node.kernel));
    let window = &report.window;
    format!("{host}, Linux {kernel}, {} from {}", duration(window.duration_ns), moment(&window.started_at))
}

/// "2025-01-01 00:00:00 UTC", without fractions of a second.
#[must_use]
pub fn moment(rfc_3339: &str) -> String {
    let text = sanitise(rfc_3339);
    let seconds = text.split('.').next().unwrap_or(&text).trim_end_matches('Z').replacen('T', " ", 1);
    format!("{seconds} UTC")
}
