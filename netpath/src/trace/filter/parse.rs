//! Reads a filter: tcpdump's grammar, and netpath's own words.
//!
//! In: the text. Out: an [`Expression`], or an error that points at the word. Nothing is looked up; lengths and depths are bounded.

mod field;
mod head;

use self::head::{Head, Type};
use super::lex::{self, Kind, Token};
use super::words::Word;
use super::{Expression, FilterError, Logic, Primitive, values};

/// Characters of a filter at most.
const LONGEST: usize = 4_096;
/// Parentheses within each other at most.
const DEEPEST: usize = 32;

type Parsed<T> = Result<T, FilterError>;

/// Reads a filter. A text without words accepts every packet.
///
/// # Errors
/// At the first word that does not belong there.
pub fn parse(text: &str) -> Result<Expression, FilterError> {
    let len = text.chars().count();
    if len > LONGEST {
        return Err(FilterError(format!("the filter has {len} characters: write it with {LONGEST} at most")));
    }
    let tokens = lex::tokens(text)?;
    if tokens.is_empty() {
        return Ok(Expression(Logic::ALWAYS));
    }
    let mut parser = Parser { tokens: &tokens, next: 0, depth: 0, end: Word::new("end of the filter", len) };
    let (expression, _) = parser.expression(None)?;
    match parser.peek() {
        None => Ok(Expression(expression)),
        Some(token) if token.kind == Kind::Close => Err(token.word.error("no parenthesis is open: leave it out")),
        Some(token) => Err(misplaced(token)),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    depth: usize,
    /// What an error points at if words are missing.
    end: Word,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.next)
    }

    fn kind(&self, ahead: usize) -> Option<Kind> {
        self.tokens.get(self.next + ahead).map(|token| token.kind)
    }

    fn is_at(&self, kind: Kind) -> bool {
        self.kind(0) == Some(kind)
    }

    /// Goes on if this is next.
    fn eat(&mut self, kind: Kind) -> bool {
        let is_next = self.is_at(kind);
        self.next += usize::from(is_next);
        is_next
    }

    /// Goes on if this word is next.
    fn eat_word(&mut self, text: &str) -> bool {
        let is_next = self.peek().is_some_and(|token| token.kind == Kind::Word && token.word.text == text);
        self.next += usize::from(is_next);
        is_next
    }

    /// The next token, or an error about its absence.
    fn take(&mut self, wanted: &str) -> Parsed<&'a Token> {
        let token = self.peek().ok_or_else(|| self.end.error(format_args!("{wanted} is missing: add it")))?;
        self.next += 1;
        Ok(token)
    }

    fn open(&mut self, word: &Word) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(word.error(format_args!("at most {DEEPEST} parentheses may be within each other: use fewer")));
        }
        Ok(())
    }

    fn close(&mut self, opened: &Word) -> Parsed<()> {
        self.depth -= 1;
        match self.peek() {
            Some(token) if token.kind == Kind::Close => {
                self.next += 1;
                Ok(())
            }
            Some(token) => Err(misplaced(token)),
            None => Err(opened.error("close it with )")),
        }
    }

    /// Operands with `and` and `or` between them, which bind alike and to the left. `head` is what values belong to that have no
    /// words before them; the last operand's is returned.
    fn expression(&mut self, head: Option<Head>) -> Parsed<(Logic<Primitive>, Option<Head>)> {
        let (mut left, mut head) = self.operand(head)?;
        loop {
            if self.eat(Kind::And) {
                let (right, next) = self.operand(head)?;
                (left, head) = (Logic::all([left, right]), next);
            } else if self.eat(Kind::Or) {
                let (right, next) = self.operand(head)?;
                (left, head) = (Logic::any([left, right]), next);
            } else {
                return Ok((left, head));
            }
        }
    }

    fn operand(&mut self, head: Option<Head>) -> Parsed<(Logic<Primitive>, Option<Head>)> {
        if self.negated() {
            let (inner, head) = self.plain_operand(head)?;
            return Ok((inner.not(), head));
        }
        self.plain_operand(head)
    }

    /// Whether there is an odd number of `not`.
    fn negated(&mut self) -> bool {
        let mut negated = false;
        while self.eat(Kind::Not) {
            negated = !negated;
        }
        negated
    }

    fn plain_operand(&mut self, head: Option<Head>) -> Parsed<(Logic<Primitive>, Option<Head>)> {
        if self.is_comparison() {
            return Ok((Logic::Is(self.comparison()?), None));
        }
        let token = self.take("what a packet must have, as in host 10.0.0.21,")?;
        match token.kind {
            Kind::Open => {
                self.open(&token.word)?;
                let (inner, last) = self.expression(head)?;
                self.close(&token.word)?;
                // Values alone were in it: more of them may follow.
                Ok((inner, head.filter(|_| last == head)))
            }
            Kind::Word if token.word.text == "less" || token.word.text == "greater" || token.word.text == "seq" => {
                Ok((Logic::Is(self.measure(&token.word)?), None))
            }
            Kind::Word if head::is_word(&token.word.text) => self.headed(&token.word),
            Kind::Word | Kind::Escaped => {
                let Some(head) = head else { return Err(misplaced(token)) };
                Ok((Logic::Is(self.value(head, &token.word)?), Some(head)))
            }
            _ => Err(misplaced(token)),
        }
    }

    /// What begins with a word such as `tcp`, `src` or `host`.
    fn headed(&mut self, first: &Word) -> Parsed<(Logic<Primitive>, Option<Head>)> {
        let head = match self.head(first)? {
            Ok(head) => head,
            Err(protocol) => return Ok((Logic::Is(protocol), None)),
        };
        Ok((self.values(head)?, Some(head)))
    }

    /// The value behind a head: one, or several in parentheses.
    fn values(&mut self, head: Head) -> Parsed<Logic<Primitive>> {
        if self.negated() {
            return Ok(self.values_within(head)?.not());
        }
        self.values_within(head)
    }

    fn values_within(&mut self, head: Head) -> Parsed<Logic<Primitive>> {
        let token = self.take(head.wants())?;
        match token.kind {
            Kind::Open => {
                self.open(&token.word)?;
                let mut left = self.values(head)?;
                loop {
                    if self.eat(Kind::And) {
                        left = Logic::all([left, self.values(head)?]);
                    } else if self.eat(Kind::Or) {
                        left = Logic::any([left, self.values(head)?]);
                    } else {
                        self.close(&token.word)?;
                        return Ok(left);
                    }
                }
            }
            Kind::Escaped => Ok(Logic::Is(self.value(head, &token.word)?)),
            // A device, say, may be called as a word of the language.
            Kind::Word if head.is_name() || !head::is_word(&token.word.text) => {
                Ok(Logic::Is(self.value(head, &token.word)?))
            }
            _ => Err(token.word.error(format_args!("{} belongs before it: add it", head.wants()))),
        }
    }

    /// The primitive of a value.
    fn value(&mut self, head: Head, word: &Word) -> Parsed<Primitive> {
        if head.kind == Type::Net && self.eat_word("mask") {
            let mask = self.take("a mask")?;
            return values::masked(word, &mask.word, head.family()).map(|net| Primitive::Net(head.end, net));
        }
        head.value(word)
    }
}

/// An error about a token that cannot stand where it does.
fn misplaced(token: &Token) -> FilterError {
    let word = &token.word;
    let is_word = matches!(token.kind, Kind::Word);
    if let Some(why) = head::elsewhere(&word.text).filter(|_| is_word) {
        return word.error(why);
    }
    if matches!(token.kind, Kind::Word | Kind::Escaped) && head::is_value(&word.text) {
        let advice = "a word such as host, net, port or pod belongs before it: add it, or the word that joins them";
        return word.error(advice);
    }
    if is_word && !head::is_word(&word.text) {
        return word.unknown("no word of the filter", "words", head::words());
    }
    word.error("it cannot stand here: join conditions with and, or; write not before a condition")
}
