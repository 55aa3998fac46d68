//! What a collector's answer means, and how long to wait before it is asked again.
//!
//! In: status, headers and body; how often it failed. Out: what becomes of the request. Pure.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::http::HeaderValue;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use prost::Message as _;

use super::proto::Response;

/// The first wait, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// What a collector may ask for.
const SHORTEST_ASKED: Duration = Duration::from_secs(1);
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The collector has it.
    Taken {
        /// How many of its items it does not want.
        rejected: u64,
        /// Why, or what it says besides.
        message: String,
    },
    /// It has to be sent again, after the time that the collector asks for.
    Later(Option<Duration>),
    /// It will not be taken.
    Never,
}

/// What an answer means (OTLP 1.9, "OTLP/HTTP Response"). `now`: for a collector that names a time.
#[must_use]
pub fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Verdict {
    match status {
        _ if status.is_success() => {
            // One that writes JSON, or nothing, has taken it.
            let partial = Response::decode(body).ok().and_then(|response| response.partial_success);
            let partial = partial.unwrap_or_default();
            Verdict::Taken { rejected: u64::try_from(partial.rejected).unwrap_or(0), message: partial.message }
        }
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            Verdict::Later(headers.get(RETRY_AFTER).and_then(|value| asked_for(value, now)))
        }
        _ => Verdict::Never,
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn asked_for(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let asked = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let at = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::try_from(at.duration_since(now)).unwrap_or_default()
    };
    Some(asked.clamp(SHORTEST_ASKED, LONGEST_ASKED))
}

/// How long to wait after so many failures: twice as long each time, and up to half of it less, by chance, so that the nodes of
/// a fleet do not all ask at once.
#[must_use]
pub fn pause(failures: u32, random: u8) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    let half = longest / 2;
    half + half * u32::from(random) / 256
}

#[cfg(test)]
mod tests {
    use super::super::proto::PartialSuccess;
    use super::*;

    fn of(status: u16, retry_after: Option<&str>) -> Verdict {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().expect("a value"));
        }
        let now = "1994-11-06T08:49:00Z".parse().expect("a time");
        judge(StatusCode::from_u16(status).expect("a status"), &headers, b"{}", now)
    }

    #[test]
    fn statuses() {
        let taken = Verdict::Taken { rejected: 0, message: String::new() };
        assert_eq!([of(200, None), of(202, None)], [taken.clone(), taken]);
        assert_eq!([429, 502, 503, 504].map(|status| of(status, None)), [const { Verdict::Later(None) }; 4]);
        assert_eq!([301, 400, 401, 404, 413, 500].map(|status| of(status, None)), [const { Verdict::Never }; 6]);
    }

    #[test]
    fn what_a_collector_asks_for() {
        for (value, seconds) in [
            ("7", Some(7)),
            ("0", Some(1)),
            ("86400", Some(300)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", Some(1)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(300)),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(of(503, Some(value)), Verdict::Later(seconds.map(Duration::from_secs)), "{value}");
        }
    }

    #[test]
    fn what_a_collector_does_not_want() {
        let said = |rejected, message: &str| {
            let partial = PartialSuccess { rejected, message: message.to_owned() };
            let body = Response { partial_success: Some(partial) }.encode_to_vec();
            judge(StatusCode::OK, &HeaderMap::new(), &body, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(said(3, "too old"), Verdict::Taken { rejected: 3, message: "too old".into() });
        assert_eq!(said(0, "hm"), Verdict::Taken { rejected: 0, message: "hm".into() });
        assert_eq!(said(-3, ""), Verdict::Taken { rejected: 0, message: String::new() });
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let range = |failures| [pause(failures, 0), pause(failures, u8::MAX)].map(|pause| pause.as_millis());
        assert_eq!(range(1), [500, 998]);
        assert_eq!(range(4), [4000, 7984]);
        for failures in [7, 8, 100, u32::MAX] {
            assert_eq!(range(failures), [30_000, 59_882], "{failures}");
        }
    }
}
