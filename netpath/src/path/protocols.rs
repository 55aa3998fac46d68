//! Names of protocols, as the report has them and as a user writes them.
//!
//! In: numbers or names. Out: IANA's keyword in lower case for the protocols that a node is likely to see, the number for all
//! others.

use std::borrow::Cow;

const KNOWN: [(u8, &str); 15] = [
    (1, "icmp"),
    (2, "igmp"),
    (4, "ipip"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (41, "ipv6"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "icmpv6"),
    (89, "ospf"),
    (112, "vrrp"),
    (132, "sctp"),
    (136, "udplite"),
];

/// The report's name of a protocol.
#[must_use]
pub fn name(number: u8) -> Cow<'static, str> {
    let known = KNOWN.into_iter().find(|(known, _)| *known == number);
    known.map_or_else(|| number.to_string().into(), |(_, name)| name.into())
}

/// The report's name of the protocol that a user means: by a known name in any case, or by its number.
#[must_use]
pub fn named(text: &str) -> Option<Cow<'static, str>> {
    number(text).map(name)
}

/// The number of the protocol that a user means, likewise.
#[must_use]
pub fn number(text: &str) -> Option<u8> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let text = text.to_ascii_lowercase();
    // As /etc/protocols and tcpdump have it.
    let text = if matches!(&*text, "ipv6-icmp" | "icmp6") { "icmpv6" } else { &text };
    KNOWN.into_iter().find(|(_, known)| *known == text).map(|(number, _)| number)
}

/// All names that are known: "icmp, igmp, …".
#[must_use]
pub fn known() -> String {
    KNOWN.map(|(_, name)| name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `tcpdump` and `/etc/protocols` name them.
    #[test]
    fn names_and_numbers() {
        assert_eq!([1, 6, 58, 253].map(name), ["icmp", "tcp", "icmpv6", "253"]);
        for (number, known) in KNOWN {
            assert_eq!((&*name(number), named(known).as_deref()), (known, Some(known)));
        }
        for (text, expected) in [("TCP", "tcp"), ("17", "udp"), ("253", "253"), ("ipv6-icmp", "icmpv6")] {
            assert_eq!(named(text).as_deref(), Some(expected), "{text}");
        }
        for bad in ["", "tpc", "256", "-1", "+6", "all"] {
            assert_eq!(named(bad), None, "{bad}");
        }
    }
}
