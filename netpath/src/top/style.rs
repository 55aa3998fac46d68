//! How text looks on the screen: colours only where the terminal has them, and none that need a dark background.

use ratatui::style::{Color, Modifier, Style};

use crate::render::block::Screen;
use crate::render::tone::Tone;

/// The style of a tone. Without colours, what is wrong is bold.
#[must_use]
pub fn of(tone: Tone, screen: &Screen) -> Style {
    let style = match tone {
        Tone::Strong | Tone::Bad => Style::new().add_modifier(Modifier::BOLD),
        _ => Style::new(),
    };
    tone.colour().filter(|_| screen.colour).map_or(style, |colour| style.fg(Color::Indexed(colour)))
}

/// What is of less interest.
#[must_use]
pub fn faint() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

/// What is selected, in every terminal.
#[must_use]
pub fn selected() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}
