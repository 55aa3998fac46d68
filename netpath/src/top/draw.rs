//! The screen: what is always on it, the list or what covers it, and what keys there are.

mod head;
mod list;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};

use self::head::head;
use self::list::list;
use super::columns::{Grouping, View};
use super::state::{Cover, State};
use super::{detail, help, style};
use crate::render::block::{Screen, wrap};
use crate::render::report::{good, group_nouns, moment, problems, warning};
use crate::render::tone::Tone;
use crate::render::units::{Scale, duration};
use crate::report::GroupBy;
use crate::sanitise::sanitise;

/// Less than that shows nothing of use.
const LEAST: (u16, u16) = (40, 12);

/// What the last line has, as far as there is room.
const LIVE_KEYS: [&str; 12] = [
    "q quit",
    "? help",
    "/ filter",
    "Enter open",
    "s sort",
    "g group",
    "p pause",
    "b total",
    "i notes",
    "u units",
    "w write",
    "r reverse",
];
const REPLAY_KEYS: [&str; 10] = [
    "q quit",
    "? help",
    "Left, Right seek",
    "p pause",
    "- + speed",
    "/ filter",
    "Enter open",
    "s sort",
    "g group",
    "b total",
];

/// Draws all of it.
pub fn draw(frame: &mut Frame, state: &mut State) {
    let area = frame.area();
    let screen = Screen { width: Some(area.width.into()), height: Some(area.height.into()), ..state.options.screen };
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("{} x {} is too small: {} x {} at least", area.width, area.height, LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    state.width = area.width;
    let mut top = head(state, &screen);
    top.push(tabs(state, &screen));
    let height = u16::try_from(top.len()).unwrap_or(u16::MAX).min(area.height - 3);
    frame.render_widget(Paragraph::new(top), Rect { height, ..area });
    let bottom = foot(state, &screen);
    let below = u16::try_from(bottom.len()).unwrap_or(1).clamp(1, area.height - height - 1);
    let middle = Rect { y: area.y + height, height: area.height - height - below, ..area };
    state.page = usize::from(middle.height).saturating_sub(1).max(1);
    frame.render_widget(Clear, middle);
    let lines = match state.cover {
        Cover::None => list(state, &screen, middle.height.into()),
        cover => covering(state, cover, &screen, middle.height.into()),
    };
    frame.render_widget(Paragraph::new(lines), middle);
    let last = Rect { y: area.bottom() - below, height: below, ..area };
    frame.render_widget(Paragraph::new(bottom), last);
}

impl State {
    /// Bytes as they are shown, of windows of this length.
    pub(super) fn scale(&self, duration_ns: u64) -> Scale {
        let units = self.options.units;
        if self.totals { Scale::sums(units) } else { Scale::rates(units, duration_ns) }
    }
}

fn tabs(state: &State, screen: &Screen) -> Line<'static> {
    let is_wide = screen.width.is_some_and(|width| width >= 70);
    let mut spans = Vec::new();
    for view in View::ALL {
        let number = view.index() + 1;
        let title = match state.model.groupings[view.index()] {
            Grouping::By(by) if view == View::Pods => capitalised(by),
            _ => view.title().to_owned(),
        };
        let text = if is_wide || view == state.view { format!(" {number} {title} ") } else { format!(" {number} ") };
        spans.push(Span::styled(text, if view == state.view { style::selected() } else { Style::new() }));
    }
    // A filter or a grouping came later.
    if let Some(since) = state.shown().later_since(state.view).filter(|_| state.totals) {
        let moment = moment(since);
        let time = moment.split(' ').nth(1).unwrap_or_default();
        spans.push(Span::styled(format!("  since {time}"), style::faint()));
    }
    Line::from(spans)
}

/// "Namespaces".
fn capitalised(by: GroupBy) -> String {
    let ([_, several], _) = group_nouns(by);
    let (first, rest) = several.split_at(1);
    first.to_owned() + &rest.to_lowercase()
}

/// What covers the list, from where it is scrolled to.
fn covering(state: &mut State, cover: Cover, screen: &Screen, height: usize) -> Vec<Line<'static>> {
    let inner = Screen { width: screen.width.map(|width| width.saturating_sub(2)), ..*screen };
    let lines = match cover {
        Cover::Help => help::lines(state.position.is_some()),
        Cover::Notes => notes(state),
        _ => detail::lines(state, &inner),
    };
    let wrapped = cover != Cover::Detail;
    let lines: Vec<String> = lines
        .iter()
        .flat_map(
            |line| if wrapped { wrap(&screen.text(line), inner.width) } else { vec![screen.text(line).into_owned()] },
        )
        .collect();
    state.scroll = state.scroll.min(lines.len().saturating_sub(height));
    let shown = lines.into_iter().skip(state.scroll).take(height);
    shown.map(|line| Line::from(format!(" {line}"))).collect()
}

/// What to know about the report.
fn notes(state: &State) -> Vec<String> {
    let Some(report) = &state.shown().report else { return Vec::new() };
    let mut lines: Vec<String> = warning(&report.health).into_iter().chain(problems(report)).collect();
    if lines.is_empty() {
        lines.push(good(report));
    }
    if let Some(late) = report.window.late_ns.filter(|late| *late > report.window.duration_ns / 10) {
        lines.push(format!(
            "this window was closed {} late: reading and judging takes longer than the interval; no packet is lost; give a longer \
             --interval",
            duration(late)
        ));
    }
    lines
}

/// What is typed, what there is to say, or which keys there are.
fn foot(state: &State, screen: &Screen) -> Vec<Line<'static>> {
    let strong = style::of(Tone::Strong, screen);
    let message = state.message.as_deref().map(|message| wrap(&screen.text(&sanitise(message)), screen.width));
    let mut lines: Vec<Line> = message.unwrap_or_default().into_iter().map(|line| Line::styled(line, strong)).collect();
    if let Some(typed) = &state.typed {
        // Of a long line its end, where one types.
        let text = screen.text(&format!("/{}_", sanitise(typed))).into_owned();
        let width = screen.width.unwrap_or(80);
        let hidden = text.chars().count().saturating_sub(width);
        lines.push(Line::styled(text.chars().skip(hidden).collect::<String>(), strong));
    }
    if !lines.is_empty() {
        return lines;
    }
    let keys: &[&str] = match (state.cover, state.position) {
        (Cover::None, None) => &LIVE_KEYS,
        (Cover::None, Some(_)) => &REPLAY_KEYS,
        _ => &["Esc back", "Up, Down scroll", "q quit", "? help"],
    };
    let mut line = String::new();
    for key in keys {
        let between = if line.is_empty() { "" } else { "  " };
        if line.len() + between.len() + key.len() <= screen.width.unwrap_or(80) {
            line += between;
            line += key;
        }
    }
    vec![Line::styled(line, style::faint())]
}

/// The text without what does not fit at its end.
fn shorten_end(text: &str, screen: &Screen) -> String {
    console::truncate_str(&screen.text(text), screen.width.unwrap_or(80), screen.ellipsis()).into_owned()
}
