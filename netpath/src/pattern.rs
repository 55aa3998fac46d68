//! Patterns of names, with the wildcards of shells.
//!
//! In: a pattern as a user wrote it. Out: whether a name matches, or why the pattern is none, fit to print.

use std::fmt;

use globset::{ErrorKind, GlobBuilder, GlobSet};

use crate::sanitise::sanitise;

/// Names are shorter: `namespace/name` of a pod has 317 bytes at most.
const MOST_BYTES: usize = 1024;

/// A pattern; a wildcard does not stand for `/`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    // A set of one: of a pattern that is no regular expression it says so, where globset's matcher panics.
    glob: GlobSet,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("it is longer than {MOST_BYTES} bytes"));
        }
        let glob = GlobBuilder::new(text).literal_separator(true).build().and_then(|glob| GlobSet::new([glob]));
        let glob = glob.map_err(|error| match error.kind() {
            ErrorKind::Regex(_) => "its braces are nested too deep".to_owned(),
            kind => sanitise(&kind.to_string()).into_owned(),
        })?;
        Ok(Self { text: text.to_owned(), glob })
    }

    /// Whether the name matches.
    #[must_use]
    pub fn is_match(&self, name: &str) -> bool {
        self.glob.is_match(name)
    }
}

/// As it was written.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let matches = |pattern: &str, name: &str| Pattern::new(pattern).expect(pattern).is_match(name);
        for (pattern, name) in [("eth0", "eth0"), ("eth*", "eth"), ("e?h[0-9]", "eth1"), ("{a,b}/*", "b/web-0")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("eth0", "eth00"), ("*", "a/web-0"), ("*.0", "a/eth.0"), ("", "eth0")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        let nested = |depth| format!("{}a{}", "{".repeat(depth), "}".repeat(depth));
        assert!(Pattern::new(&nested(50)).is_ok_and(|pattern| pattern.is_match("a")));
        for (pattern, why) in [
            (nested(300), "its braces are nested too deep"),
            (nested(60_000), "it is longer than 1024 bytes"),
            ("[\u{1b}-\u{1}]".to_owned(), "invalid range; '\\u{1b}' > '\\u{1}'"),
        ] {
            assert_eq!(Pattern::new(&pattern).expect_err(why), why);
        }
        assert!(Pattern::new("[").is_err());
    }
}
