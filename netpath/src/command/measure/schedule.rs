//! When one window ends and the next begins.
//!
//! In: an interval, and how many windows there are to be. Out: times. Pure: it neither waits nor measures.

use std::time::Duration;

use tokio::time::Instant;

/// Timers are not exact: what is less than this is not late.
const TOLERANCE: Duration = Duration::from_millis(20);

/// Windows of one length, back to back.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    interval: Duration,
    /// When the window is to end.
    due: Instant,
    /// How many windows are left, this one included; `None` for any number.
    left: Option<u64>,
}

impl Schedule {
    /// The first window begins now.
    pub fn new(interval: Duration, count: Option<u64>, now: Instant) -> Self {
        Self { interval, due: now + interval, left: count }
    }

    /// When the window is to end.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether the window is the last one.
    pub fn is_last(&self) -> bool {
        self.left == Some(1)
    }

    /// A window ends now, and the next one begins. Returns how late that is. Windows end in step with the first one; when a
    /// whole interval has been missed, they go on from now.
    pub fn roll(&mut self, now: Instant) -> Duration {
        let late = now.saturating_duration_since(self.due);
        self.due += self.interval;
        if self.due <= now {
            self.due = now + self.interval;
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        late
    }

    /// Whether being so late means that the interval is not kept.
    pub fn is_missed(&self, late: Duration) -> bool {
        late > TOLERANCE.max(self.interval / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn windows_end_in_step_unless_one_is_missed() {
        let start = Instant::now();
        let mut schedule = Schedule::new(SECOND, Some(4), start);
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut ends = |now: f64| (schedule.roll(at(now)).as_secs_f64(), (schedule.due() - start).as_secs_f64());
        assert_eq!(ends(1.25), (0.25, 2.0), "the next one is shorter");
        assert_eq!(ends(4.5), (2.5, 5.5), "the next one begins anew");
        assert!(!schedule.is_last());
        assert_eq!(schedule.roll(at(5.5)), Duration::ZERO);
        assert!(schedule.is_last());
    }

    #[test]
    fn what_is_late() {
        let late = |interval: Duration, late| Schedule::new(interval, None, Instant::now()).is_missed(late);
        assert!(!late(SECOND, SECOND / 10) && late(SECOND, SECOND / 9));
        assert!(!late(SECOND / 100, SECOND / 50), "a timer's tolerance");
    }
}
