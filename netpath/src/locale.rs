//! What the locale can show: characters beyond ASCII only where it is UTF-8.
//!
//! In: the environment. Out: text as it may be printed. JSON is UTF-8 everywhere, and does not pass through here.

use std::borrow::Cow;
use std::env;

/// Whether this process's locale is UTF-8.
#[must_use]
pub fn is_utf8() -> bool {
    names_utf8(|name| env::var(name).ok())
}

/// The text as this process's locale can show it.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_utf8() { Cow::Borrowed(text) } else { ascii(text) }
}

/// The text in ASCII: netpath's own symbols by what looks like them, everything else written out as `\u{fc}`.
#[must_use]
pub fn ascii(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '→' => plain.push_str("->"),
            '…' => plain.push_str("..."),
            '·' => plain.push('-'),
            '×' => plain.push('x'),
            'µ' => plain.push('u'),
            c if c.is_ascii() => plain.push(c),
            c => plain.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(plain)
}

/// POSIX: the first of these variables that is set and not empty. Without any, as in a container, UTF-8 is assumed.
fn names_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locales() {
        let locale = |set: &[(&str, &str)]| {
            names_utf8(|name| set.iter().find(|(one, _)| *one == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(locale(&[]) && locale(&[("LANG", "en_US.UTF-8")]) && locale(&[("LC_ALL", ""), ("LANG", "C.utf8")]));
        assert!(!locale(&[("LANG", "C")]) && !locale(&[("LC_ALL", "POSIX"), ("LANG", "en_US.UTF-8")]));
    }

    #[test]
    fn what_is_left_is_ascii() {
        assert_eq!(ascii("a → b · c × 2, …"), "a -> b - c x 2, ...");
        assert_eq!(ascii("münchen-0"), "m\\u{fc}nchen-0");
        for c in '\0'..=char::MAX {
            assert!(ascii(&c.to_string()).is_ascii(), "{c:?}");
        }
    }
}
