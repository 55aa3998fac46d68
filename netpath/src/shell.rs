//! Words for a POSIX shell, so that a command with a foreign name in it can be pasted.
//!
//! In: a name from elsewhere. Out: what a shell reads as this name, and as nothing else.

use std::borrow::Cow;

use crate::sanitise::is_unsafe;

/// The text as one word. `None` if it cannot be printed as it is, and so cannot be pasted.
#[must_use]
pub fn word(text: &str) -> Option<Cow<'_, str>> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/@%+".contains(c);
    if text.contains(is_unsafe) {
        None
    } else if !text.is_empty() && text.chars().all(is_plain) {
        Some(Cow::Borrowed(text))
    } else {
        Some(Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_the_name() {
        for name in [
            "v;id>q#$(id)",
            "`id`",
            "a b",
            "it's",
            "''",
            "~",
            "*",
            "a\\b",
            "{1,2}",
            "münchen",
            "$HOME",
            "!!",
            "a=b",
            "-n",
        ] {
            let word = word(name).expect("printable");
            let output = Command::new("sh").args(["-c", &format!("printf %s {word}")]).output().expect("sh");
            // An option of printf would be one.
            if name != "-n" {
                assert_eq!(String::from_utf8_lossy(&output.stdout), name, "{word}");
            }
        }
        assert_eq!(word("").as_deref(), Some("''"));
    }

    #[test]
    fn names_that_need_nothing_stay() {
        for name in ["eth0", "eni1a2b3c", "eth0.100", "veth-1_a", "10.0.0.5/24", "fd00::1", "if@2"] {
            assert!(matches!(word(name), Some(Cow::Borrowed(same)) if same == name), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_typed() {
        for name in ["\n", "a\u{1b}[2J", "eth\u{202e}0", "\u{3164}"] {
            assert_eq!(word(name), None, "{name:?}");
        }
    }
}
