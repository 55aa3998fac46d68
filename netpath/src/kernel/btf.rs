//! The running kernel's own description of its types (BTF), as far as a trace needs it: where a structure has a field, names of
//! an enumeration's values, how many arguments a tracepoint has.
//!
//! In: `/sys/kernel/btf/vmlinux`. Out: numbers and names. The format: `Documentation/bpf/btf.rst`. It must not panic, whatever
//! the file holds.

use std::collections::HashMap;
use std::io;

/// Where the kernel shows it.
const FILE: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;

/// Kinds of types (`include/uapi/linux/btf.h`).
mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// Anonymous structures within structures are followed this far.
const MOST_NESTED: u8 = 8;

/// The types of a kernel.
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Where each type begins; the first has number 1.
    types: Vec<usize>,
}

/// One type.
struct Type {
    at: usize,
    name: u32,
    kind: u32,
    vlen: usize,
    /// Offsets of members are of bits and carry a width.
    has_bitfields: bool,
    /// Of a pointer or typedef: the type's number. Of a structure: its bytes.
    other: u32,
}

impl Btf {
    /// Reads that of the running kernel.
    ///
    /// # Errors
    /// If the kernel has none (`CONFIG_DEBUG_INFO_BTF`), or it cannot be read.
    pub fn of_kernel() -> io::Result<Self> {
        Self::parse(std::fs::read(FILE)?).ok_or_else(|| io::Error::other("its format is not known"))
    }

    /// Reads one; `None` if it is damaged.
    #[must_use]
    pub fn parse(data: Vec<u8>) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize);
        if u16::from_le_bytes(data.get(..2)?.try_into().ok()?) != MAGIC || word(4)? < HEADER_BYTES {
            return None;
        }
        let header = word(4)?;
        let (begin, len) = (header.checked_add(word(8)?)?, word(12)?);
        let strings = header.checked_add(word(16)?)?;
        let end = begin.checked_add(len).filter(|end| *end <= data.len())?;
        let mut btf = Self { data, strings, types: Vec::new() };
        let mut at = begin;
        while at < end {
            let found = btf.read_type(at)?;
            btf.types.push(at);
            at = at.checked_add(12 + found.tail_bytes()?)?;
        }
        Some(btf)
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.data.get(at..at.checked_add(4)?)?.try_into().ok()?))
    }

    fn read_type(&self, at: usize) -> Option<Type> {
        let info = self.word(at + 4)?;
        Some(Type {
            at,
            name: self.word(at)?,
            kind: info >> 24 & 0x1f,
            vlen: (info & 0xffff) as usize,
            has_bitfields: info >> 31 != 0,
            other: self.word(at + 8)?,
        })
    }

    fn by_number(&self, number: u32) -> Option<Type> {
        self.read_type(*self.types.get((number as usize).checked_sub(1)?)?)
    }

    fn name(&self, offset: u32) -> Option<&str> {
        let text = self.data.get(self.strings.checked_add(offset as usize)?..)?;
        std::str::from_utf8(text.split(|byte| *byte == 0).next()?).ok()
    }

    fn named(&self, kinds: &[u32], name: &str) -> Option<Type> {
        let types = self.types.iter().filter_map(|at| self.read_type(*at));
        types.into_iter().find(|found| kinds.contains(&found.kind) && self.name(found.name) == Some(name))
    }

    /// Bytes before a field of a structure, also in anonymous structures within it.
    #[must_use]
    pub fn field_offset(&self, structure: &str, field: &str) -> Option<u32> {
        let bits = self.bits_before(&self.named(&[kind::STRUCT], structure)?, field, MOST_NESTED)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    fn bits_before(&self, structure: &Type, field: &str, nested: u8) -> Option<u32> {
        (0..structure.vlen).find_map(|index| {
            let at = structure.at + 12 + index * 12;
            let (name, number, offset) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            let offset = if structure.has_bitfields { offset & 0xff_ffff } else { offset };
            if self.name(name)? == field {
                return Some(offset);
            }
            let inner = self.by_number(number).filter(|_| name == 0 && nested > 0)?;
            let is_structure = matches!(inner.kind, kind::STRUCT | kind::UNION);
            is_structure.then(|| self.bits_before(&inner, field, nested - 1))?.and_then(|bits| bits.checked_add(offset))
        })
    }

    /// Names of an enumeration's values; none if there is no such enumeration.
    #[must_use]
    pub fn enum_names(&self, name: &str) -> HashMap<u32, String> {
        let Some(found) = self.named(&[kind::ENUM], name) else { return HashMap::new() };
        let value = |index| {
            let at = found.at + 12 + index * 8;
            Some((self.word(at + 4)?, self.name(self.word(at)?)?.to_owned()))
        };
        (0..found.vlen).filter_map(value).collect()
    }

    /// How many arguments a raw tracepoint has.
    #[must_use]
    pub fn tracepoint_arguments(&self, tracepoint: &str) -> Option<usize> {
        let pointer = self.by_number(self.named(&[kind::TYPEDEF], &format!("btf_trace_{tracepoint}"))?.other)?;
        let function = self.by_number(pointer.other).filter(|function| function.kind == kind::FUNC_PROTO)?;
        // The first one is the tracepoint's own.
        function.vlen.checked_sub(1)
    }
}

impl Type {
    /// Bytes behind the twelve that each type has.
    fn tail_bytes(&self) -> Option<usize> {
        let each = match self.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => return Some(4),
            kind::ARRAY => return Some(12),
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12,
            kind::ENUM | kind::FUNC_PROTO => 8,
            kind::PTR
            | kind::FWD
            | kind::TYPEDEF
            | kind::VOLATILE
            | kind::CONST
            | kind::RESTRICT
            | kind::FUNC
            | kind::FLOAT
            | kind::TYPE_TAG => 0,
            _ => return None,
        };
        self.vlen.checked_mul(each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_what_a_trace_needs() {
        let Ok(btf) = Btf::of_kernel() else { panic!("this kernel has no BTF: run the test where one is") };
        for field in ["head", "network_header", "protocol", "len"] {
            assert!(btf.field_offset("sk_buff", field).is_some_and(|offset| offset < 512), "{field}");
        }
        assert_eq!(btf.field_offset("sk_buff", "next"), Some(0), "in an anonymous union, the first one");
        assert_eq!(btf.field_offset("sk_buff", "no such field"), None);
        assert!(btf.tracepoint_arguments("kfree_skb").is_some_and(|arguments| arguments >= 2));
        let reasons = btf.enum_names("skb_drop_reason");
        assert!(reasons.is_empty() || reasons.values().any(|name| name == "SKB_DROP_REASON_NETFILTER_DROP"));
    }

    #[test]
    fn damaged_files_are_refused_or_read_as_far_as_they_go() {
        let whole = std::fs::read(FILE).expect("this kernel has BTF");
        let part = &whole[..whole.len().min(4096)];
        for end in 0..part.len() {
            assert!(Btf::parse(part[..end].to_vec()).is_none(), "{end}");
        }
        let mut odd = whole;
        for at in (HEADER_BYTES..odd.len()).step_by(odd.len() / 8) {
            odd[at] ^= 0xff;
            if let Some(btf) = Btf::parse(odd.clone()) {
                let _ = btf.field_offset("sk_buff", "len");
            }
            odd[at] ^= 0xff;
        }
    }
}
