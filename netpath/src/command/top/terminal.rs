//! The terminal: draws the state, and hands keys on to it. Whatever ends it, the terminal is as it was before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write as _, stdout};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use rustix::event::{PollFd, PollFlags};

use super::super::{reason, reason_not_made};
use crate::report::Report;
use crate::top::{Action, Control, Key, Position, State, draw};
use crate::{privilege, render};

/// Keys are answered at once, windows within this time.
const LOOKS_EVERY: Duration = Duration::from_millis(50);

/// What comes from the thread that has the windows.
#[derive(Debug)]
pub enum Update {
    /// A window.
    Window(Arc<Report>),
    /// Windows that do not follow those before.
    Restart(Vec<Arc<Report>>),
    /// Where the replay is.
    Position(Position),
    /// Something to say.
    Message(String),
}

/// Waits so long for keys. Whether the terminal has hung up: crossterm would then read from it for ever.
fn has_hung_up(wait: Duration) -> bool {
    // The one that crossterm reads from, or the same: stdout is a terminal.
    let (stdin, stdout) = (io::stdin(), stdout());
    let terminal = if stdin.is_terminal() { stdin.as_fd() } else { stdout.as_fd() };
    let mut events = [PollFd::from_borrowed_fd(terminal, PollFlags::IN)];
    let polled = rustix::event::poll(&mut events, wait.try_into().ok().as_ref());
    polled.is_ok() && events[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
}

/// Why the view ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The user ended it, or the terminal.
    ByUser,
    /// Nothing more comes.
    NothingMore,
}

/// The terminal, taken over.
#[derive(Debug)]
pub struct Terminal(DefaultTerminal);

impl Terminal {
    /// Whether there is one that can be drawn on.
    pub fn is_there() -> bool {
        stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Takes it over.
    pub fn open() -> anyhow::Result<Self> {
        let terminal = ratatui::try_init();
        terminal.map(Self).map_err(|error| {
            ratatui::restore();
            anyhow!("cannot use the terminal: {}; use netpath report --interval 1s", reason(&error))
        })
    }

    /// Shows what comes until the user ends it, or nothing more comes; returns which. `controls`: of a replay.
    pub fn show(
        mut self,
        mut state: State,
        updates: &Receiver<Update>,
        controls: Option<&Sender<Control>>,
    ) -> anyhow::Result<Ended> {
        let failed = "cannot use the terminal any more";
        let mut changed = true;
        loop {
            loop {
                match updates.try_recv() {
                    Ok(update) => apply(&mut state, update),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(Ended::NothingMore),
                }
                changed = true;
            }
            if std::mem::take(&mut changed) {
                self.draw(&mut state).context(failed)?;
            }
            if has_hung_up(LOOKS_EVERY) {
                return Ok(Ended::ByUser);
            }
            while !has_hung_up(Duration::ZERO) && event::poll(Duration::ZERO).context(failed)? {
                changed = true;
                let Event::Key(event) = event::read().context(failed)? else { continue };
                match key(event).map(|key| state.press(key)) {
                    None | Some(Action::Draw) => {}
                    Some(Action::Quit) => return Ok(Ended::ByUser),
                    Some(Action::Redraw) => self.clear().context(failed)?,
                    Some(Action::Suspend) => self.suspend().context(failed)?,
                    Some(Action::Write(report)) => state.set_message(write(&report)),
                    Some(Action::Control(control)) => drop(controls.map(|controls| controls.send(control))),
                }
            }
        }
    }

    fn draw(&mut self, state: &mut State) -> io::Result<()> {
        self.0.draw(|frame| draw(frame, state)).map(drop)
    }

    /// Stops the process group, as Ctrl-Z does elsewhere, until the shell continues it.
    fn suspend(&mut self) -> io::Result<()> {
        ratatui::restore();
        rustix::process::kill_current_process_group(rustix::process::Signal::TSTP)?;
        // The signal stops this thread a moment later.
        sleep(LOOKS_EVERY);
        self.0 = ratatui::try_init()?;
        Ok(())
    }

    /// All is drawn anew. (`clear` of the terminal would ask it where its cursor is, and fail where nothing answers.)
    fn clear(&mut self) -> io::Result<()> {
        let size = self.0.size()?;
        self.0.resize(size.into())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn apply(state: &mut State, update: Update) {
    match update {
        Update::Window(report) => state.add(report),
        Update::Restart(reports) => state.restart(reports),
        Update::Position(position) => state.set_position(position),
        Update::Message(message) => state.set_message(message),
    }
}

/// Writes the report to a new file in the current folder, and says where.
fn write(report: &Report) -> String {
    let at: String = report.window.started_at.split('.').next().unwrap_or_default().to_owned();
    let at: String = at.chars().filter(char::is_ascii_alphanumeric).collect();
    let written = privilege::to_write_a_file(|| {
        let (name, file) = new_file(&format!("netpath-{at}")).map_err(|error| anyhow!(reason_not_made(&error)))?;
        let mut file = BufWriter::new(file);
        let written = render::json::write(report, &mut file).and_then(|()| file.flush());
        written.map(|()| name.clone()).map_err(|error| {
            // Half a report is of no use. If it cannot be removed, it stays.
            let _ = fs::remove_file(&name);
            anyhow!(reason(&error))
        })
    });
    match written {
        Ok(name) => format!("{name} has the report of this window"),
        Err(error) => format!("cannot write the report to this folder: {error:#}"),
    }
}

/// A file that was not there, and its name: "BEGIN.json", "BEGIN-2.json".
fn new_file(begin: &str) -> io::Result<(String, File)> {
    let mut number = 1;
    loop {
        let name = if number == 1 { format!("{begin}.json") } else { format!("{begin}-{number}.json") };
        match OpenOptions::new().write(true).create_new(true).open(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1_000 => number += 1,
            opened => return opened.map(|file| (name, file)),
        }
    }
}

/// The key that an event is; `None` for those that nothing is done with.
fn key(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    Some(match event.code {
        KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::CONTROL) => Key::Ctrl(c.to_ascii_lowercase()),
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}
