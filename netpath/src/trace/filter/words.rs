//! A filter's words as errors show them.
//!
//! In: a word and its place. Out: errors of one line, fit to print, that name what there is.

use std::fmt;

use super::FilterError;
use crate::sanitise::sanitise;

/// Characters of a word that are shown.
const SHOWN: usize = 48;
/// How many names are.
const NAMED: usize = 8;

/// A word, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Its first character in the filter, from 1 on.
    Character(usize),
    /// The value of this option.
    Option(&'static str),
}

impl Word {
    /// A word of the filter whose first character is the one after `before`.
    pub fn new(text: impl Into<String>, before: usize) -> Self {
        Self { text: text.into(), place: Place::Character(before + 1) }
    }

    pub fn of_option(option: &'static str, text: &str) -> Self {
        Self { text: text.to_owned(), place: Place::Option(option) }
    }

    /// A part of it.
    pub fn with_text(&self, text: &str) -> Self {
        Self { text: text.to_owned(), place: self.place }
    }

    /// An error about it; `why` ends with what to do.
    pub fn error(&self, why: impl fmt::Display) -> FilterError {
        FilterError(format!("{self}: {why}"))
    }

    /// An error about a word that is none of `known`; `what` is the plural for those.
    pub fn unknown(&self, why: &str, what: &str, known: impl IntoIterator<Item = impl Into<String>>) -> FilterError {
        let mut known: Vec<String> = known.into_iter().map(Into::into).collect();
        known.sort_by_cached_key(|name| (distance(&self.text, name), name.clone()));
        known.dedup();
        let Some(nearest) = known.first().map(|name| distance(&self.text, name)) else {
            return self.error(format_args!("{why}; no {what} are known here: leave it out, or give an address"));
        };
        // A typing error or two, or a part of the name.
        let meant: Vec<String> = if nearest <= self.text.chars().count().div_ceil(3).min(3) {
            known.iter().filter(|name| distance(&self.text, name) == nearest).take(3).map(|name| shown(name)).collect()
        } else {
            let is_part = self.text.len() > 2;
            known.iter().filter(|name| is_part && name.contains(&self.text)).take(3).map(|name| shown(name)).collect()
        };
        if !meant.is_empty() {
            return self.error(format_args!("{why}; did you mean {}?", meant.join(" or ")));
        }
        let more = known.len().saturating_sub(NAMED);
        let mut names: Vec<String> = known.iter().take(NAMED).map(|name| shown(name)).collect();
        if more > 0 {
            names.push(format!("and {more} more"));
        }
        self.error(format_args!("{why}; {what}: {}", names.join(", ")))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Character(at) => write!(f, "\"{}\" (character {at})", shown(&self.text)),
            Place::Option(option) => write!(f, "{option} {}", shown(&self.text)),
        }
    }
}

/// A name as it may be printed.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    sanitise(&short).into_owned()
}

/// Characters to insert, remove, replace or swap with the next one (optimal string alignment), in any case; of long names, of
/// their first characters.
fn distance(one: &str, other: &str) -> usize {
    let letters = |text: &str| text.chars().take(64).map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>();
    let (one, other) = (letters(one), letters(other));
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let cases =
            [("", "", 0), ("port", "PORT", 0), ("prot", "port", 1), ("hst", "host", 1), ("kitten", "sitting", 3)];
        for (one, other, expected) in cases {
            assert_eq!((distance(one, other), distance(other, one)), (expected, expected), "{one} {other}");
        }
    }
}
