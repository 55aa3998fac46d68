//! Renders a report in every format.
//!
//! In: a report. Out: a panic if a format fails, prints what a terminal obeys, or cannot be read again.

use netpath::render::block::Screen;
use netpath::render::explain::{self, Selection};
use netpath::render::report::View;
use netpath::render::units::{Scale, Units};
use netpath::render::{json, markdown, table};
use netpath::report::Report;

use crate::printed;

pub fn check(report: &Report) {
    for width in [None, Some(0), Some(100)] {
        let view =
            View { all: width.is_none(), flows: width == Some(0), per_second: width.is_some(), ..View::default() };
        let screen = Screen { width, height: width.map(|_| 24), unicode: width != Some(0), ..Screen::default() };
        let mut text = Vec::new();
        table::write(report, &mut text, &view, &screen).expect("a table");
        markdown::write(report, &mut text, &view, &screen).expect("markdown");
        let text = String::from_utf8(text).expect("text");
        assert!(screen.unicode || text.is_ascii(), "more than ASCII");
        printed::check(&text);
    }
    let devices = report.devices.iter().map(|device| Selection::Device(&device.facts.name));
    let flows = report.flows.iter().take(3).map(|flow| Selection::flows(&[flow.id.to_string()]).expect("a flow's id"));
    for selection in devices.take(3).chain(flows).chain([Selection::Device("\u{1b}[31m")]) {
        let scale = Scale::sums(Units::Si);
        printed::check(&explain::text(report, &selection, 2, scale).unwrap_or_else(|error| error.to_string()));
    }
    let mut written = Vec::new();
    json::write(report, &mut written).expect("JSON");
    printed::check(std::str::from_utf8(&written).expect("text"));
    // Not a number and infinity are null in JSON, so that only what was read once can be compared.
    let read: Report = serde_json::from_slice(&written).expect("what netpath writes it reads");
    let mut again = Vec::new();
    json::write(&read, &mut again).expect("JSON");
    assert!(written == again, "read and written again it is different");
}
