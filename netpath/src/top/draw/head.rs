//! What is always on the screen: which node and when, the totals by path, CloudWatch against EC2, and health.

use ratatui::text::{Line, Span};

use super::super::model::Model;
use super::super::state::State;
use super::super::style;
use super::super::trend::{bar, trend};
use super::shorten_end;
use crate::path::verdict::{Unknown, verdict};
use crate::render::block::{Screen, shorten};
use crate::render::labels;
use crate::render::report::{good, moment, problems, warning};
use crate::render::tone::Tone;
use crate::render::units::{Scale, duration, share};
use crate::report::{PathClass, Report};
use crate::sanitise::sanitise;

/// The paths that are always shown.
const MAIN: [PathClass; 3] = [PathClass::Eni, PathClass::Local, PathClass::Host];

/// The lines.
pub fn head(state: &State, screen: &Screen) -> Vec<Line<'static>> {
    let model = state.shown();
    let Some(report) = &model.report else {
        return vec![Line::from("netpath: the first window is not over yet")];
    };
    let mut lines = vec![title(state, report, screen)];
    lines.extend(paths(state, model, report, screen));
    lines.push(cloudwatch(state, report, screen));
    lines.push(health(report, screen));
    lines
}

/// What is special comes first where the line is too short for all.
fn title(state: &State, report: &Report, screen: &Screen) -> Line<'static> {
    let window = &report.window;
    let host = sanitise(&report.node.hostname);
    // To the millisecond only if it is not what was asked for.
    let length = window
        .interval_ns
        .filter(|asked| asked.abs_diff(window.duration_ns) < asked / 10)
        .unwrap_or(window.duration_ns);
    let begin = moment(&window.started_at);
    let when = match state.shown().since.as_deref().filter(|_| state.totals) {
        Some(since) => vec![format!("all since {}", moment(since))],
        None => vec![
            format!("{begin}  window {}", duration(length)),
            begin.clone(),
            begin.get(11..19).unwrap_or("").to_owned(),
        ],
    };
    let mut notes = Vec::new();
    if let Some(position) = state.position {
        let last = if position.is_last { ", the last" } else { "" };
        notes.push((format!("  replay {}{last}, {} x", position.window, position.speed), Tone::Plain));
    }
    if state.paused {
        notes.push(("  PAUSED".to_owned(), Tone::Warning));
    }
    if !state.options.filter_text.is_empty() {
        notes.push((
            screen.text(&format!("  only {}", sanitise(&state.options.filter_text))).into_owned(),
            Tone::Warning,
        ));
    }
    let room = screen.width.unwrap_or(80).saturating_sub(notes.iter().map(|(text, _)| text.chars().count()).sum());
    let fits = |when: &&String| host.chars().count() + 2 + when.chars().count() <= room;
    let when = when.iter().find(fits).or(when.last()).cloned().unwrap_or_default();
    let first = screen.text(&format!("{host}  {when}")).into_owned();
    let mut spans = vec![Span::styled(first, style::of(Tone::Strong, screen))];
    spans.extend(notes.into_iter().map(|(text, tone)| Span::styled(text, style::of(tone, screen))));
    Line::from(spans)
}

fn paths(state: &State, model: &Model, report: &Report, screen: &Screen) -> Vec<Line<'static>> {
    let scale = state.scale(report.window.duration_ns);
    let width = screen.width.unwrap_or(80);
    let bytes = |path: PathClass| {
        let row = model.paths.get(path.name());
        let bytes = row.and_then(|row| model.paths.amounts(row, state.totals).first().copied()).unwrap_or(0);
        (u64::try_from(bytes).unwrap_or(0), row)
    };
    let whole = u64::try_from(model.paths.sum(state.totals)).unwrap_or(0);
    let label_width = MAIN.map(|path| labels::path(path).len()).into_iter().max().unwrap_or(0);
    let label_width = if width < 70 { 16 } else { label_width };
    let mut lines: Vec<Line<'static>> = MAIN
        .map(|path| {
            let (bytes, row) = bytes(path);
            let label = shorten(labels::path(path), label_width, screen.ellipsis());
            let numbers = format!("{label:<label_width$} {:>12} {:>5} ", scale.bytes(bytes), share(bytes, whole));
            let room = width.saturating_sub(numbers.len());
            let (bars, trends) = (room / 2, room.saturating_sub(room / 2 + 1));
            let style = style::of(Tone::of(path), screen);
            let bar = bar(bytes, whole, bars, screen.unicode);
            let recent = row.map(|row| model.paths.recent(row)).unwrap_or_default();
            Line::from(vec![
                Span::from(numbers),
                Span::styled(format!("{bar:<bars$} "), style),
                Span::styled(trend(&recent, trends, screen.unicode), style),
            ])
        })
        .into();
    let others = PathClass::ALL.into_iter().filter(|path| !MAIN.contains(path));
    let others = others.map(|path| (path, bytes(path).0)).filter(|(_, bytes)| *bytes > 0);
    let others: Vec<Span> = others
        .enumerate()
        .flat_map(|(index, (path, bytes))| {
            let before = if index == 0 { "also: " } else { ", " };
            let text = format!("{} {}", labels::path(path), scale.bytes(bytes));
            [Span::from(before), Span::styled(text, style::of(Tone::of(path), screen))]
        })
        .collect();
    if !others.is_empty() {
        lines.push(Line::from(others));
    }
    lines
}

/// `node_network_total_bytes` against what EC2 shows.
fn cloudwatch(state: &State, report: &Report, screen: &Screen) -> Line<'static> {
    let scale = Scale::rates(state.options.units, report.window.duration_ns);
    let verdict = match verdict(report) {
        Ok(verdict) => verdict,
        Err(why) => {
            let total = report.accounting.container_insights.node_network_total_bytes;
            let known = total.filter(|_| why != Unknown::NoTime).map(|total| format!("{}, EC2", scale.bytes(total)));
            let known = known.map_or_else(String::new, |known| format!(" {known}"));
            let text = format!("node_network_total_bytes{known} is not known: {}", labels::unknown(why));
            return Line::styled(shorten_end(&text, screen), style::of(Tone::Warning, screen));
        }
    };
    let known = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| scale.bytes(bytes));
    let ec2 = &report.accounting.ec2;
    let (input, output) = (known(ec2.network_in_bytes), known(ec2.network_out_bytes));
    let mut text = format!("node_network_total_bytes {}, EC2 in {input}, out {output}", scale.rate(verdict.cloudwatch));
    let ratio = verdict.ratio().map(|ratio| format!(": {ratio:.1} times"));
    let cause = verdict.cause.map(|(term, part)| format!("; {:.0} % {}", part * 100.0, labels::share_of_term(term)));
    for more in ratio.into_iter().chain(cause) {
        if text.len() + more.len() <= screen.width.unwrap_or(80) {
            text += &more;
        }
    }
    Line::from(shorten_end(&text, screen))
}

/// Whether anything was lost or not seen.
fn health(report: &Report, screen: &Screen) -> Line<'static> {
    let (warning, problems) = (warning(&report.health), problems(report));
    let text = match (warning, problems.as_slice()) {
        (None, []) => return Line::styled(shorten_end(&good(report), screen), style::of(Tone::Good, screen)),
        (Some(warning), _) => (warning, Tone::Bad),
        (None, [only]) => (only.clone(), Tone::Warning),
        (None, [first, others @ ..]) => (format!("{} more (i): {first}", others.len()), Tone::Warning),
    };
    Line::styled(shorten_end(&format!("! {}", text.0), screen), style::of(text.1, screen))
}
