//! The series as metrics of OpenTelemetry: sums since each began, and gauges.
//!
//! In: what the windows so far come to. Out: one request with all series. Pure. Where a collector makes metrics of Prometheus of
//! them, they have the names that they have at `/metrics`.

use std::time::Duration;

use jiff::Timestamp;

use super::nanoseconds;
use super::proto::{
    Amount, CUMULATIVE, Data, Gauge, KeyValue, Metric, MetricsRequest, Point, Resource, ResourceMetrics, Scope,
    ScopeMetrics, Sum,
};
use crate::serve::metric::{Description, Kind};
use crate::serve::series::Series;

/// All series, and how many data points that is. `start`: when the first window began. `end`: when the last one ended.
pub fn request(series: &Series, start: Timestamp, end: Timestamp, resource: Resource) -> (MetricsRequest, u64) {
    let time = nanoseconds(end);
    let mut metrics: Vec<Metric> = series
        .points()
        .map(|(metric, points)| {
            let about = metric.description();
            let points = points
                .map(|point| Point {
                    start: if about.kind == Kind::Counter { began(start, point.began).min(time) } else { 0 },
                    time,
                    value: Some(Amount::Int(i64::try_from(point.value).unwrap_or(i64::MAX))),
                    attributes: attributes(&about, point.labels),
                })
                .collect();
            of(&about, points)
        })
        .collect();
    metrics.push(last_window(end));
    let points = metrics.iter().filter_map(|metric| metric.data.as_ref()).map(count).sum();
    let scope_metrics = vec![ScopeMetrics { scope: Some(Scope::own()), metrics }];
    (MetricsRequest { resource_metrics: vec![ResourceMetrics { resource: Some(resource), scope_metrics }] }, points)
}

fn began(start: Timestamp, after: Duration) -> u64 {
    start.checked_add(after).map_or(0, nanoseconds)
}

fn attributes(about: &Description, values: &[Box<str>]) -> Vec<KeyValue> {
    about.labels.iter().zip(values).map(|(key, value)| KeyValue::text(key, &**value)).collect()
}

fn of(about: &Description, points: Vec<Point>) -> Metric {
    let data = match about.kind {
        Kind::Counter => Data::Sum(Sum { points, temporality: CUMULATIVE, is_monotonic: true }),
        Kind::Gauge => Data::Gauge(Gauge { points }),
    };
    Metric {
        name: format!("netpath.{}", about.name),
        description: about.help.to_owned(),
        unit: unit(about.name).to_owned(),
        data: Some(data),
    }
}

/// What a metric is counted in (UCUM), by the last word of its name.
fn unit(name: &str) -> &'static str {
    match name.rsplit_once('_').map_or(name, |(_, last)| last) {
        "bytes" => "By",
        "packets" => "{packet}",
        "flows" | "entries" | "capacity" => "{flow}",
        "windows" => "{window}",
        "events" => "{event}",
        "devices" => "{device}",
        "addresses" => "{address}",
        _ => "",
    }
}

fn last_window(end: Timestamp) -> Metric {
    let seconds = end.as_duration().as_secs_f64();
    let point =
        Point { start: 0, time: nanoseconds(end), value: Some(Amount::Double(seconds)), attributes: Vec::new() };
    Metric {
        name: "netpath.last_window_timestamp".to_owned(),
        description: "When the last window ended, as Unix time".to_owned(),
        unit: "s".to_owned(),
        data: Some(Data::Gauge(Gauge { points: vec![point] })),
    }
}

fn count(data: &Data) -> u64 {
    match data {
        Data::Gauge(gauge) => gauge.points.len() as u64,
        Data::Sum(sum) => sum.points.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::metric;

    const SECOND: Duration = Duration::from_secs(1);

    fn by_name<'a>(request: &'a MetricsRequest, name: &str) -> &'a Metric {
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        metrics.iter().find(|metric| metric.name == name).expect(name)
    }

    #[test]
    fn sums_and_gauges() {
        let start: Timestamp = "2026-03-24T13:42:29Z".parse().expect("a time");
        let mut series = Series::new(10);
        series.advance(SECOND);
        series.add(metric::Metric::Bytes, &["eni"], 7);
        series.advance(SECOND);
        series.add(metric::Metric::Bytes, &["eni"], 7);
        series.add(metric::Metric::PodBytes, &["default", "a", "local", "receive"], u64::MAX);
        series.set(metric::Metric::BlindDevices, &[], 3);
        let (request, points) = request(&series, start, start + 2 * SECOND, Resource::default());
        assert_eq!(points, 5, "bytes, pod bytes, blind devices, dropped series, the last window");

        let of_start = nanoseconds(start);
        let sum = |name| match &by_name(&request, name).data {
            Some(Data::Sum(sum)) => {
                assert!(sum.is_monotonic && sum.temporality == 2);
                (sum.points[0].start - of_start, sum.points[0].time - of_start, sum.points[0].value)
            }
            other => panic!("{other:?}"),
        };
        let seconds = 1_000_000_000;
        assert_eq!(sum("netpath.bytes"), (0, 2 * seconds, Some(Amount::Int(14))));
        assert_eq!(sum("netpath.pod_bytes"), (seconds, 2 * seconds, Some(Amount::Int(i64::MAX))), "began later");
        let Some(Data::Gauge(blind)) = &by_name(&request, "netpath.blind_devices").data else { panic!() };
        assert_eq!((blind.points[0].start, blind.points[0].value), (0, Some(Amount::Int(3))));
        let labels: Vec<_> = ["namespace", "pod", "path", "direction"]
            .into_iter()
            .zip(["default", "a", "local", "receive"])
            .map(|(key, value)| KeyValue::text(key, value))
            .collect();
        let Some(Data::Sum(pod)) = &by_name(&request, "netpath.pod_bytes").data else { panic!() };
        assert_eq!(pod.points[0].attributes, labels);
    }

    #[test]
    fn units() {
        let units = ["pod_bytes", "bytes", "ena_allowance_exceeded_packets", "windows", "eni_info"].map(unit);
        assert_eq!(units, ["By", "By", "{packet}", "{window}", ""]);
    }

    /// The clock was set back in the window.
    #[test]
    fn nothing_begins_after_its_end() {
        let series = Series::new(10);
        let start: Timestamp = "2026-03-24T13:42:29Z".parse().expect("a time");
        let (request, _) = request(&series, start, start - SECOND, Resource::default());
        let Some(Data::Sum(sum)) = &by_name(&request, "netpath.series_dropped").data else { panic!() };
        assert_eq!(sum.points[0].start, sum.points[0].time);
    }
}
