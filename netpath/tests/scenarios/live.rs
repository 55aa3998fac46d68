//! The live view, drawn without a terminal: each view on screens of several sizes, and what keys do.

use std::sync::Arc;

use netpath::path;
use netpath::path::select::{Condition, Filter};
use netpath::render::block::Screen;
use netpath::render::units::Units;
use netpath::report::Report;
use netpath::top::{Action, Control, Key, Options, Position, State, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::read;

fn state(screen: Screen) -> State {
    State::new(Options {
        filter: Filter::default(),
        filter_text: String::new(),
        units: Units::Si,
        screen,
        parse: |text| match text.strip_prefix("pod ") {
            Some(pod) => Ok(Filter::new([vec![Condition::pod(pod)?]])),
            None if text.is_empty() => Ok(Filter::default()),
            None => Err(format!("no option is called {text}")),
        },
    })
}

fn report(scenario: &str) -> Arc<Report> {
    Arc::new(path::report(&read(scenario).snapshot))
}

/// What is on the screen.
fn shown(state: &mut State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    (0..height).map(line).collect()
}

fn press(state: &mut State, keys: &str) {
    for key in keys.chars() {
        state.press(match key {
            '\n' => Key::Enter,
            key => Key::Char(key),
        });
    }
}

#[test]
fn every_view() {
    for (width, height) in [(80, 24), (130, 30)] {
        let mut state = state(Screen::default());
        for _ in 0..3 {
            state.add(report("busy_node"));
        }
        let all: Vec<String> = "12345"
            .chars()
            .map(|key| {
                press(&mut state, &key.to_string());
                shown(&mut state, width, height)
            })
            .collect();
        insta::assert_snapshot!(format!("top_{width}"), all.join("\n"));
    }
}

#[test]
fn what_keys_show() {
    let mut state = state(Screen::default());
    state.add(report("busy_node"));
    let mut all = Vec::new();
    for keys in ["2j\n", "1\n", "3\n", "5j\n", "4\n", "1gg", "b", "u", "i", "?", "p"] {
        press(&mut state, keys);
        all.push(format!("{keys:?}\n{}", shown(&mut state, 80, 24)));
    }
    insta::assert_snapshot!("top_keys", all.join("\n"));
}

/// As many bytes in the total as in the windows, whatever is shown.
#[test]
fn totals_are_sums_of_windows() {
    let mut state = state(Screen::default());
    state.press(Key::Char('b'));
    let report = report("busy_node");
    let local = |times: u64| {
        let bytes = report.totals.by_path[&netpath::report::PathClass::Local].bytes * times;
        netpath::render::units::Scale::sums(Units::Si).bytes(bytes)
    };
    for windows in 1..=200 {
        state.add(Arc::clone(&report));
        if [1, 7, 200].contains(&windows) {
            let screen = shown(&mut state, 80, 24);
            let line = screen.lines().find(|line| line.starts_with("stayed on this node")).unwrap();
            assert!(line.contains(&local(windows)), "{windows}: {line}");
        }
    }
}

#[test]
fn a_filter_is_typed_and_taken_back() {
    let mut state = state(Screen::default());
    state.add(report("busy_node"));
    let rows = |state: &mut State| shown(state, 80, 24).lines().skip(8).filter(|line| line.starts_with("  ")).count();
    let before = rows(&mut state);
    press(&mut state, "/nonsense\n");
    let screen = shown(&mut state, 80, 24);
    assert!(screen.ends_with("no option is called nonsense\n/nonsense_\n"), "what is typed stays: {screen}");
    for _ in 0..8 {
        state.press(Key::Backspace);
    }
    press(&mut state, "pod default/*\n");
    let screen = shown(&mut state, 80, 24);
    assert!(screen.contains("only pod default/*") && rows(&mut state) < before, "{screen}");
    state.press(Key::Escape);
    assert_eq!(rows(&mut state), before);
}

#[test]
fn a_paused_screen_stays_and_counting_goes_on() {
    let mut state = state(Screen::default());
    state.add(report("busy_node"));
    press(&mut state, "b");
    let before = shown(&mut state, 80, 24);
    press(&mut state, "p");
    state.add(report("busy_node"));
    assert_eq!(shown(&mut state, 80, 24).replacen("  PAUSED", "", 1), before);
    press(&mut state, "p");
    let after = shown(&mut state, 80, 24);
    assert_ne!(after, before);
    let mut whole = self::state(Screen::default());
    press(&mut whole, "b");
    for _ in 0..2 {
        whole.add(report("busy_node"));
    }
    assert_eq!(after, shown(&mut whole, 80, 24));
}

#[test]
fn keys_of_a_replay() {
    let mut state = state(Screen::default());
    state.add(report("busy_node"));
    assert!(matches!(state.press(Key::Right), Action::Draw), "nothing to seek in");
    state.set_position(Position { window: 3, is_last: false, speed: 2.0 });
    for (key, control) in [
        (Key::Right, Control::Seek(1)),
        (Key::Char('['), Control::Seek(-10)),
        (Key::Char('+'), Control::Speed(4.0)),
        (Key::Char('p'), Control::Hold(true)),
        (Key::Char(' '), Control::Hold(false)),
    ] {
        assert!(matches!(state.press(key), Action::Control(it) if it == control), "{key:?}");
    }
    assert!(shown(&mut state, 80, 24).lines().next().unwrap().contains("replay 3, 4 x"));
}

/// Any scenario, any size, any key: it does not panic, and what is hostile does not reach the terminal.
#[test]
fn everything_on_every_screen() {
    const KEYS: [&str; 13] = ["", "1\n", "1gGg", "2\n", "2gj\n", "3j\n", "4\n", "5j\n", "b", "?", "i", "sSr", "/x"];
    for file in std::fs::read_dir(super::folder()).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = file.file_stem().unwrap().to_str().unwrap();
        let report = report(name);
        let sizes: &[(u16, u16)] = match name {
            "hostile_names" | "busy_node" => &[(80, 24), (40, 12), (200, 50), (10, 3), (1, 1)],
            _ => &[(80, 24)],
        };
        let mut state = state(Screen { unicode: false, ..Screen::default() });
        for keys in KEYS {
            press(&mut state, keys);
            state.add(Arc::clone(&report));
            for (width, height) in sizes {
                let screen = shown(&mut state, *width, *height);
                assert!(screen.is_ascii() && !screen.contains('\x1b'), "{name} {keys}: {screen}");
            }
            state.press(Key::Escape);
            state.press(Key::Escape);
        }
    }
}
