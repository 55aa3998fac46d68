//! The forms of what EC2 calls things. In: text from elsewhere. Out: that text if it has the form, and nothing else, so
//! that no other text can get into a report as an id.

/// An ENI's id: `eni-` and 8 or 17 lower-case hex digits, of which this asks no more than a sensible number.
pub fn eni_id(text: &str) -> Option<String> {
    id(text, "eni-")
}

/// An instance's id, `i-` and hex digits.
pub fn instance_id(text: &str) -> Option<String> {
    id(text, "i-")
}

/// An availability zone's id: `use1-az1`.
pub fn zone_id(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    ((1..=32).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

fn id(text: &str, prefix: &str) -> Option<String> {
    let digits = text.strip_prefix(prefix)?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    ((8..=32).contains(&digits.len()) && digits.bytes().all(hex)).then(|| text.to_owned())
}

/// A hardware address, `02:00:00:00:ab:01` in either case; written in lower case.
pub fn mac(text: &str) -> Option<String> {
    let mut parts = text.split(':');
    let six =
        parts.by_ref().take(6).filter(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok()).count() == 6;
    // from_str_radix takes "+1".
    (six && parts.next().is_none() && !text.contains('+')).then(|| text.to_ascii_lowercase())
}

/// `device-number-1`, or `device-number-1.2` with a network card (amazon-ec2-net-utils, lib.sh, `add_altnames`).
pub fn device_number(altname: &str) -> Option<(u32, Option<u32>)> {
    let text = altname.strip_prefix("device-number-")?;
    match text.split_once('.') {
        None => Some((number(text)?, None)),
        Some((device, card)) => Some((number(device)?, Some(number(card)?))),
    }
}

/// An address with the length of its prefix (`10.0.0.16/28`), and how many addresses that is.
pub fn prefix(text: &str) -> Option<(std::net::IpAddr, u128)> {
    let (address, length) = text.split_once('/')?;
    let address: std::net::IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = number(length).filter(|length| *length <= bits)?;
    Some((address, 1_u128.checked_shl(bits - length).unwrap_or(u128::MAX)))
}

/// Digits alone: Rust's own reading takes a "+" before them.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for good in ["eni-1a2b3c4d", "eni-0123456789abcdef0"] {
            assert_eq!(eni_id(good).as_deref(), Some(good));
        }
        let long = format!("eni-{}", "0".repeat(33));
        for bad in [
            "eni-",
            "eni-1A2B3C4D",
            "eni-1a2b3c4",
            "eni1a2b3c4d5e6",
            "eni-1a2b3c4d\u{1b}[2J",
            " eni-1a2b3c4d",
            "i-1a2b3c4d",
            "eni-1a2b3c4d\n",
            &long,
        ] {
            assert_eq!(eni_id(bad), None, "{bad:?}");
        }
        assert_eq!(instance_id("i-0abc0abc0abc0abc0").as_deref(), Some("i-0abc0abc0abc0abc0"));
        assert_eq!(instance_id("<html>"), None);
    }

    #[test]
    fn macs() {
        assert_eq!(mac("02:00:00:00:AB:01").as_deref(), Some("02:00:00:00:ab:01"));
        for bad in [
            "",
            "02:00:00:00:ab",
            "02:00:00:00:ab:01:02",
            "2:0:0:0:0:1",
            "02:00:00:00:ab:+1",
            "02-00-00-00-ab-01",
            "02:00:00:00:ab:0g",
        ] {
            assert_eq!(mac(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn device_numbers() {
        assert_eq!(device_number("device-number-0"), Some((0, None)));
        assert_eq!(device_number("device-number-1.12"), Some((1, Some(12))));
        for bad in [
            "device-number-",
            "device-number-+1",
            "device-number-1.",
            "device-number-.1",
            "device-number-1.2.3",
            "device-number-99999999999",
            "ens5",
        ] {
            assert_eq!(device_number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn prefixes() {
        assert_eq!(prefix("10.0.0.16/28").map(|(_, size)| size), Some(16));
        assert_eq!(prefix("10.0.0.16/32").map(|(_, size)| size), Some(1));
        assert_eq!(prefix("2001:db8::/80").map(|(_, size)| size), Some(1 << 48));
        assert_eq!(prefix("::/0").map(|(_, size)| size), Some(u128::MAX));
        for bad in ["10.0.0.16", "10.0.0.16/33", "10.0.0/28", "10.0.0.16/-1", "10.0.0.16/+28", "\u{1b}/1", "::/129"] {
            assert_eq!(prefix(bad), None, "{bad:?}");
        }
    }
}
