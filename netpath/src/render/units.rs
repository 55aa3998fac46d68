//! Numbers for people: the same in every locale. Which units, and whether sums or rates, is chosen once for a whole text.

use clap::ValueEnum;

/// Multiples of a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Units {
    /// Decimal: 1 kB = 1000 bytes.
    #[default]
    Si,
    /// Binary: 1 KiB = 1024 bytes.
    Iec,
}

/// How to write a number of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    units: Units,
    /// To write rates: the time that the bytes took, in nanoseconds.
    per: Option<u64>,
}

impl Scale {
    /// Sums of bytes.
    #[must_use]
    pub fn sums(units: Units) -> Self {
        Self { units, per: None }
    }

    /// Bytes a second, on the average over `duration_ns`.
    #[must_use]
    pub fn rates(units: Units, duration_ns: u64) -> Self {
        Self { units, per: Some(duration_ns) }
    }

    /// Which units.
    #[must_use]
    pub const fn units(self) -> Units {
        self.units
    }

    /// Whether these are rates.
    #[must_use]
    pub const fn is_rate(self) -> bool {
        self.per.is_some()
    }

    /// What a column of such numbers is called.
    #[must_use]
    pub fn heading(self) -> &'static str {
        if self.per.is_some() { "BYTES/S" } else { "BYTES" }
    }

    /// Bytes with one decimal: "999 B", "1.0 kB", "10.7 MB", or as rates "10.7 MB/s". A rate over no time is "-".
    #[must_use]
    pub fn bytes(self, count: u64) -> String {
        match self.per {
            None => self.amount(count.into()),
            Some(0) => "-".to_owned(),
            Some(ns) => {
                let ns = u128::from(ns);
                format!("{}/s", self.amount((u128::from(count) * 1_000_000_000 + ns / 2) / ns))
            }
        }
    }

    /// The same with a sign: "-5.1 kB".
    #[must_use]
    pub fn signed(self, count: i64) -> String {
        let sign = if count < 0 && self.per != Some(0) { "-" } else { "" };
        format!("{sign}{}", self.bytes(count.unsigned_abs()))
    }

    /// A rate that is known already, in these units, whatever the others are: "2.9 GB/s".
    #[must_use]
    pub fn rate(self, bytes_per_second: f64) -> String {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is positive; a cast saturates"
        )]
        let whole = bytes_per_second.round() as u64;
        format!("{}/s", self.amount(whole.into()))
    }

    fn amount(self, count: u128) -> String {
        let (base, units) = match self.units {
            Units::Si => (1000, ["kB", "MB", "GB", "TB", "PB", "EB"]),
            Units::Iec => (1024, ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]),
        };
        if count < base {
            return format!("{count} B");
        }
        let (mut unit_bytes, mut text) = (1, String::new());
        for unit in units {
            unit_bytes *= base;
            let tenths = (count * 10 + unit_bytes / 2) / unit_bytes;
            text = format!("{}.{} {unit}", tenths / 10, tenths % 10);
            if tenths < base * 10 {
                break;
            }
        }
        text
    }
}

/// A part of a whole in percent: "18 %", "<1 %", "-" of nothing.
#[must_use]
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

/// The same of a part that may be negative, or more than the whole: "-916 %", "-<1 %".
#[must_use]
pub fn signed_share(part: i64, whole: u64) -> String {
    let (size, all) = (u128::from(part.unsigned_abs()), u128::from(whole));
    let sign = if part < 0 && all > 0 { "-" } else { "" };
    if size <= all || all == 0 {
        return format!("{sign}{}", share(part.unsigned_abs(), whole));
    }
    format!("{sign}{} %", (size * 200 + all) / (2 * all))
}

/// A length of time: "250 ms", "10.0 s".
#[must_use]
pub fn duration(ns: u64) -> String {
    let millis = ns / 1_000_000;
    if millis < 1000 { format!("{millis} ms") } else { format!("{}.{} s", millis / 1000, millis % 1000 / 100) }
}

/// The time between two hops, with three digits or so: "850 ns", "21.3 µs", "204 ms", "1.5 s".
#[must_use]
pub fn elapsed(ns: u64) -> String {
    let (unit_ns, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let (whole, tenth) = (ns / unit_ns, ns % unit_ns / (unit_ns / 10));
    if whole < 100 { format!("{whole}.{tenth} {unit}") } else { format!("{whole} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts() {
        let si = Scale::sums(Units::Si);
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
            assert_eq!(si.bytes(count), text);
        }
        assert_eq!(si.signed(-5100), "-5.1 kB");
        assert_eq!(si.signed(i64::MIN), "-9.2 EB");
        assert_eq!(si.rate(2_911_000_000.4), "2.9 GB/s");
    }

    #[test]
    fn binary_units() {
        let iec = Scale::sums(Units::Iec);
        for (count, text) in [
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_524, "1023.9 KiB"),
            (1_048_525, "1.0 MiB"),
            (536_870_912, "512.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(iec.bytes(count), text);
        }
    }

    #[test]
    fn rates() {
        let rates = |ns| Scale::rates(Units::Si, ns);
        assert_eq!(rates(10_000_000_000).bytes(29_110_000_000), "2.9 GB/s");
        assert_eq!(rates(500_000_000).bytes(1), "2 B/s");
        assert_eq!(rates(10_000_000_000).bytes(4), "0 B/s");
        assert_eq!(rates(0).bytes(4), "-");
        assert_eq!(rates(0).signed(-4), "-");
        // More than any counter holds.
        assert_eq!(rates(1).bytes(u64::MAX), "18446744073.7 EB/s");
        assert_eq!(rates(1_000_000_000).signed(-5100), "-5.1 kB/s");
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
        for (part, whole, text) in [
            (-5, 0, "-"),
            (0, 5, "0 %"),
            (5, 5, "100 %"),
            (-1, 3, "-33 %"),
            (-1, 1000, "-<1 %"),
            (254, 25, "1016 %"),
            (-229, 25, "-916 %"),
            (i64::MIN, 1, "-922337203685477580800 %"),
        ] {
            assert_eq!(signed_share(part, whole), text);
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration(250_000_000), "250 ms");
        assert_eq!(duration(10_049_000_000), "10.0 s");
    }

    #[test]
    fn times_between_hops() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.0 µs"),
            (21_399, "21.3 µs"),
            (99_999, "99.9 µs"),
            (100_000, "100 µs"),
            (204_000_000, "204 ms"),
            (999_999_999, "999 ms"),
            (1_500_000_000, "1.5 s"),
            (u64::MAX, "18446744073 s"),
        ] {
            assert_eq!(elapsed(ns), text);
        }
    }
}
