//! Makes text from elsewhere safe to print.

use std::borrow::Cow;

/// Replaces every character that could steer a terminal or hide others: controls, and the ones that change direction.
pub fn sanitise(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if text.contains(steers) { Cow::Owned(text.replace(steers, "\u{fffd}")) } else { Cow::Borrowed(text) }
}
