//! The expressions of a rule: what it reads, compares and does, in order.
//!
//! In: a rule's attributes. Out: [`Expression`]s. Pure. Constants are those of `linux/netfilter/nf_tables.h`.

use super::RULE_EXPRESSIONS;
use crate::netlink::Attributes;
use crate::netlink::attributes::{c_string, find};

// NFTA_EXPR_*, NFTA_LIST_ELEM
const NAME: usize = 1;
const DATA: usize = 2;
// NFTA_DATA_*, NFTA_VERDICT_*
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
/// `NFT_BITWISE_MASK_XOR`, `NFT_BITWISE_BOOL` before Linux 5.6.
const MASK_XOR: u32 = 0;

/// Where a packet's bytes are counted from (`NFT_PAYLOAD_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The Ethernet header.
    Link,
    /// The IPv4 or IPv6 header.
    Network,
    /// The header of TCP, UDP and the like.
    Transport,
}

/// Bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The header that they are in.
    pub header: Header,
    /// Bytes from its beginning.
    pub offset: u32,
    /// How many.
    pub length: u32,
}

/// An expression. Registers have the numbers of `NFT_REG_*` and `NFT_REG32_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the fields explain them")]
pub enum Expression<'a> {
    /// Puts what the kernel knows of a packet (`NFT_META_*`) into a register.
    Meta { key: u32, into: u32 },
    /// Puts bytes of the packet into a register.
    Read { field: Field, into: u32 },
    /// Puts a register into the packet.
    Write { field: Field },
    /// Masks a register (`from & mask ^ xor`).
    Mask { from: u32, into: u32, mask: &'a [u8], xor: &'a [u8] },
    /// Goes on if a register begins with `value` (`equal`), or compares otherwise with it.
    Compare { from: u32, equal: bool, value: &'a [u8] },
    /// Goes on if an extension of iptables matches (`xt_match`).
    Match { name: &'a str, info: &'a [u8] },
    /// Does what a target of iptables does (`xt_target`).
    Target { name: &'a str },
    /// Ends the rule with this verdict (`NF_*`, `NFT_*`).
    Verdict(i32),
    /// Applies a named object of this type (`NFT_OBJECT_*`).
    Object(u32),
    /// Hands packets of one family to a socket; 0 is any (`NFPROTO_*`).
    Tproxy { family: u32 },
    /// Any other, by its name.
    Other(&'a str),
}

/// The expressions of the rule that has these attributes.
pub fn expressions(rule: &[u8]) -> impl Iterator<Item = Expression<'_>> {
    Attributes::new(find(rule, RULE_EXPRESSIONS).unwrap_or_default()).flatten().map(|expression| {
        let values = values(expression.value);
        let name = values[NAME].and_then(text).unwrap_or_default();
        let data = values[DATA].unwrap_or_default();
        read(name, data).unwrap_or(Expression::Other(name))
    })
}

fn read<'a>(name: &'a str, data: &'a [u8]) -> Option<Expression<'a>> {
    // What each attribute is depends on the expression: NFTA_META_*, NFTA_PAYLOAD_*, ….
    let values = values(data);
    let number = |kind: usize| number(values[kind]?);
    Some(match name {
        // One with a source register, 3, sets what the kernel knows.
        "meta" => Expression::Meta { into: number(1)?, key: number(2)? },
        "payload" => {
            let header = match number(2)? {
                0 => Header::Link,
                1 => Header::Network,
                2 => Header::Transport,
                _ => return None,
            };
            let field = Field { header, offset: number(3)?, length: number(4)? };
            match number(1) {
                Some(into) => Expression::Read { field, into },
                None => number(5).map(|_| Expression::Write { field })?,
            }
        }
        "bitwise" if number(6).is_none_or(|operation| operation == MASK_XOR) => Expression::Mask {
            from: number(1)?,
            into: number(2)?,
            mask: find(values[4]?, DATA_VALUE)?,
            xor: find(values[5]?, DATA_VALUE)?,
        },
        "cmp" => Expression::Compare { from: number(1)?, equal: number(2)? == 0, value: find(values[3]?, DATA_VALUE)? },
        "match" => Expression::Match { name: text(values[1]?)?, info: values[3]? },
        "target" => Expression::Target { name: text(values[1]?)? },
        "immediate" => {
            let code = find(find(values[2]?, DATA_VERDICT)?, VERDICT_CODE)?;
            Expression::Verdict(self::number(code)?.cast_signed())
        }
        "objref" => Expression::Object(number(1)?),
        "tproxy" => Expression::Tproxy { family: number(1)? },
        _ => return None,
    })
}

/// The values of the attributes 1 to 6.
fn values(attributes: &[u8]) -> [Option<&[u8]>; 7] {
    let mut values = [None; 7];
    for attribute in Attributes::new(attributes).flatten() {
        if let Some(value @ None) = values.get_mut(usize::from(attribute.kind)) {
            *value = Some(attribute.value);
        }
    }
    values
}

/// A number, which nftables has in network byte order.
fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// Text up to its NUL, unless it is not UTF-8.
#[must_use]
pub fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(c_string(bytes)).ok()
}
