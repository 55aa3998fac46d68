//! What the user chose, and what keys do to it.
//!
//! In: keys and windows. Out: an [`Action`] for the caller, where a key asks for more than another screen.

use std::sync::Arc;

use super::columns::{Column, Grouping, View, What, columns};
use super::input::Key;
use super::model::Model;
use super::table::{By, Tracked, is_gone};
use crate::path::select::Filter;
use crate::render::block::Screen;
use crate::render::units::Units;
use crate::report::Report;

/// What the caller chooses once.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which flows to begin with.
    pub filter: Filter,
    /// How that was written.
    pub filter_text: String,
    /// Units to begin with.
    pub units: Units,
    /// What the terminal can show; its size is not looked at.
    pub screen: Screen,
    /// Parses a filter that the user typed; an error is one line for the user.
    pub parse: fn(&str) -> Result<Filter, String>,
}

/// What the caller is to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Nothing but to draw.
    Draw,
    /// Clear the terminal, and draw all of it.
    Redraw,
    /// Write this report.
    Write(Arc<Report>),
    /// Suspend the process.
    Suspend,
    /// End.
    Quit,
    /// Hand this on to what plays a recording.
    Control(Control),
}

/// What a replay is to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Control {
    /// Go so many windows on; back if negative.
    Seek(i64),
    /// Stop at this window, or go on.
    Hold(bool),
    /// So many times as fast.
    Speed(f64),
}

/// Where a replay is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Number of the window, from 1.
    pub window: usize,
    /// It is the last one.
    pub is_last: bool,
    /// How many times as fast as it was.
    pub speed: f64,
}

/// How a view is sorted: by what, and whether the other way round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sort {
    pub(super) what: What,
    pub(super) reverse: bool,
}

/// By bytes.
const BY_BYTES: Sort = Sort { what: What::Bytes(0), reverse: false };

/// What covers the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    /// Nothing.
    None,
    /// The selected row.
    Detail,
    /// What to know.
    Notes,
    /// Keys.
    Help,
}

/// The view on all windows.
#[derive(Debug)]
pub struct State {
    pub(super) options: Options,
    pub(super) model: Model,
    pub(super) paused: bool,
    /// What is shown while a live screen is paused.
    pub(super) frozen: Option<Box<Model>>,
    pub(super) view: View,
    sorts: [Sort; View::ALL.len()],
    /// Key of the selected row of each view.
    pub(super) selected: [Option<String>; View::ALL.len()],
    pub(super) cover: Cover,
    /// First line of what covers the list.
    pub(super) scroll: usize,
    /// The filter that is being typed.
    pub(super) typed: Option<String>,
    pub(super) totals: bool,
    pub(super) message: Option<String>,
    pub(super) position: Option<Position>,
    /// Rows that the list has on the screen.
    pub(super) page: usize,
    /// Columns of the screen.
    pub(super) width: u16,
}

impl State {
    /// Before the first window.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            model: Model::new(options.filter.clone()),
            options,
            paused: false,
            frozen: None,
            view: View::Pods,
            sorts: [BY_BYTES; View::ALL.len()],
            selected: Default::default(),
            cover: Cover::None,
            scroll: 0,
            typed: None,
            totals: false,
            message: None,
            position: None,
            page: 10,
            width: 80,
        }
    }

    /// Adds a window.
    pub fn add(&mut self, report: Arc<Report>) {
        self.model.add(report);
    }

    /// Of a replay: it goes on from elsewhere, with these windows.
    pub fn restart(&mut self, reports: Vec<Arc<Report>>) {
        self.model.restart();
        for report in reports {
            self.model.add(report);
        }
    }

    /// Of a replay: where it is.
    pub fn set_position(&mut self, position: Position) {
        self.position = Some(position);
    }

    /// A line for the user.
    pub fn set_message(&mut self, message: impl Into<String>) {
        self.message = Some(message.into());
    }

    /// What is shown: the present, or where it was paused.
    pub(super) fn shown(&self) -> &Model {
        self.frozen.as_deref().unwrap_or(&self.model)
    }

    /// The columns that fit the screen's width.
    pub(super) fn columns(&self) -> Vec<Column> {
        let mut columns = columns(self.view, self.grouping());
        columns.retain(|column| column.from_width <= self.width);
        columns
    }

    pub(super) fn grouping(&self) -> Grouping {
        self.model.groupings[self.view.index()]
    }

    pub(super) fn sort(&self) -> Sort {
        let sort = self.sorts[self.view.index()];
        // Another grouping, or a narrower screen, may not have it.
        if self.columns().iter().any(|column| column.what == sort.what) { sort } else { BY_BYTES }
    }

    pub(super) fn rows(&self) -> Vec<&Tracked> {
        let sort = self.sort();
        let by = sort.what.by().unwrap_or(By::Amount(0));
        self.shown().tables[self.view.index()].sorted(by, sort.reverse, self.totals)
    }

    /// Key of the selected row.
    pub(super) fn selection(&self) -> Option<&str> {
        self.selected[self.view.index()].as_deref()
    }

    /// What a key does.
    pub fn press(&mut self, key: Key) -> Action {
        self.message = None;
        match (key, &mut self.typed) {
            (Key::Ctrl('c'), _) => return Action::Quit,
            (Key::Ctrl('z'), _) => return Action::Suspend,
            (Key::Ctrl('l'), _) => return Action::Redraw,
            (_, Some(_)) => {
                self.edit(key);
                return Action::Draw;
            }
            _ => {}
        }
        if let Some(control) = self.position.and_then(|position| of_replay(key, position)) {
            if let (Control::Speed(speed), Some(position)) = (control, &mut self.position) {
                position.speed = speed;
            }
            return Action::Control(control);
        }
        match key {
            Key::Char('q') => return Action::Quit,
            Key::Char('w') => return self.write(),
            Key::Char('p' | ' ') => return self.pause(),
            Key::Char('h' | '?') => self.toggle(Cover::Help),
            Key::Char('i') => self.toggle(Cover::Notes),
            Key::Char('u') => {
                self.options.units = if self.options.units == Units::Si { Units::Iec } else { Units::Si };
            }
            Key::Char('b') => self.totals = !self.totals,
            Key::Char(digit @ '1'..='5') => self.show(View::ALL[digit as usize - '1' as usize]),
            Key::Tab => self.show(View::ALL[(self.view.index() + 1) % View::ALL.len()]),
            Key::BackTab => self.show(View::ALL[(self.view.index() + View::ALL.len() - 1) % View::ALL.len()]),
            Key::Escape => self.close(),
            Key::Char('/') => self.typed = Some(self.options.filter_text.clone()),
            Key::Char('g') => self.group(),
            Key::Char('s') => self.sort_by(1),
            Key::Char('S') => self.sort_by(-1),
            Key::Char('r') => {
                let sort = self.sort();
                self.sorts[self.view.index()] = Sort { reverse: !sort.reverse, ..sort };
            }
            _ => {}
        }
        match key {
            Key::Enter if self.cover == Cover::None => self.open(),
            Key::Enter => self.close(),
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::PageUp => self.step(-self.page.cast_signed()),
            Key::PageDown => self.step(self.page.cast_signed()),
            Key::Home => self.step(isize::MIN / 2),
            Key::End => self.step(isize::MAX / 2),
            _ => {}
        }
        Action::Draw
    }

    fn edit(&mut self, key: Key) {
        let Some(mut text) = self.typed.take() else { return };
        match key {
            Key::Enter => match (self.options.parse)(&text) {
                Ok(filter) => {
                    self.set_filter(&filter, text.trim().to_owned());
                    return;
                }
                Err(why) => self.message = Some(why),
            },
            Key::Escape => return,
            Key::Backspace => {
                text.pop();
            }
            Key::Ctrl('u') => text.clear(),
            Key::Ctrl('w') => text.truncate(text.trim_end().rfind(' ').map_or(0, |space| space + 1)),
            Key::Char(c) => text.push(c),
            _ => {}
        }
        self.typed = Some(text);
    }

    fn set_filter(&mut self, filter: &Filter, text: String) {
        self.options.filter_text = text;
        for model in self.frozen.as_deref_mut().into_iter().chain([&mut self.model]) {
            model.set_filter(filter.clone());
        }
    }

    fn write(&mut self) -> Action {
        match &self.shown().report {
            Some(report) => Action::Write(Arc::clone(report)),
            None => Action::Draw,
        }
    }

    fn pause(&mut self) -> Action {
        self.paused = !self.paused;
        if self.position.is_some() {
            return Action::Control(Control::Hold(self.paused));
        }
        // A measurement goes on.
        self.frozen = self.paused.then(|| Box::new(self.model.clone()));
        Action::Draw
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.cover = Cover::None;
    }

    fn toggle(&mut self, cover: Cover) {
        self.cover = if self.cover == cover { Cover::None } else { cover };
        self.scroll = 0;
    }

    fn open(&mut self) {
        if self.selection().is_none() {
            self.step(0);
        }
        if self.selection().is_some_and(|key| !is_gone(key)) {
            self.toggle(Cover::Detail);
        }
    }

    /// Takes back one thing: what covers the list, the selection, the filter.
    fn close(&mut self) {
        if self.cover != Cover::None {
            self.cover = Cover::None;
        } else if self.selection().is_some() {
            self.selected[self.view.index()] = None;
        } else if !self.options.filter_text.is_empty() {
            self.set_filter(&Filter::default(), String::new());
        }
    }

    fn group(&mut self) {
        let (view, grouping) = (self.view, self.grouping().next());
        if grouping == self.grouping() {
            self.message = Some("this view has one grouping; press 1 or 2 for those that have more".to_owned());
            return;
        }
        for model in self.frozen.as_deref_mut().into_iter().chain([&mut self.model]) {
            model.set_grouping(view, grouping);
        }
        (self.selected[view.index()], self.cover) = (None, Cover::None);
    }

    /// Sorts by a column so many further on, of those that can be sorted by.
    fn sort_by(&mut self, step: isize) {
        let what: Vec<What> =
            self.columns().iter().map(|column| column.what).filter(|what| what.by().is_some()).collect();
        let at = what.iter().position(|what| *what == self.sort().what).unwrap_or_default();
        let to = (at.cast_signed() + step).rem_euclid(what.len().cast_signed()).cast_unsigned();
        self.sorts[self.view.index()] = Sort { what: what[to], reverse: false };
    }

    /// Selects a row so many further down, or scrolls.
    fn step(&mut self, by: isize) {
        if self.cover != Cover::None {
            self.scroll = self.scroll.saturating_add_signed(by);
            return;
        }
        let rows = self.rows();
        let at = self.selection().and_then(|key| rows.iter().position(|one| one.row.key == key));
        let last = rows.len().saturating_sub(1);
        let to = match at {
            Some(at) => at.saturating_add_signed(by).min(last),
            None if by >= isize::MAX / 2 => last,
            None => 0,
        };
        self.selected[self.view.index()] = rows.get(to).map(|one| one.row.key.clone());
    }
}

/// What a key does in a replay alone.
fn of_replay(key: Key, position: Position) -> Option<Control> {
    Some(match key {
        Key::Left => Control::Seek(-1),
        Key::Right => Control::Seek(1),
        Key::Char('[') => Control::Seek(-10),
        Key::Char(']') => Control::Seek(10),
        Key::Char('{') => Control::Seek(i64::MIN),
        Key::Char('}') => Control::Seek(i64::MAX),
        Key::Char('+' | '=') => Control::Speed((position.speed * 2.0).min(1024.0)),
        Key::Char('-') => Control::Speed((position.speed / 2.0).max(1.0 / 16.0)),
        _ => return None,
    })
}
