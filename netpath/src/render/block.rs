//! Blocks of text and numbers, before they are text: what the table and markdown have in common.
//!
//! In: titles, cells, notes, all of them sanitised. Out: lines that fit a width, or markdown. Cells are shortened in the middle,
//! never wrapped: a broken address could be taken for another one.

use std::borrow::Cow;
use std::io::{self, Write};

use console::measure_text_width;

use super::tone::Tone;
use crate::locale::ascii;

/// Where text is written to.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Columns; `None`: as many as it takes.
    pub width: Option<usize>,
    /// Lines; `None`: as many as it takes.
    pub height: Option<usize>,
    /// ANSI colours may be used.
    pub colour: bool,
    /// Characters beyond ASCII may be used.
    pub unicode: bool,
}

impl Default for Screen {
    fn default() -> Self {
        Self { width: None, height: None, colour: false, unicode: true }
    }
}

impl Screen {
    /// The text in ASCII, where that is all the screen has.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.unicode { Cow::Borrowed(text) } else { ascii(text) }
    }

    /// What stands for text that does not fit.
    #[must_use]
    pub fn ellipsis(&self) -> &'static str {
        if self.unicode { "…" } else { ".." }
    }

    pub(super) fn styled(&self, text: &str, tone: Tone) -> String {
        if self.colour { tone.paint(text) } else { text.to_owned() }
    }
}

/// A cell.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// What is in it.
    pub text: String,
    /// How it looks.
    pub tone: Tone,
    /// Of a number: what it is sorted by.
    pub number: Option<i64>,
}

impl Cell {
    /// In a tone.
    #[must_use]
    pub const fn toned(text: String, tone: Tone) -> Self {
        Self { text, tone, number: None }
    }

    /// A number as text, and what it is.
    #[must_use]
    pub fn number(text: String, number: impl TryInto<i64>) -> Self {
        Self { text, tone: Tone::Plain, number: Some(number.try_into().unwrap_or(i64::MAX)) }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What is above it. The first column has the block's title there.
    pub heading: &'static str,
    /// Numbers stand at the right.
    pub right: bool,
    /// It may be shortened.
    pub shrinks: bool,
    /// Where lines are too short for it, its cells stand below their rows.
    pub folds: bool,
}

impl Column {
    /// Of names, which may be shortened.
    #[must_use]
    pub const fn name(heading: &'static str) -> Self {
        Self { heading, right: false, shrinks: true, folds: false }
    }

    /// Of words.
    #[must_use]
    pub const fn words(heading: &'static str) -> Self {
        Self { heading, right: false, shrinks: false, folds: false }
    }

    /// Of words that stand below the row where lines are too short.
    #[must_use]
    pub const fn folding(heading: &'static str) -> Self {
        Self { heading, right: false, shrinks: false, folds: true }
    }

    /// Of numbers.
    #[must_use]
    pub const fn number(heading: &'static str) -> Self {
        Self { heading, right: true, shrinks: false, folds: false }
    }
}

/// A row, and sentences below it.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// As many as the block has columns, or fewer.
    pub cells: Vec<Cell>,
    /// Sentences about the row.
    pub details: Vec<String>,
    /// What else it is found by, where rows are searched: what its names stand for.
    pub also: String,
}

/// A titled table.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// In capitals.
    pub title: String,
    /// The first one's heading is the title.
    pub columns: Vec<Column>,
    /// In the order in which they are shown.
    pub rows: Vec<Row>,
    /// Sentences below it.
    pub notes: Vec<String>,
}

const INDENT: usize = 2;
const GAP: usize = 2;
/// What is left of a name that is shortened.
const LEAST_NAME: usize = 12;

impl Block {
    /// Adds a row without details.
    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(Row { cells: cells.into_iter().map(Into::into).collect(), ..Row::default() });
    }

    /// How many lines it takes.
    #[must_use]
    pub fn height(&self, screen: &Screen) -> usize {
        let block = self.folded(screen);
        let wrapped = |text: &String| wrap(text, screen.width.map(|width| width.saturating_sub(2 * INDENT))).len();
        let details: usize = block.rows.iter().flat_map(|row| &row.details).map(wrapped).sum();
        1 + block.rows.len() + details + block.notes.iter().map(wrapped).sum::<usize>()
    }

    /// The block with so many of its folding columns below their rows, the widest first, that the others fit.
    fn folded(&self, screen: &Screen) -> Cow<'_, Self> {
        let Some(width) = screen.width else { return Cow::Borrowed(self) };
        let mut widths = self.natural_widths(screen);
        let mut kept: Vec<usize> = (0..self.columns.len()).collect();
        while line_width(&widths) > width {
            let folding = (0..kept.len()).filter(|&index| self.columns[kept[index]].folds);
            let Some(widest) = folding.max_by_key(|&index| widths[index]) else { break };
            kept.remove(widest);
            widths.remove(widest);
        }
        if kept.len() == self.columns.len() {
            return Cow::Borrowed(self);
        }
        let rows = self.rows.iter().map(|row| self.fold(row, &kept)).collect();
        let columns = kept.iter().map(|&index| self.columns[index]).collect();
        Cow::Owned(Self { title: self.title.clone(), columns, rows, notes: self.notes.clone() })
    }

    /// The row with its other cells below it: "addresses: 10.0.0.5/24". Cells without anything are left out.
    fn fold(&self, row: &Row, kept: &[usize]) -> Row {
        let mut cells = Vec::new();
        let mut below = Vec::new();
        for (index, (cell, column)) in row.cells.iter().zip(&self.columns).enumerate() {
            if kept.contains(&index) {
                cells.push(cell.clone());
            } else if !matches!(cell.text.as_str(), "" | "-") {
                below.push(format!("{}: {}", column.heading.to_lowercase(), cell.text));
            }
        }
        let below = Some(below.join("; ")).filter(|below| !below.is_empty());
        Row { cells, details: below.into_iter().chain(row.details.iter().cloned()).collect(), also: String::new() }
    }

    /// Writes it as text.
    pub fn write(&self, out: &mut impl Write, screen: &Screen) -> io::Result<()> {
        let block = self.folded(screen);
        let widths = block.widths(screen);
        block.write_headings(out, screen, &widths)?;
        for row in &block.rows {
            let mut line = String::new();
            for ((cell, column), width) in row.cells.iter().zip(&block.columns).zip(&widths) {
                let text = shorten(&screen.text(&cell.text), *width, screen.ellipsis());
                let padding = " ".repeat(width.saturating_sub(measure_text_width(&text)));
                let text = screen.styled(&text, cell.tone);
                let [before, after] = if column.right { [&padding, &text] } else { [&text, &padding] };
                for part in [before, after, &" ".repeat(GAP)] {
                    line.push_str(part);
                }
            }
            writeln!(out, "{:INDENT$}{}", "", line.trim_end())?;
            for detail in &row.details {
                write_wrapped(out, screen, detail, 2 * INDENT)?;
            }
        }
        for note in &block.notes {
            write_wrapped(out, screen, note, INDENT)?;
        }
        Ok(())
    }

    fn write_headings(&self, out: &mut impl Write, screen: &Screen, widths: &[usize]) -> io::Result<()> {
        // The title stands above the first column, not indented.
        let mut line = screen.styled(&self.title, Tone::Strong);
        let mut used = measure_text_width(&self.title);
        let mut start = INDENT + widths.first().copied().unwrap_or(0) + GAP;
        for (column, width) in self.columns.iter().zip(widths).skip(1) {
            let heading = measure_text_width(column.heading);
            let at = if column.right { start + width.saturating_sub(heading) } else { start }.max(used + 1);
            line.push_str(&" ".repeat(at - used));
            line.push_str(column.heading);
            used = at + heading;
            start += width + GAP;
        }
        writeln!(out, "{}", line.trim_end())
    }

    /// How wide the columns are where nothing is shortened.
    fn natural_widths(&self, screen: &Screen) -> Vec<usize> {
        let title = measure_text_width(&self.title).saturating_sub(INDENT);
        let mut widths: Vec<usize> = self.columns.iter().map(|column| measure_text_width(column.heading)).collect();
        if let Some(first) = widths.first_mut() {
            *first = title;
        }
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(measure_text_width(&screen.text(&cell.text)));
            }
        }
        widths
    }

    /// How wide the columns are, so that a line fits the screen if it can.
    fn widths(&self, screen: &Screen) -> Vec<usize> {
        let mut widths = self.natural_widths(screen);
        let Some(screen_width) = screen.width else { return widths };
        let title = measure_text_width(&self.title).saturating_sub(INDENT);
        let least = |index: usize| if index == 0 { title.max(LEAST_NAME) } else { LEAST_NAME };
        while line_width(&widths) > screen_width {
            let shrinks = |index: &usize| self.columns[*index].shrinks && widths[*index] > least(*index);
            let Some(widest) = (0..widths.len()).filter(shrinks).max_by_key(|&index| widths[index]) else { break };
            widths[widest] -= 1;
        }
        widths
    }

    /// Writes it as a table of GitHub's markdown. What stands below a row as text is in a column of its own.
    pub fn write_markdown(&self, out: &mut impl Write, screen: &Screen) -> io::Result<()> {
        let escape = |text: &str| escape(&screen.text(text));
        let mut columns = self.columns.clone();
        if self.rows.iter().any(|row| !row.details.is_empty()) {
            columns.push(Column::words("NOTES"));
        }
        let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
        let title = |(index, column): (usize, &Column)| escape(if index == 0 { &self.title } else { column.heading });
        writeln!(out, "{}", line(columns.iter().enumerate().map(title).collect()))?;
        let rule = |column: &Column| if column.right { "---:" } else { "---" }.to_owned();
        writeln!(out, "{}", line(columns.iter().map(rule).collect()))?;
        for row in &self.rows {
            let mut cells: Vec<String> = row.cells.iter().map(|cell| escape(cell.text.trim())).collect();
            cells.resize(self.columns.len(), String::new());
            cells.push(escape(&row.details.join("; ")));
            cells.truncate(columns.len());
            writeln!(out, "{}", line(cells))?;
        }
        for text in &self.notes {
            writeln!(out, "\n{}", escape(text))?;
        }
        Ok(())
    }
}

/// Columns of a line with cells of these widths.
fn line_width(widths: &[usize]) -> usize {
    INDENT + GAP * widths.len().saturating_sub(1) + widths.iter().sum::<usize>()
}

/// Makes text safe within a table of markdown, where it may hold anything.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '|' | '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '#' | '~' | '&' | '!') {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}

/// Writes a sentence in lines that fit.
pub fn write_wrapped(out: &mut impl Write, screen: &Screen, text: &str, indent: usize) -> io::Result<()> {
    for line in wrap(&screen.text(text), screen.width.map(|width| width.saturating_sub(indent))) {
        writeln!(out, "{:indent$}{line}", "")?;
    }
    Ok(())
}

/// Writes a sentence in lines that fit, in a colour.
pub(super) fn write_styled(out: &mut impl Write, screen: &Screen, text: &str, tone: Tone) -> io::Result<()> {
    for line in wrap(&screen.text(text), screen.width) {
        writeln!(out, "{}", screen.styled(&line, tone))?;
    }
    Ok(())
}

/// Writes a sentence behind something; its further lines begin below its first.
pub(super) fn write_hanging(out: &mut impl Write, screen: &Screen, before: &str, text: &str) -> io::Result<()> {
    let before = screen.text(before);
    let indent = measure_text_width(&before);
    let mut before: &str = &before;
    for line in wrap(&screen.text(text), screen.width.map(|width| width.saturating_sub(indent))) {
        writeln!(out, "{before:indent$}{line}")?;
        before = "";
    }
    Ok(())
}

/// The text in lines of so many columns, broken at spaces; a word that is longer has a line of its own.
pub(crate) fn wrap(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width else { return vec![text.to_owned()] };
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one");
        if line.is_empty() {
            line.push_str(word);
        } else if measure_text_width(line) + 1 + measure_text_width(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// The text in so many columns: without its middle, if it is longer.
pub(crate) fn shorten(text: &str, width: usize, ellipsis: &str) -> String {
    if measure_text_width(text) <= width {
        return text.to_owned();
    }
    let keep = width.saturating_sub(measure_text_width(ellipsis));
    let (head, tail) = (keep.div_ceil(2), keep / 2);
    let take = |chars: &mut dyn Iterator<Item = char>, most: usize| {
        let mut part = String::new();
        for c in chars {
            if measure_text_width(&part) + measure_text_width(c.encode_utf8(&mut [0; 4])) > most {
                break;
            }
            part.push(c);
        }
        part
    };
    let start = take(&mut text.chars(), head);
    let end: String = take(&mut text.chars().rev(), tail).chars().rev().collect();
    format!("{start}{ellipsis}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_long_name_goes() {
        assert_eq!(shorten("default/web", 11, "…"), "default/web");
        assert_eq!(shorten("batch/image-puller-5d4f8b7c9d-x2x9z", 15, "…"), "batch/i…d-x2x9z");
        assert_eq!(shorten("batch/image-puller-5d4f8b7c9d-x2x9z", 15, "..").len(), 15);
        assert_eq!(shorten("網卡網卡網卡", 5, "…"), "網…卡");
        assert_eq!(shorten("abc", 0, "…"), "…");
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two three", Some(7)), ["one two", "three"]);
        assert_eq!(wrap("a longer-than-that b", Some(6)), ["a", "longer-than-that", "b"]);
        assert_eq!(wrap("one two", None), ["one two"]);
    }

    #[test]
    fn names_shrink_and_numbers_do_not() {
        let mut block = Block {
            title: "PODS".to_owned(),
            columns: vec![Column::name(""), Column::name("TO"), Column::number("BYTES")],
            ..Block::default()
        };
        block.row(["default/a-very-long-name-of-a-pod", "default/web", "123.4 MB"]);
        let lines = |width| {
            let mut out = Vec::new();
            block.write(&mut out, &Screen { width: Some(width), ..Screen::default() }).expect("a Vec takes everything");
            String::from_utf8(out).expect("UTF-8")
        };
        assert_eq!(
            lines(80),
            "PODS                                 TO              BYTES\n  default/a-very-long-name-of-a-pod  default/web  123.4 MB\n"
        );
        assert_eq!(lines(40), "PODS               TO              BYTES\n  default…f-a-pod  default/web  123.4 MB\n");
    }

    #[test]
    fn columns_fold_where_they_do_not_fit() {
        let columns = vec![Column::words(""), Column::folding("ADDRESSES"), Column::folding("POD ADDRESS")];
        let mut block = Block { title: "DEVICES".to_owned(), columns, ..Block::default() };
        block.row(["ens5", "10.0.0.5/24, fe80::1/64", "-"]);
        block.row(["eth0", "-", "10.0.0.21"]);
        let text = |width| {
            let screen = Screen { width: Some(width), ..Screen::default() };
            let mut out = Vec::new();
            block.write(&mut out, &screen).expect("a Vec takes everything");
            let text = String::from_utf8(out).expect("UTF-8");
            assert_eq!(text.lines().count(), block.height(&screen), "{text}");
            text
        };
        assert_eq!(
            text(50),
            "DEVICES  ADDRESSES                POD ADDRESS\n  ens5   10.0.0.5/24, fe80::1/64  -\n  eth0   -                        10.0.0.21\n"
        );
        assert_eq!(
            text(40),
            "DEVICES  POD ADDRESS\n  ens5   -\n    addresses: 10.0.0.5/24, fe80::1/64\n  eth0   10.0.0.21\n"
        );
        assert_eq!(
            text(18),
            "DEVICES\n  ens5\n    addresses:\n    10.0.0.5/24,\n    fe80::1/64\n  eth0\n    pod address:\n    10.0.0.21\n"
        );
    }

    #[test]
    fn markdown_has_what_stands_below_a_row() {
        let mut block = Block { title: "A".to_owned(), columns: vec![Column::name("")], ..Block::default() };
        block.row(["a"]);
        block.rows[0].details = vec!["pod default/web".to_owned(), "an ENI".to_owned()];
        let mut out = Vec::new();
        block.write_markdown(&mut out, &Screen::default()).expect("a Vec takes everything");
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(text, "| A | NOTES |\n| --- | --- |\n| a | pod default/web; an ENI |\n");
    }

    #[test]
    fn markdown_is_escaped() {
        let mut block = Block { title: "A".to_owned(), columns: vec![Column::name("")], ..Block::default() };
        block.row(["a|b<script>"]);
        let mut out = Vec::new();
        block.write_markdown(&mut out, &Screen::default()).expect("a Vec takes everything");
        assert_eq!(String::from_utf8(out).expect("UTF-8"), "| A |\n| --- |\n| a\\|b\\<script\\> |\n");
    }
}
