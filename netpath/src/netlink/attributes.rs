//! Attributes: what follows the fixed part of a message.
//!
//! In: bytes. Out: kinds and values, or [`Malformed`]; and attributes to send. Pure. Numbers are in the machine's byte order
//! unless the name of the method has `be` in it; `netlink-packet-core` walks the attributes.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::NlasIterator;

/// `struct nlattr`: length and kind.
const HEADER_BYTES: usize = 4;

/// A message is not as the kernel's headers describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message that netpath cannot read")]
pub struct Malformed;

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, malformed)
    }
}

/// An attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Which one, without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
    pub kind: u16,
    /// Its payload.
    pub value: &'a [u8],
}

/// Walks attributes, in order. The walk ends after the first that is [`Malformed`].
#[derive(Clone, Debug)]
pub struct Attributes<'a>(NlasIterator<&'a [u8]>);

impl<'a> Attributes<'a> {
    /// Walks these.
    #[must_use]
    pub fn new(attributes: &'a [u8]) -> Self {
        Self(NlasIterator::new(attributes))
    }

    /// Walks those behind the fixed part of a message.
    pub fn after(header_bytes: usize, body: &'a [u8]) -> Result<Self, Malformed> {
        body.get(header_bytes..).map(Self::new).ok_or(Malformed)
    }

    /// The first attribute of this kind.
    #[must_use]
    pub fn find(self, kind: u16) -> Option<Attribute<'a>> {
        self.flatten().find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.0.next()?.map_err(|_| Malformed).and_then(|found| {
            let (kind, length) = (found.kind(), usize::from(found.length()));
            let value = found.into_inner().get(HEADER_BYTES..length).ok_or(Malformed)?;
            Ok(Attribute { kind, value })
        });
        Some(found)
    }
}

impl<'a> Attribute<'a> {
    /// The value, if it has exactly this size.
    pub fn array<const N: usize>(self) -> Result<[u8; N], Malformed> {
        self.value.try_into().map_err(|_| Malformed)
    }

    /// A `u8`.
    pub fn u8(self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    /// A `u16`.
    pub fn u16(self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    /// A `u32`.
    pub fn u32(self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    /// An `s32`.
    pub fn i32(self) -> Result<i32, Malformed> {
        self.array().map(i32::from_ne_bytes)
    }

    /// A `u16` in network byte order.
    pub fn be16(self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// A `u32` in network byte order.
    pub fn be32(self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// An IPv4 or IPv6 address, by its size.
    pub fn ip(self) -> Result<IpAddr, Malformed> {
        ip(self.value).ok_or(Malformed)
    }

    /// Text up to its NUL, with U+FFFD for bytes that are not UTF-8.
    #[must_use]
    pub fn string(self) -> String {
        lossy(self.value)
    }

    /// The attributes in it.
    #[must_use]
    pub fn nested(self) -> Attributes<'a> {
        Attributes::new(self.value)
    }
}

/// The value of the first attribute of this kind.
#[must_use]
pub fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    Attributes::new(attributes).find(kind).map(|attribute| attribute.value)
}

/// An IPv4 or IPv6 address, by its size.
#[must_use]
pub fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Bytes up to the NUL, with U+FFFD for those that are not UTF-8.
#[must_use]
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(c_string(bytes)).into_owned()
}

/// Bytes up to the NUL.
#[must_use]
pub fn c_string(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// `N` bytes of a structure.
pub fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(Malformed)
}

/// A `u32` of a structure.
pub fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    field(bytes, at).map(u32::from_ne_bytes)
}

/// A `u64` of a structure.
pub fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Malformed> {
    field(bytes, at).map(u64::from_ne_bytes)
}

/// An attribute as it is sent, padded to a multiple of four bytes.
///
/// # Panics
/// If the value has more than 65,531 bytes.
#[must_use]
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER_BYTES + value.len()).expect("the value of an attribute is short");
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = [attribute(1, b"abc\0de"), attribute(0x8002, &attribute(3, &7_u32.to_ne_bytes()))].concat();
        assert_eq!(bytes[..12], [&10_u16.to_ne_bytes()[..], &1_u16.to_ne_bytes(), b"abc\0de", &[0; 2]].concat());
        let all: Vec<_> = Attributes::new(&bytes).map(|attribute| attribute.expect("whole")).collect();
        assert_eq!((all[0].kind, all[0].string().as_str()), (1, "abc"));
        assert_eq!(all[1].kind, 2, "without flags");
        let inner = all[1].nested().find(3).expect("it is there");
        assert_eq!((inner.u32(), inner.u16(), inner.u8()), (Ok(7), Err(Malformed), Err(Malformed)));
        assert_eq!(find(&bytes, 4), None);
    }

    #[test]
    fn byte_orders_and_addresses() {
        let of = |value: &'static [u8]| Attribute { kind: 1, value };
        assert_eq!((of(&[1, 2]).be16(), of(&[1, 2, 3, 4]).be32()), (Ok(0x0102), Ok(0x0102_0304)));
        assert_eq!(of(&[10, 0, 0, 1]).ip(), Ok(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(of(&[0xfd; 16]).ip(), Ok(IpAddr::from([0xfd; 16])));
        assert_eq!(of(&[10, 0, 0]).ip(), Err(Malformed));
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        let whole = attribute(1, &[7; 8]);
        for end in 1..whole.len() {
            let all: Vec<_> = Attributes::new(&whole[..end]).collect();
            assert_eq!(all, [Err(Malformed)], "{end}");
        }
        assert_eq!(Attributes::after(4, &whole[..3]).err(), Some(Malformed));
    }
}
