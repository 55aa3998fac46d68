//! Fields that are compared with numbers: `tcp[tcpflags] & (tcp-syn|tcp-ack) != 0`.
//!
//! In: the tokens. Out: a primitive.

use super::super::lex::{Kind, Token};
use super::super::words::Word;
use super::super::{Field, Primitive, values};
use super::{Parsed, Parser};

/// What stands for a number (pcap-filter(7)).
const NUMBERS: [(&str, u32); 38] = [
    ("tcp-fin", 0x01),
    ("tcp-syn", 0x02),
    ("tcp-rst", 0x04),
    ("tcp-push", 0x08),
    ("tcp-ack", 0x10),
    ("tcp-urg", 0x20),
    ("tcp-ece", 0x40),
    ("tcp-cwr", 0x80),
    ("icmp-echoreply", 0),
    ("icmp-unreach", 3),
    ("icmp-sourcequench", 4),
    ("icmp-redirect", 5),
    ("icmp-echo", 8),
    ("icmp-routeradvert", 9),
    ("icmp-routersolicit", 10),
    ("icmp-timxceed", 11),
    ("icmp-paramprob", 12),
    ("icmp-tstamp", 13),
    ("icmp-tstampreply", 14),
    ("icmp-ireq", 15),
    ("icmp-ireqreply", 16),
    ("icmp-maskreq", 17),
    ("icmp-maskreply", 18),
    ("icmp6-destinationunreach", 1),
    ("icmp6-packettoobig", 2),
    ("icmp6-timeexceeded", 3),
    ("icmp6-parameterproblem", 4),
    ("icmp6-echo", 128),
    ("icmp6-echoreply", 129),
    ("icmp6-multicastlistenerquery", 130),
    ("icmp6-multicastlistenerreportv1", 131),
    ("icmp6-multicastlistenerdone", 132),
    ("icmp6-routersolicit", 133),
    ("icmp6-routeradvert", 134),
    ("icmp6-neighborsolicit", 135),
    ("icmp6-neighboradvert", 136),
    ("icmp6-redirect", 137),
    ("icmp6-multicastlistenerreportv2", 143),
];

const INDICES: [(&str, u32); 3] = [("tcpflags", 13), ("icmptype", 0), ("icmp6type", 0)];

/// One side of a comparison.
#[derive(Clone, Copy, Debug)]
enum Side {
    Number(u32),
    Field(Field, u32),
}

fn is_sign(kind: Kind) -> bool {
    use Kind::{AtLeast, AtMost, BitAnd, BitOr, Equal, Greater, Less, Unequal};
    matches!(kind, BitAnd | BitOr | Equal | Unequal | Less | AtMost | Greater | AtLeast)
}

impl Parser<'_> {
    /// Whether what is next is compared, and no condition.
    pub(super) fn is_comparison(&self) -> bool {
        let behind = match self.kind(0) {
            Some(Kind::Word) => 1,
            Some(Kind::Open) => {
                let mut depth = 0_usize;
                let inner = self.tokens[self.next..].iter().position(|token| {
                    depth = match token.kind {
                        Kind::Open => depth + 1,
                        Kind::Close => depth - 1,
                        _ => depth,
                    };
                    depth == 0
                });
                let Some(close) = inner else { return false };
                close + 1
            }
            _ => return false,
        };
        self.kind(behind).is_some_and(|kind| is_sign(kind) || behind == 1 && kind == Kind::Index)
    }

    /// A field, a sign and a number, or the other way round.
    pub(super) fn comparison(&mut self) -> Parsed<Primitive> {
        let left = self.side()?;
        let sign = self.take("a comparison, as in != 0,")?;
        let right = self.side()?;
        let (kind, field, mask, number) = match (left, right) {
            (Side::Field(field, mask), Side::Number(number)) => (sign.kind, field, mask, number),
            (Side::Number(number), Side::Field(field, mask)) => (flipped(sign.kind), field, mask, number),
            _ => return Err(sign.word.error("compare a field with a number, as in tcp[tcpflags] == tcp-syn")),
        };
        // From 1 to 0: none.
        let (low, high) = match kind {
            Kind::Equal | Kind::Unequal => (number, number),
            Kind::Less => number.checked_sub(1).map_or((1, 0), |high| (0, high)),
            Kind::AtMost => (0, number),
            Kind::Greater => number.checked_add(1).map_or((1, 0), |low| (low, u32::MAX)),
            Kind::AtLeast => (number, u32::MAX),
            _ => return Err(sign.word.error("compare with ==, !=, <, <=, > or >=")),
        };
        Ok(Primitive::Field { field, mask, low, high, inverted: kind == Kind::Unequal })
    }

    /// `less N`, `greater N`, `seq N`.
    pub(super) fn measure(&mut self, word: &Word) -> Parsed<Primitive> {
        let token = self.take("a number")?;
        let number = number(token)?;
        let (low, high) = match word.text.as_str() {
            "less" => (0, number),
            "greater" => (number, u32::MAX),
            _ => return Ok(Primitive::Sequence(number)),
        };
        Ok(Primitive::Field { field: Field::Length, mask: u32::MAX, low, high, inverted: false })
    }

    fn side(&mut self) -> Parsed<Side> {
        let mut left = self.part()?;
        while let Some(sign) = self.peek().filter(|token| matches!(token.kind, Kind::BitAnd | Kind::BitOr)) {
            self.next += 1;
            let right = self.part()?;
            left = match (left, sign.kind, right) {
                (Side::Number(one), Kind::BitAnd, Side::Number(other)) => Side::Number(one & other),
                (Side::Number(one), _, Side::Number(other)) => Side::Number(one | other),
                (Side::Field(field, mask), Kind::BitAnd, Side::Number(number))
                | (Side::Number(number), Kind::BitAnd, Side::Field(field, mask)) => Side::Field(field, mask & number),
                (_, Kind::BitAnd, _) => return Err(sign.word.error("one of both must be a number: write it so")),
                _ => {
                    let advice = "of a field, only & is known: write flags in parentheses, as in (tcp-syn|tcp-ack)";
                    return Err(sign.word.error(advice));
                }
            };
        }
        Ok(left)
    }

    fn part(&mut self) -> Parsed<Side> {
        let token = self.take("a number")?;
        if token.kind == Kind::Open {
            self.open(&token.word)?;
            let inner = self.side()?;
            self.close(&token.word)?;
            return Ok(inner);
        }
        if token.kind == Kind::Word && token.word.text == "len" {
            return Ok(Side::Field(Field::Length, u32::MAX));
        }
        match self.peek().filter(|next| next.kind == Kind::Index) {
            Some(index) => {
                self.next += 1;
                Ok(Side::Field(field(&token.word, &index.word)?, u32::MAX))
            }
            None => number(token).map(Side::Number),
        }
    }
}

fn flipped(kind: Kind) -> Kind {
    match kind {
        Kind::Less => Kind::Greater,
        Kind::AtMost => Kind::AtLeast,
        Kind::Greater => Kind::Less,
        Kind::AtLeast => Kind::AtMost,
        same => same,
    }
}

/// `tcp` and `13`, `tcpflags`, `13:1`.
fn field(protocol: &Word, index: &Word) -> Parsed<Field> {
    let (offset, size) = index.text.split_once(':').unwrap_or((&index.text, "1"));
    let offset = INDICES
        .into_iter()
        .find(|(name, _)| *name == offset.trim())
        .map(|(_, offset)| offset)
        .or_else(|| values::digits(offset.trim()));
    match (protocol.text.as_str(), offset, size.trim()) {
        ("tcp", Some(13), "1") => Ok(Field::TcpFlags),
        ("tcp", Some(4), "4") => Ok(Field::TcpSequence),
        ("icmp", Some(0), "1") => Ok(Field::IcmpType),
        ("icmp6", Some(0), "1") => Ok(Field::Icmp6Type),
        _ => {
            let there = "the fields are tcp[tcpflags], tcp[4:4], icmp[icmptype], icmp6[icmp6type]: use one of them";
            Err(index.error(format_args!("not kept of a packet; {there}")))
        }
    }
}

fn number(token: &Token) -> Parsed<u32> {
    let word = &token.word;
    if !matches!(token.kind, Kind::Word | Kind::Escaped) {
        return Err(word.error("a number belongs here: add it"));
    }
    if let Some((_, number)) = NUMBERS.into_iter().find(|(name, _)| *name == word.text) {
        return Ok(number);
    }
    if word.text.starts_with(|c: char| c.is_ascii_digit()) {
        return values::digits(&word.text)
            .ok_or_else(|| word.error("give a number up to 4294967295, without leading zeros, or as 0x10"));
    }
    Err(word.unknown("no number", "names of numbers", NUMBERS.map(|(name, _)| name)))
}
