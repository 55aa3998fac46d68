//! Patterns of names, with the wildcards of shells.
//!
//! In: a pattern as a user wrote it. Out: whether a name matches, or why the pattern is none, fit to print.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use glob::MatchOptions;

use crate::sanitise::sanitise;

/// Names are shorter: `namespace/name` of a pod has 317 bytes at most.
const MAX_BYTES: usize = 1024;
/// How deep braces may be nested.
const MAX_DEPTH: usize = 100;
/// Into how many patterns braces may expand.
const MAX_ALTERNATIVES: usize = 10_000;

const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// A pattern; a wildcard does not stand for `/`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    /// What the braces in it expand to.
    alternatives: Vec<glob::Pattern>,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("it is longer than {MAX_BYTES} bytes"));
        }
        let expanded = Expander { rest: text.chars().peekable(), depth: 0 }.sequence();
        let alternatives = expanded.map_err(|error| sanitise(&error).into_owned())?;
        let alternatives = alternatives.iter().map(|glob| glob::Pattern::new(glob)).collect::<Result<_, _>>();
        Ok(Self { text: text.to_owned(), alternatives: alternatives.map_err(|error| error.msg.to_owned())? })
    }

    /// Whether the name matches.
    #[must_use]
    pub fn is_match(&self, name: &str) -> bool {
        self.alternatives.iter().any(|glob| glob.matches_with(name, OPTIONS))
    }
}

/// Expands braces, and rewrites what the glob library spells otherwise: it has no `\` and no `[^…]`, and accepts any range.
struct Expander<'a> {
    rest: Peekable<Chars<'a>>,
    /// How many braces are open.
    depth: usize,
}

impl Expander<'_> {
    /// Expands up to the end, or up to the `,` or `}` that ends an alternative.
    fn sequence(&mut self) -> Result<Vec<String>, String> {
        let mut expanded = vec![String::new()];
        while let Some(next) = self.rest.next_if(|next| self.depth == 0 || !matches!(next, ',' | '}')) {
            let suffixes = match next {
                '{' => self.braces()?,
                '}' => return Err("unopened alternate group; missing '{' (maybe escape '}' with '[}]'?)".to_owned()),
                '[' => vec![self.class()?],
                '*' => vec![self.stars().to_owned()],
                '\\' => match self.rest.next().ok_or("dangling '\\'")? {
                    special @ ('*' | '?' | '[') => vec![format!("[{special}]")],
                    plain => vec![plain.to_string()],
                },
                plain => vec![plain.to_string()],
            };
            if expanded.len() * suffixes.len() > MAX_ALTERNATIVES {
                return Err(format!("its braces stand for more than {MAX_ALTERNATIVES} patterns"));
            }
            expanded = expanded.iter().flat_map(|start| suffixes.iter().map(|end| join(start, end))).collect();
        }
        Ok(expanded)
    }

    /// The alternatives after a `{`.
    fn braces(&mut self) -> Result<Vec<String>, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("its braces are nested too deep".to_owned());
        }
        let mut alternatives = Vec::new();
        loop {
            alternatives.extend(self.sequence()?);
            match self.rest.next() {
                Some(',') => {}
                Some(_) => break,
                None => {
                    return Err("unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)".to_owned());
                }
            }
        }
        self.depth -= 1;
        // An empty alternative stands for nothing.
        alternatives.retain(|alternative| !alternative.is_empty());
        Ok(if alternatives.is_empty() { vec![String::new()] } else { alternatives })
    }

    /// The character class after a `[`.
    fn class(&mut self) -> Result<String, String> {
        let mut class = "[".to_owned();
        if self.rest.next_if(|next| matches!(next, '!' | '^')).is_some() {
            class.push('!');
        }
        let mut members = Vec::new();
        loop {
            match self.rest.next().ok_or("unclosed character class; missing ']'")? {
                ']' if !members.is_empty() => break,
                member => members.push(member),
            }
        }
        let mut rest = &members[..];
        while let [first, others @ ..] = rest {
            rest = match others {
                ['-', last, ..] if first > last => return Err(format!("invalid range; '{first}' > '{last}'")),
                ['-', _, others @ ..] => others,
                _ => others,
            };
        }
        class.extend(members);
        class.push(']');
        Ok(class)
    }

    /// The wildcard that begins with a `*`.
    fn stars(&mut self) -> &'static str {
        let mut count = 1;
        while self.rest.next_if_eq(&'*').is_some() {
            count += 1;
        }
        if count == 2 { "**" } else { "*" }
    }
}

/// Concatenates. Stars on both sides, or a `**` that is not a component of its own, become one `*`.
fn join(start: &str, end: &str) -> String {
    let (before, after) = (start.trim_end_matches('*'), end.trim_start_matches('*'));
    let is_component = (before.is_empty() || before.ends_with('/')) && (after.is_empty() || after.starts_with('/'));
    let stars = match (start.len() - before.len(), end.len() - after.len()) {
        (0, 0) => "",
        (2, 0) | (0, 2) if is_component => "**",
        _ => "*",
    };
    [before, stars, after].concat()
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
    fn braces_classes_and_escapes() {
        let matches = |pattern: &str, name: &str| Pattern::new(pattern).expect(pattern).is_match(name);
        for (pattern, name) in [
            ("{a,b{c,d}}*", "bd1"),
            ("[^a]?", "bé"),
            ("[]a-]", "-"),
            (r"\*\[\{", "*[{"),
            ("**/web", "a/b/web"),
            ("x{*,y}*", "xz"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a**", "a/b"), ("[!b]", "/"), ("{a,}b", "b"), (r"\*", "a")] {
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
        for bad in ["[", "[]", "{a", "a}", "\\", &"{a,b}".repeat(20)] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }
}
