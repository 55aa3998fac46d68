//! Numbers for people: decimal units, the same in every locale.

/// Bytes with one decimal: "999 B", "1.0 kB", "10.7 MB" (1 kB = 1000 bytes).
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut unit_bytes: u128 = 1000;
    for unit in UNITS {
        let tenths = (u128::from(count) * 10 + unit_bytes / 2) / unit_bytes;
        if tenths < 10_000 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        unit_bytes *= 1000;
    }
    unreachable!("2^64 bytes are less than 1000 EB")
}

/// The same with a sign: "-5.1 kB".
pub fn signed_bytes(count: i64) -> String {
    format!("{}{}", if count < 0 { "-" } else { "" }, bytes(count.unsigned_abs()))
}

/// A part of a whole in percent: "18 %", "<1 %", "-" of nothing.
pub fn share(part: u64, whole: u64) -> String {
    match (u128::from(part), u128::from(whole)) {
        (_, 0) => "-".to_owned(),
        (0, _) => "0 %".to_owned(),
        (part, whole) if part * 100 < whole => "<1 %".to_owned(),
        // Rounded, but nothing short of all is 100 %.
        (part, whole) if part < whole => format!("{} %", ((part * 200 + whole) / (2 * whole)).min(99)),
        _ => "100 %".to_owned(),
    }
}

/// A length of time: "250 ms", "10.0 s".
pub fn duration(ns: u64) -> String {
    let millis = ns / 1_000_000;
    if millis < 1000 { format!("{millis} ms") } else { format!("{}.{} s", millis / 1000, millis % 1000 / 100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1049, "1.0 kB"),
            (1050, "1.1 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (1_275_566_689, "1.3 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(signed_bytes(-5100), "-5.1 kB");
        assert_eq!(signed_bytes(i64::MIN), "-9.2 EB");
    }

    #[test]
    fn shares() {
        for (part, whole, text) in [
            (0, 0, "-"),
            (0, 5, "0 %"),
            (1, 1000, "<1 %"),
            (1, 3, "33 %"),
            (2, 3, "67 %"),
            (999, 1000, "99 %"),
            (5, 5, "100 %"),
        ] {
            assert_eq!(share(part, whole), text);
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration(250_000_000), "250 ms");
        assert_eq!(duration(10_049_000_000), "10.0 s");
    }
}
