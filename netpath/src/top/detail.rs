//! What is known of the selected row: sentences, and the rows that it is made of.
//!
//! In: the state. Out: lines that fit a width.

use super::columns::{Grouping, View};
use super::rows::{BETWEEN, conversation};
use super::state::State;
use super::trend::trend;
use crate::path::group::is_in;
use crate::path::select::{Condition, Filter, selected};
use crate::render::block::{Screen, wrap};
use crate::render::explain::{self, Selection};
use crate::render::labels::counted;
use crate::render::report::{self, conversation_rows};
use crate::render::units::Scale;
use crate::report::{Conversation, Flow, Report, TermKind};
use crate::sanitise::sanitise;

/// Of a conversation's amounts, the number of connections.
const CONNECTIONS: usize = 3;
const NOTHING: &str = "Nothing was seen of it in this window.";
/// How many flows are explained, or conversations listed.
const SHOWN: usize = 50;

/// The lines, the first of which is the title.
pub fn lines(state: &State, screen: &Screen) -> Vec<String> {
    let model = state.shown();
    let (Some(key), Some(report)) = (state.selection(), &model.report) else { return Vec::new() };
    let table = &model.tables[state.view.index()];
    let Some(tracked) = table.get(key) else {
        return vec!["It has not been seen for long; press Esc.".to_owned()];
    };
    let scale = state.scale(report.window.duration_ns);
    let name = tracked.row.words.iter().take(if state.view == View::Conversations { 2 } else { 1 });
    let title = name.map(|cell| cell.text.as_str()).collect::<Vec<_>>().join(" → ");
    let mut lines = vec![title, String::new()];
    lines.push(history(&table.recent(tracked), report, scale, screen));
    lines.push(String::new());
    let connections = tracked.row.amounts.get(CONNECTIONS).copied().unwrap_or_default();
    if state.view == View::Conversations && connections > 1 {
        lines.push(format!("The largest of its {connections} connections in this window (g lists each):"));
        lines.push(String::new());
    }
    lines.extend(about(state, key, report, scale, screen));
    lines
}

/// The last windows as a picture, their mean and their highest.
fn history(recent: &[i64], report: &Report, scale: Scale, screen: &Screen) -> String {
    let rate = Scale::rates(scale.units(), report.window.duration_ns);
    let highest = recent.iter().copied().max().unwrap_or(0);
    let mean = recent.iter().sum::<i64>() / i64::try_from(recent.len().max(1)).unwrap_or(1);
    let numbers = format!("mean {}, highest {}", rate.signed(mean), rate.signed(highest));
    let words = format!("last {}: {numbers} ", counted(recent.len() as u64, "window"));
    let room = screen.width.unwrap_or(80).saturating_sub(words.chars().count()).min(recent.len());
    words + trend(recent, room, screen.unicode).as_str()
}

fn about(state: &State, key: &str, report: &Report, scale: Scale, screen: &Screen) -> Vec<String> {
    let filter = &state.shown().filter;
    match state.grouping() {
        Grouping::Conversations(merge) => of_flows(report, conversation(report, filter, merge, key), scale, screen),
        Grouping::None if state.view == View::Devices => of_device(report, key, scale, screen),
        Grouping::None => of_term(report, key, screen),
        Grouping::By(by) => {
            let name = Some(key).filter(|key| !key.is_empty());
            of_conversations_with(report, |flow| filter.matches(flow) && is_in(flow, by, name), scale, screen)
        }
    }
}

fn of_flows(report: &Report, conversation: Option<Conversation>, scale: Scale, screen: &Screen) -> Vec<String> {
    let ids = conversation.into_iter().flat_map(|one| one.flows).map(Condition::Id).collect();
    let filter = Filter::new([ids]);
    if filter.is_empty() {
        return vec![NOTHING.to_owned()];
    }
    sentences(report, &Selection::Flows(filter), scale, screen)
}

fn of_device(report: &Report, key: &str, scale: Scale, screen: &Screen) -> Vec<String> {
    let name = key.split(BETWEEN).next().unwrap_or_default();
    sentences(report, &Selection::Device(name), scale, screen)
}

/// As `netpath explain` has it, a sentence a line.
fn sentences(report: &Report, selection: &Selection, scale: Scale, screen: &Screen) -> Vec<String> {
    match explain::text(report, selection, SHOWN, scale) {
        Ok(text) => {
            let paragraphs = text.lines().flat_map(|line| [line.to_owned(), String::new()]);
            paragraphs.flat_map(|line| wrap(&screen.text(&line), screen.width)).collect()
        }
        Err(error) => wrap(&error.to_string(), screen.width),
    }
}

/// The conversations of the flows that are meant.
fn of_conversations_with(
    report: &Report,
    is_meant: impl Fn(&Flow) -> bool,
    scale: Scale,
    screen: &Screen,
) -> Vec<String> {
    let report = selected(report, is_meant);
    if report.flows.is_empty() {
        return vec![NOTHING.to_owned()];
    }
    let view =
        report::View { top: Some(SHOWN), units: scale.units(), per_second: scale.is_rate(), ..report::View::default() };
    let block = conversation_rows(&report, &view, screen.width).titled();
    let mut text = Vec::new();
    // A write to memory cannot fail.
    let _ = block.write(&mut text, &Screen { colour: false, ..*screen });
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

fn of_term(report: &Report, key: &str, screen: &Screen) -> Vec<String> {
    let term = report.accounting.terms.iter().find(|term| term.name.to_string() == key);
    let Some(term) = term else { return vec!["There is nothing of it in this window.".to_owned()] };
    let mut lines = wrap(&screen.text(&sanitise(&term.explanation)), screen.width);
    if let TermKind::Cause(kind) = term.name {
        lines.push(String::new());
        let residuals = report.devices.iter().flat_map(|device| {
            device.residual.iter().flat_map(move |both| [(device, "rx", &both.rx), (device, "tx", &both.tx)])
        });
        for (device, direction, residual) in residuals {
            for cause in residual.causes.iter().filter(|cause| cause.name == kind) {
                let text = format!("{} {direction}: {}", sanitise(&device.facts.name), sanitise(&cause.explanation));
                lines.extend(wrap(&screen.text(&text), screen.width));
            }
        }
    }
    lines
}
