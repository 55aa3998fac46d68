//! Numbers into other numbers that look random, one to one: the last steps of `MurmurHash3` (Austin Appleby, public domain).
//!
//! Shared, by `#[path]`, between the reference programs and the bench, so that the bench knows the flows they make.

/// The address and port of the flow `number`, as 32 bits. Different numbers give different flows.
#[inline]
#[must_use]
pub const fn spread(number: u32) -> u32 {
    let mut bits = number;
    bits ^= bits >> 16;
    bits = bits.wrapping_mul(0x85eb_ca6b);
    bits ^= bits >> 13;
    bits = bits.wrapping_mul(0xc2b2_ae35);
    bits ^ bits >> 16
}
