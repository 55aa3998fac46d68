//! A block as a table: the first rows as HTML, the others as data that the script shows.

use maud::{Markup, PreEscaped, html};
use serde_json::{Value, json};

use super::super::block::{Block, Cell, Column, Row};
use super::super::tone::Tone;

/// How a block is shown.
pub struct Layout<'a> {
    /// The heading of the first column.
    pub first: &'a str,
    /// How many rows there are without the script.
    pub shown: usize,
    /// The script sorts and filters it.
    pub sorts: bool,
    /// A mark before each row: its class, and its letter.
    pub marks: &'a [(&'static str, String)],
}

/// The table, in a box that scrolls.
pub fn table(block: &Block, layout: &Layout) -> Markup {
    let Layout { first, shown, sorts, marks } = *layout;
    let (head, rest) = block.rows.split_at(shown.min(block.rows.len()));
    let title = heading(&block.title);
    html! {
        div class="rows" data-sorts[sorts] {
            div class="scroll" tabindex="0" role="region" aria-label=(title) {
                table {
                    caption { (title) }
                    thead { tr {
                        @for (index, column) in block.columns.iter().enumerate() {
                            th scope="col" class=[class(Tone::Plain, column)] {
                                @if index == 0 { (first) } @else { (heading(column.heading)) }
                            }
                        }
                    } }
                    tbody { @for (index, row) in head.iter().enumerate() { (row_of(block, row, marks.get(index))) } }
                }
            }
            @if !rest.is_empty() {
                p class="note count" {
                    (head.len()) " of " (block.rows.len()) " rows; the others need this page's script, or are in its JSON."
                }
                script type="application/json" { (PreEscaped(data(rest))) }
            }
        }
    }
}

fn row_of(block: &Block, row: &Row, mark: Option<&(&'static str, String)>) -> Markup {
    html! {
        tr data-also=[(!row.also.is_empty()).then_some(&row.also)] {
            @for (index, column) in block.columns.iter().enumerate() {
                @let cell = row.cells.get(index).cloned().unwrap_or_default();
                @let class = class(cell.tone, column);
                @if index == 0 {
                    th scope="row" class=[class] {
                        @if let Some((class, letter)) = mark { span class={ "mark " (class) } { (letter) } " " }
                        (cell.text)
                    }
                } @else {
                    td class=[class] data-k=[cell.number] { (cell.text) }
                }
            }
        }
        @if !row.details.is_empty() {
            tr class="d" { td colspan=(block.columns.len()) { @for line in &row.details { div { (line) } } } }
        }
    }
}

/// Of a cell: a number, words that may wrap, or its tone.
fn class(tone: Tone, column: &Column) -> Option<&'static str> {
    if column.right {
        Some("n")
    } else if column.folds {
        Some("w")
    } else {
        name(tone)
    }
}

/// A tone's class.
pub fn name(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Plain => None,
        Tone::Strong => Some("strong"),
        Tone::Eni => Some("eni"),
        Tone::Local => Some("local"),
        Tone::Host => Some("host"),
        Tone::Transit => Some("transit"),
        Tone::Bad => Some("bad"),
        Tone::Warning => Some("warn"),
        Tone::Good => Some("good"),
    }
}

/// `[[cells, details, also], …]`; a cell is a text, or a list of it, its number and its class.
fn data(rows: &[Row]) -> String {
    let cell = |cell: &Cell| match (cell.number, name(cell.tone)) {
        (None, None) => Value::from(cell.text.as_str()),
        (number, None) => json!([cell.text, number]),
        (number, class) => json!([cell.text, number, class]),
    };
    let row = |row: &Row| {
        let cells: Vec<Value> = row.cells.iter().map(cell).collect();
        json!([cells, row.details, row.also])
    };
    // Nothing in it ends the script or begins a comment.
    let lines: Vec<String> = rows.iter().map(|one| row(one).to_string().replace('<', "\\u003c")).collect();
    format!("[{}]", lines.join(",\n"))
}

/// What a screen of text has in capitals, as a page has it.
pub fn heading(capitals: &str) -> String {
    const NAMES: [(&str, &str); 13] = [
        ("CLOUDWATCH", "CloudWatch"),
        ("EC2", "EC2"),
        ("ENI", "ENI"),
        ("ENIS", "ENIs"),
        ("RX", "RX"),
        ("TX", "TX"),
        ("NAT", "NAT"),
        ("MAC", "MAC"),
        ("IPAMD", "ipamd"),
        ("ID", "ID"),
        ("IPV4", "IPv4"),
        ("IPV6", "IPv6"),
        ("BYTES/S", "Bytes/s"),
    ];
    if !capitals.contains(char::is_uppercase) {
        return capitals.to_owned();
    }
    let word = |(index, word): (usize, &str)| {
        let known = NAMES.iter().find(|(capitals, _)| *capitals == word);
        known.map_or_else(
            || {
                let mut lower = word.to_lowercase();
                if let Some(first) = lower.get_mut(..1).filter(|_| index == 0) {
                    first.make_ascii_uppercase();
                }
                lower
            },
            |(_, name)| (*name).to_owned(),
        )
    };
    capitals.split(' ').enumerate().map(word).collect::<Vec<_>>().join(" ")
}
