//! Series: a value for each metric and label values. Of bounded number, and those of pods and devices that have gone expire.
//!
//! In: additions, and time as it passes. Out: values. No I/O, no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use super::metric::Metric;

/// How long a series stays after what it is about has gone, so that its last value is scraped.
const EXPIRES_AFTER: Duration = Duration::from_mins(5);

/// Values of a metric's labels, in their order.
type Labels = Box<[Box<str>]>;

/// All series.
#[derive(Debug)]
pub struct Series {
    families: BTreeMap<Metric, BTreeMap<Labels, Sample>>,
    /// How many of those that come and go there may be.
    limit: usize,
    /// How many there are of them.
    count: usize,
    /// Time that has passed.
    now: Duration,
    /// The same before the last window.
    before: Duration,
}

/// A value.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// Values of the metric's labels, in their order.
    pub labels: &'a [Box<str>],
    /// The value.
    pub value: u64,
    /// After how much time it began at 0.
    pub began: Duration,
}

#[derive(Debug)]
struct Sample {
    value: u64,
    /// When the window began in which it was first there.
    began: Duration,
    /// When what it is about was last there.
    seen: Duration,
}

impl Series {
    /// None yet. `limit`: how many there may be of things that come and go.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let mut series =
            Self { families: BTreeMap::new(), limit, count: 0, now: Duration::ZERO, before: Duration::ZERO };
        series.add(Metric::SeriesDropped, &[], 0);
        series
    }

    /// Adds to a counter, which begins at 0.
    pub fn add(&mut self, metric: Metric, labels: &[&str], value: u64) {
        if let Some(sample) = self.sample(metric, labels) {
            sample.value = sample.value.saturating_add(value);
        }
    }

    /// Sets a gauge.
    pub fn set(&mut self, metric: Metric, labels: &[&str], value: u64) {
        if let Some(sample) = self.sample(metric, labels) {
            sample.value = value;
        }
    }

    /// Removes all series of a gauge, which are set anew.
    pub fn clear(&mut self, metric: Metric) {
        self.families.remove(&metric);
    }

    /// Time passes. What has not been there for five minutes expires.
    pub fn advance(&mut self, by: Duration) {
        self.before = self.now;
        self.now += by;
        let mut expired = 0;
        for samples in
            self.families.iter_mut().filter(|(metric, _)| metric.comes_and_goes()).map(|(_, samples)| samples)
        {
            let before = samples.len();
            samples.retain(|_, sample| sample.seen + EXPIRES_AFTER >= self.now);
            expired += before - samples.len();
        }
        self.count -= expired;
    }

    /// Every metric that has series, with them: label values, value.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, impl Iterator<Item = (&[Box<str>], u64)>)> {
        self.families
            .iter()
            .map(|(metric, samples)| (*metric, samples.iter().map(|(labels, sample)| (&**labels, sample.value))))
    }

    /// The same, and when each began.
    pub fn points(&self) -> impl Iterator<Item = (Metric, impl Iterator<Item = Point<'_>>)> {
        self.families.iter().map(|(metric, samples)| {
            let point = |(labels, sample)| {
                let (labels, sample): (&Labels, &Sample) = (labels, sample);
                Point { labels, value: sample.value, began: sample.began }
            };
            (*metric, samples.iter().map(point))
        })
    }

    /// `None` if there is no room for one more.
    fn sample(&mut self, metric: Metric, labels: &[&str]) -> Option<&mut Sample> {
        debug_assert_eq!(labels.len(), metric.description().labels.len(), "{metric:?}");
        let labels: Labels = labels.iter().map(|label| Box::from(*label)).collect();
        let is_new = !self.families.get(&metric).is_some_and(|samples| samples.contains_key(&labels));
        if is_new && metric.comes_and_goes() {
            if self.count >= self.limit {
                self.add(Metric::SeriesDropped, &[], 1);
                return None;
            }
            self.count += 1;
        }
        let new = Sample { value: 0, began: self.before, seen: self.now };
        let sample = self.families.entry(metric).or_default().entry(labels).or_insert(new);
        sample.seen = self.now;
        Some(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(series: &Series, of: Metric) -> Vec<(String, u64)> {
        let named = |(labels, value): (&[Box<str>], u64)| (labels.join(","), value);
        series.iter().filter(|(metric, _)| *metric == of).flat_map(|(_, samples)| samples.map(named)).collect()
    }

    fn pod(name: &str) -> [&str; 4] {
        ["default", name, "local", "receive"]
    }

    #[test]
    fn what_has_gone_expires_and_makes_room() {
        let mut series = Series::new(2);
        series.add(Metric::PodBytes, &pod("a"), 1);
        series.add(Metric::PodBytes, &pod("b"), 0);
        series.add(Metric::PodBytes, &pod("c"), 5);
        series.add(Metric::Bytes, &["local"], 6);
        assert_eq!(values(&series, Metric::SeriesDropped), [(String::new(), 1)]);
        for _ in 0..3 {
            series.advance(EXPIRES_AFTER / 2);
            series.add(Metric::PodBytes, &pod("a"), 2);
        }
        assert_eq!(values(&series, Metric::PodBytes), [("default,a,local,receive".to_owned(), 7)]);
        assert_eq!(values(&series, Metric::Bytes), [("local".to_owned(), 6)], "is for ever");
        series.add(Metric::PodBytes, &pod("c"), 5);
        assert_eq!(values(&series, Metric::PodBytes).len(), 2);
        let began = series.points().filter(|(metric, _)| *metric == Metric::PodBytes).flat_map(|(_, points)| points);
        assert_eq!(began.map(|point| point.began).collect::<Vec<_>>(), [Duration::ZERO, EXPIRES_AFTER]);
        assert_eq!(values(&series, Metric::SeriesDropped), [(String::new(), 1)]);
    }
}
