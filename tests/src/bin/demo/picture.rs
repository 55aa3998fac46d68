//! A terminal's screen as a picture: SVG, with the colours that its escape sequences name (ECMA-48, SGR).

use std::fmt::Write as _;

const LINE_HEIGHT: usize = 18;
const COLUMN_WIDTH: f64 = 8.43;
const MARGIN: usize = 14;

/// How a character looks.
#[derive(Clone, Default, PartialEq)]
struct Look {
    colour: Option<u8>,
    bold: bool,
    faint: bool,
    reversed: bool,
}

impl Look {
    /// After `ESC [ codes m`.
    fn apply(&mut self, codes: &str) {
        let numbers: Vec<u8> = codes.split(';').map(|code| code.parse().unwrap_or(0)).collect();
        match numbers[..] {
            [38, 5, colour] => self.colour = Some(colour),
            _ => numbers.iter().for_each(|code| match code {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.faint = true,
                7 => self.reversed = true,
                22 => (self.bold, self.faint) = (false, false),
                27 => self.reversed = false,
                39 => self.colour = None,
                _ => {}
            }),
        }
    }

    /// As attributes of SVG; the background of a reversed one is drawn apart.
    fn attributes(&self) -> String {
        let colour = self.colour.map_or_else(|| "currentColor".to_owned(), rgb);
        let weight = if self.bold { " font-weight=\"bold\"" } else { "" };
        let opacity = if self.faint { " opacity=\"0.6\"" } else { "" };
        format!("fill=\"{colour}\"{weight}{opacity}")
    }
}

/// A colour of xterm's cube.
fn rgb(colour: u8) -> String {
    let index = colour.saturating_sub(16);
    let level = |level: u8| if level == 0 { 0 } else { 55 + 40 * level };
    format!("#{:02x}{:02x}{:02x}", level(index / 36), level(index / 6 % 6), level(index % 6))
}

/// The screen, as tmux captures it with its escape sequences.
pub fn svg(screen: &str, title: &str) -> String {
    let lines: Vec<Vec<(String, Look)>> = screen.trim_end().lines().map(runs).collect();
    let columns = lines.iter().map(|line| line.iter().map(|(text, _)| text.chars().count()).sum()).max().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "columns of a screen are few")]
    let at = |column: usize| (column as f64 * COLUMN_WIDTH * 10.0).round() / 10.0 + MARGIN as f64;
    let (width, height) = (at(columns) + 14.0, lines.len() * LINE_HEIGHT + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height}\" width=\"{width:.0}\" role=\"img\" \
         font-family=\"ui-monospace,Menlo,Consolas,monospace\" font-size=\"14\" color=\"#24292f\">\n\
         <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#f6f8fa\"/>\n"
    );
    for (number, line) in lines.iter().enumerate() {
        let y = MARGIN + (number + 1) * LINE_HEIGHT - 5;
        let mut column = 0;
        for (text, look) in line {
            let count = text.chars().count();
            let (x, length) = (at(column), at(count) - at(0));
            column += count;
            if look.reversed {
                let top = y + 5 - LINE_HEIGHT;
                // A write to a string cannot fail.
                let _ = writeln!(
                    svg,
                    "<rect x=\"{x}\" y=\"{top}\" width=\"{length:.1}\" height=\"{LINE_HEIGHT}\" fill=\"#d0d7de\"/>"
                );
            }
            if !text.trim().is_empty() {
                let _ = writeln!(
                    svg,
                    "<text x=\"{x}\" y=\"{y}\" textLength=\"{length:.1}\" xml:space=\"preserve\" {}>{}</text>",
                    look.attributes(),
                    text.replace('&', "&amp;").replace('<', "&lt;")
                );
            }
        }
    }
    svg + "</svg>\n"
}

/// Parts of a line that look the same.
fn runs(line: &str) -> Vec<(String, Look)> {
    let (mut runs, mut look): (Vec<(String, Look)>, _) = (Vec::new(), Look::default());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if let Some((codes, behind)) = rest.strip_prefix("\x1b[").and_then(|sequence| sequence.split_once('m')) {
            look.apply(codes);
            rest = behind;
            continue;
        }
        match runs.last_mut() {
            Some((text, last)) if *last == look => text.push(c),
            _ => runs.push((c.to_string(), look.clone())),
        }
        rest = &rest[c.len_utf8()..];
    }
    runs
}
