//! Times as people write them: `10`, `1m30s`, `500ms`, `1.5s`.

use std::time::Duration;

use jiff::fmt::friendly::SpanParser;

/// Less is not worth a window: to open one takes the kernel some 20 ms.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// Length of each of many windows.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < SHORTEST_INTERVAL {
        return Err(format!("give {} ms or more", SHORTEST_INTERVAL.as_millis()));
    }
    Ok(interval)
}

/// A time that is not 0. A number alone is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const FORMS: &str = "write it like 10 (seconds), 500ms, 1.5s, 1m30s or 1h";
    let is_number = text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let with_unit = if is_number { format!("{text}s") } else { text.to_owned() };
    // It would take a time of day, too.
    let parsed = Some(&with_unit).filter(|text| !text.contains(':'));
    let parsed = parsed.and_then(|text| SpanParser::new().parse_unsigned_duration(text).ok());
    match parsed {
        None => Err(format!("it is not a time; {FORMS}")),
        Some(Duration::ZERO) => Err(format!("it must be more than 0; {FORMS}")),
        Some(long) if long > LONGEST => Err("a year is the longest".to_owned()),
        Some(time) => Ok(time),
    }
}

/// How old something may become: also in days, `7d`.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    const DAY: u64 = 24 * 3_600;
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    match days.map(|days| days.saturating_mul(DAY)) {
        Some(seconds) => duration(&seconds.to_string()),
        None => duration(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("10", ms(10_000)),
            ("1.5", ms(1_500)),
            ("500ms", ms(500)),
            ("1.5s", ms(1_500)),
            ("10s", ms(10_000)),
            ("1m30s", ms(90_000)),
            ("1m 30s", ms(90_000)),
            ("5m", ms(300_000)),
            ("2 hours", ms(7_200_000)),
            ("1h", ms(3_600_000)),
        ] {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        let long = "9".repeat(30);
        for bad in ["", "s", "0", "0s", "0.0", "-1s", "1s ago", "1x", "1.2.3", "10:00:00", "PT10S", "9999999h", &long] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!((age("7d"), age("12h")), (Ok(ms(7 * 86_400_000)), Ok(ms(43_200_000))));
        assert!(["0d", "d", "-1d", "999d", "99999999999999999999d", "1.5d"].into_iter().all(|text| age(text).is_err()));
        assert_eq!((interval("99ms").is_err(), interval("0.1")), (true, Ok(ms(100))));
    }
}
