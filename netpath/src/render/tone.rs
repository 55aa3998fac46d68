//! Colours that mean something, and can be read on dark and on light backgrounds.
//!
//! Each has a contrast of 3 : 1 at least against black and against white (WCAG 2.1, success criterion 1.4.11).

use crate::report::PathClass;

/// What a text is, for its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As all other text.
    #[default]
    Plain,
    /// A heading, or the answer.
    Strong,
    /// It crossed an ENI.
    Eni,
    /// It stayed between pods.
    Local,
    /// It stayed between the node and its pods.
    Host,
    /// It passed through, in and out by an ENI.
    Transit,
    /// Something is wrong or was dropped.
    Bad,
    /// Something is not known, or to be looked at.
    Warning,
    /// All is as it should be.
    Good,
}

impl Tone {
    /// That of a path.
    pub const fn of(path: PathClass) -> Self {
        match path {
            PathClass::Eni => Self::Eni,
            PathClass::Local => Self::Local,
            PathClass::Host => Self::Host,
            PathClass::Transit => Self::Transit,
            PathClass::Undelivered => Self::Bad,
            PathClass::Unresolved => Self::Warning,
        }
    }

    /// The text in this colour, with ANSI's escape sequences (256 colours).
    pub fn paint(self, text: &str) -> String {
        match (self, self.colour()) {
            (Self::Plain, _) => text.to_owned(),
            (_, None) => format!("\x1b[1m{text}\x1b[0m"),
            (_, Some(colour)) => format!("\x1b[38;5;{colour}m{text}\x1b[0m"),
        }
    }

    /// Number in the 256 colours of xterm.
    pub const fn colour(self) -> Option<u8> {
        match self {
            Self::Plain | Self::Strong => None,
            Self::Eni => Some(166),
            Self::Local => Some(32),
            Self::Host => Some(97),
            Self::Transit => Some(30),
            Self::Bad => Some(161),
            Self::Warning => Some(130),
            Self::Good => Some(28),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance of a colour of xterm's cube (WCAG 2.1).
    fn luminance(colour: u8) -> f64 {
        let index = colour - 16;
        let [red, green, blue] = [index / 36, index / 6 % 6, index % 6].map(|level| {
            let value = if level == 0 { 0.0 } else { f64::from(level) * 40.0 + 55.0 } / 255.0;
            if value <= 0.03928 { value / 12.92 } else { ((value + 0.055) / 1.055_f64).powf(2.4) }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    #[test]
    fn colours_can_be_read_on_dark_and_light() {
        for tone in [Tone::Eni, Tone::Local, Tone::Host, Tone::Transit, Tone::Bad, Tone::Warning, Tone::Good] {
            let luminance = luminance(tone.colour().expect("a colour"));
            let (on_black, on_white) = ((luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05));
            assert!(on_black >= 3.0 && on_white >= 3.0, "{tone:?}: {on_black:.1} on black, {on_white:.1} on white");
        }
    }
}
