//! Splits a filter into words and signs.
//!
//! In: the text. Out: tokens, each with its place.

use super::FilterError;
use super::words::Word;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A word of the language, a value, a number.
    Word,
    /// A word behind a backslash: a value, whatever it looks like.
    Escaped,
    /// What is between brackets.
    Index,
    Open,
    Close,
    Not,
    And,
    Or,
    BitAnd,
    BitOr,
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    /// The word, or the sign, without backslash or brackets.
    pub word: Word,
}

const SIGNS: [(&str, Kind); 14] = [
    ("&&", Kind::And),
    ("||", Kind::Or),
    ("!=", Kind::Unequal),
    ("==", Kind::Equal),
    ("<=", Kind::AtMost),
    (">=", Kind::AtLeast),
    ("<", Kind::Less),
    (">", Kind::Greater),
    ("=", Kind::Equal),
    ("!", Kind::Not),
    ("&", Kind::BitAnd),
    ("|", Kind::BitOr),
    ("(", Kind::Open),
    (")", Kind::Close),
];

fn ends_word(c: char) -> bool {
    c.is_whitespace() || "()!&|<>=[]\\".contains(c)
}

/// All tokens of a text.
pub fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    // In characters, as people count.
    let mut at = text.chars().count() - rest.chars().count();
    while !rest.is_empty() {
        let sign = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign));
        let (kind, word, len) = if let Some((sign, kind)) = sign {
            (*kind, *sign, sign.len())
        } else if let Some(inner) = rest.strip_prefix('[') {
            let end = inner.find(']').ok_or_else(|| Word::new("[", at).error("close it with ]"))?;
            (Kind::Index, &inner[..end], end + 2)
        } else {
            let escaped = rest.strip_prefix('\\');
            let word = escaped.unwrap_or(rest);
            let word = &word[..word.find(ends_word).unwrap_or(word.len())];
            if word.is_empty() {
                return Err(Word::new(&rest[..1], at).error("there is no word with it: leave it out"));
            }
            let kind = match word {
                _ if escaped.is_some() => Kind::Escaped,
                "and" => Kind::And,
                "or" => Kind::Or,
                "not" => Kind::Not,
                _ => Kind::Word,
            };
            (kind, word, word.len() + usize::from(escaped.is_some()))
        };
        tokens.push(Token { kind, word: Word::new(word, at) });
        let next = rest[len..].trim_start();
        at += rest.chars().count() - next.chars().count();
        rest = next;
    }
    Ok(tokens)
}
