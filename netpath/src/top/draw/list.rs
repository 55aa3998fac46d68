//! The rows of a view, in columns that fit the screen.

use console::measure_text_width;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::columns::What;
use super::super::state::State;
use super::super::style;
use super::super::table::{Table, Tracked};
use super::super::trend::trend;
use crate::render::block::{Screen, shorten};
use crate::render::tone::Tone;
use crate::render::units::share;

/// The rows of the view, with the selected one among those that are shown.
pub fn list(state: &State, screen: &Screen, height: usize) -> Vec<Line<'static>> {
    let model = state.shown();
    let table = &model.tables[state.view.index()];
    let rows = state.rows();
    let room = height.saturating_sub(1);
    let at = state.selection().and_then(|key| rows.iter().position(|one| one.row.key == key));
    let first = at.map_or(0, |at| (at + 1).saturating_sub(room));
    let shown = &rows[first..rows.len().min(first + room)];
    let mut lines = Grid::new(state, table, shown, screen).lines(at.map(|at| at - first));
    if rows.is_empty() {
        let hint = if state.shown().filter.is_empty() { "" } else { "; Esc takes back the filter" };
        lines.push(Line::from(format!("  nothing was seen{hint}")));
    }
    if let Some(rest) = rows.len().checked_sub(first + room).filter(|rest| *rest > 0 && room > 1) {
        lines.pop();
        lines.push(Line::styled(format!("  and {} more below", rest + 1), style::faint()));
    }
    lines
}

/// Rows in columns that fit the screen.
struct Grid<'a> {
    headings: Vec<(String, What)>,
    cells: Vec<Vec<(String, Style)>>,
    trends: Vec<Vec<i64>>,
    screen: &'a Screen,
}

impl<'a> Grid<'a> {
    fn new(state: &State, table: &Table, rows: &[&Tracked], screen: &'a Screen) -> Self {
        let sort = state.sort();
        let columns = state.columns();
        let duration_ns = state.shown().report.as_ref().map_or(0, |report| report.window.duration_ns);
        let scale = state.scale(duration_ns);
        let whole = u64::try_from(table.sum(state.totals)).unwrap_or(0);
        let mut headings = Vec::new();
        for column in &columns {
            let heading = if column.what == What::Bytes(0) { scale.heading() } else { column.heading };
            let arrow = match (column.what == sort.what, sort.reverse, screen.unicode) {
                (false, ..) => "",
                (true, false, true) => "▼",
                (true, true, true) => "▲",
                (true, false, false) => "*",
                (true, true, false) => "^",
            };
            headings.push((format!("{heading}{arrow}"), column.what));
        }
        let cell = |one: &Tracked, what: What| {
            let amounts = table.amounts(one, state.totals);
            let amount = |index: usize| amounts.get(index).copied().unwrap_or_default();
            match what {
                What::Name(index) | What::Word(index) => {
                    let cell = one.row.words.get(index).cloned().unwrap_or_default();
                    (screen.text(&cell.text).into_owned(), style::of(cell.tone, screen))
                }
                // The heading has it, that these are rates.
                What::Bytes(index) => (scale.signed(amount(index)).trim_end_matches("/s").to_owned(), Style::new()),
                What::Count(index) => (amount(index).to_string(), Style::new()),
                What::Now(index) => {
                    let now = table.amounts(one, false).get(index).copied().unwrap_or_default();
                    (now.to_string(), Style::new())
                }
                What::Share => (share(u64::try_from(amount(0)).unwrap_or(0), whole), Style::new()),
                What::Trend => (String::new(), Style::new()),
            }
        };
        let cells = rows.iter().map(|one| headings.iter().map(|(_, what)| cell(one, *what)).collect()).collect();
        let trends = rows.iter().map(|one| table.recent(one)).collect();
        Self { headings, cells, trends, screen }
    }

    /// As wide as what is in them; names are shortened, and what is left is the trend's.
    fn widths(&self) -> Vec<usize> {
        const GAP: usize = 2;
        const LEAST_NAME: usize = 10;
        let width = self.screen.width.unwrap_or(80);
        let mut widths: Vec<usize> = self.headings.iter().map(|(heading, _)| measure_text_width(heading)).collect();
        for cells in &self.cells {
            for (width, (text, _)) in widths.iter_mut().zip(cells) {
                *width = (*width).max(measure_text_width(text));
            }
        }
        let used = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len();
        while used(&widths) > width {
            let names = (0..widths.len()).filter(|&index| matches!(self.headings[index].1, What::Name(_)));
            let Some(widest) = names.filter(|&index| widths[index] > LEAST_NAME).max_by_key(|&index| widths[index])
            else {
                break;
            };
            widths[widest] -= 1;
        }
        let left = width.saturating_sub(used(&widths));
        for (width, (_, what)) in widths.iter_mut().zip(&self.headings) {
            if *what == What::Trend {
                *width += left;
            }
        }
        widths
    }

    fn lines(&self, selected: Option<usize>) -> Vec<Line<'static>> {
        let widths = self.widths();
        let mut heading = String::from(" ");
        for ((text, what), width) in self.headings.iter().zip(&widths) {
            let padded = if what.is_number() { format!("{text:>width$}") } else { format!("{text:<width$}") };
            heading.extend([" ", &padded, " "]);
        }
        let mut lines = vec![Line::styled(heading, style::of(Tone::Strong, self.screen))];
        for (index, (cells, recent)) in self.cells.iter().zip(&self.trends).enumerate() {
            let is_selected = selected == Some(index);
            let mut spans = vec![Span::from(if is_selected { ">" } else { " " })];
            for (((text, look), (_, what)), width) in cells.iter().zip(&self.headings).zip(&widths) {
                let text = match what {
                    What::Trend => trend(recent, *width, self.screen.unicode),
                    _ => shorten(text, *width, self.screen.ellipsis()),
                };
                let space = " ".repeat(width.saturating_sub(measure_text_width(&text)));
                let text = if what.is_number() { format!(" {space}{text} ") } else { format!(" {text}{space} ") };
                spans.push(Span::styled(text, *look));
            }
            let line = Line::from(spans);
            lines.push(if is_selected { line.style(style::selected()) } else { line });
        }
        lines
    }
}
