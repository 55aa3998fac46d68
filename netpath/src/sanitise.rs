//! Makes text that came from elsewhere (device names, pod names) safe to print.
//!
//! In: any string. Out: the same string without anything that a terminal obeys or that hides what is written. Every
//! renderer for people sends foreign text through here. It must not shorten or translate.

use std::borrow::Cow;

/// Writes control, direction and invisible characters as `\u{1b}`; leaves everything else as it is.
///
/// The kernel accepts nearly every byte in a device's name, the escape character included.
#[must_use]
pub fn sanitise(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) { safe.extend(c.escape_unicode()) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

/// C0, DEL and C1 controls; line separators; characters that turn the direction of writing or cannot be seen (Unicode's
/// `Default_Ignorable_Code_Point`, and the blank of Braille); code points that are no characters.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        || u32::from(c) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_not_copied() {
        for text in ["eth0", "", "eni1a2b3c4d5e6", "vlan.eth.1", "münchen-0", "網卡", "a\\b", "\u{fffd}"] {
            assert!(matches!(sanitise(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn controls_are_written_out() {
        assert_eq!(sanitise("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(sanitise("\r\n\t\0"), "\\u{d}\\u{a}\\u{9}\\u{0}");
        assert_eq!(sanitise("\u{7f}"), "\\u{7f}");
        assert_eq!(sanitise("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(sanitise("eth\u{202e}0"), "eth\\u{202e}0");
        assert_eq!(sanitise("\u{2066}\u{200d}\u{feff}"), "\\u{2066}\\u{200d}\\u{feff}");
        assert_eq!(sanitise("\u{3164}\u{2800}"), "\\u{3164}\\u{2800}");
        assert_eq!(sanitise("\u{ffff}\u{1fffe}"), "\\u{ffff}\\u{1fffe}");
    }

    #[test]
    fn nothing_unsafe_is_left() {
        for c in '\0'..=char::MAX {
            let text = c.to_string();
            assert!(!sanitise(&text).contains(is_unsafe), "{c:?}");
            assert!(is_unsafe(c) || sanitise(&text) == text, "{c:?}");
        }
    }
}
