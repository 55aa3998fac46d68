//! How often a source of facts is read in a session of short windows.
//!
//! In: when a reading began and ended. Out: whether it is time for the next one.

use std::time::Instant;

/// At most one part in so many of the time goes into readings.
const SHARE: u32 = 100;

/// Spaces readings of one kind, so that they cost little.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    next: Option<Instant>,
}

impl Pace {
    /// Reads, and takes the time of it.
    pub fn read<T>(&mut self, read: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let outcome = read();
        self.record(began, Instant::now());
        outcome
    }

    /// A reading took from `began` to `ended`.
    fn record(&mut self, began: Instant, ended: Instant) {
        self.next = Some(ended + (ended - began) * SHARE);
    }

    /// Whether it is time for the next reading.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// The next reading is due at once.
    pub fn make_due(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_reading_is_due_when_its_share_of_the_time_has_passed() {
        let began = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.is_due(began), "the first");
        let ended = began + Duration::from_millis(5);
        pace.record(began, ended);
        assert!(!pace.is_due(ended + Duration::from_millis(499)));
        assert!(pace.is_due(ended + Duration::from_millis(500)));
        pace.make_due();
        assert!(pace.is_due(ended));
    }
}
