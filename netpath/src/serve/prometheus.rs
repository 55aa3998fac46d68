//! The series as text, as Prometheus scrapes it: `OpenMetrics` 1.0, or Prometheus' own format 0.0.4.
//!
//! In: what is there now. Out: text.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::metric::Kind;
use super::process::Process;
use super::state::State;

/// What `/metrics` shows.
#[derive(Debug)]
pub struct Exposition(Registry);

/// A format of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus' own, 0.0.4.
    Prometheus,
}

impl Format {
    /// By what a client accepts.
    #[must_use]
    pub fn accepted(header: Option<&str>) -> Self {
        let accepted = header.unwrap_or_default().to_ascii_lowercase();
        let quality = |wanted: &str| {
            let ranges = accepted.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let q = |part: &str| part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
                (parts.next()? == wanted).then(|| parts.find_map(q).unwrap_or(1.0))
            });
            ranges.fold(0.0, f32::max)
        };
        let open = quality("application/openmetrics-text");
        if open > 0.0 && open >= quality("text/plain") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// For the header `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

impl Exposition {
    /// Of this state.
    #[must_use]
    pub fn new(state: Arc<State>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(state)));
        Self(registry)
    }

    /// What is there now.
    pub fn text(&self, format: Format) -> Result<String, fmt::Error> {
        let mut text = String::new();
        match format {
            Format::OpenMetrics => text::encode(&mut text, &self.0)?,
            Format::Prometheus => prometheus_text::encode(&mut text, &self.0)?,
        }
        Ok(text)
    }
}

const NO_EXEMPLAR: Option<&Exemplar<[(&str, &str); 0], u64>> = None;

#[derive(Debug)]
struct Scrape(Arc<State>);

impl Collector for Scrape {
    fn encode(&self, mut to: DescriptorEncoder) -> fmt::Result {
        let windows = self.0.windows();
        for (metric, samples) in windows.series.iter() {
            let about = metric.description();
            let name = format!("netpath_{}", about.name);
            let kind = match about.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut family = to.encode_descriptor(&name, about.help, None, kind)?;
            for (values, value) in samples {
                let labels: Vec<(&str, &str)> =
                    about.labels.iter().copied().zip(values.iter().map(|value| &**value)).collect();
                let mut one = family.encode_family(&labels)?;
                match about.kind {
                    Kind::Counter => one.encode_counter(&value, NO_EXEMPLAR)?,
                    Kind::Gauge => one.encode_gauge(&value)?,
                }
            }
        }
        if let Some(ended) = windows.last.as_ref().and_then(|last| last.ended) {
            let seconds = ended.as_duration().as_secs_f64();
            gauge(
                &mut to,
                "netpath_last_window_timestamp_seconds",
                "When the last window ended, as Unix time",
                &seconds,
            )?;
        }
        drop(windows);
        process(&mut to)
    }
}

fn gauge(to: &mut DescriptorEncoder, name: &str, help: &str, value: &impl EncodeGaugeValue) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(value)
}

/// What Prometheus' own clients show of their process.
fn process(to: &mut DescriptorEncoder) -> fmt::Result {
    let Some(process) = Process::read() else { return Ok(()) };
    to.encode_descriptor("process_cpu_seconds", "User and system CPU time in seconds", None, MetricType::Counter)?
        .encode_counter(&process.cpu_seconds, NO_EXEMPLAR)?;
    gauge(to, "process_start_time_seconds", "When the process started, as Unix time", &process.start_time_seconds)?;
    gauge(to, "process_resident_memory_bytes", "Resident memory", &process.resident_bytes)?;
    gauge(to, "process_virtual_memory_bytes", "Virtual memory", &process.virtual_bytes)?;
    gauge(to, "process_open_fds", "Open file descriptors", &process.open_files)?;
    gauge(to, "process_max_fds", "Limit on open file descriptors", &process.most_files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5";
        assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
        assert_eq!(Format::accepted(Some("Application/OpenMetrics-Text")), Format::OpenMetrics);
        let not =
            ["application/openmetrics-text;q=0,text/plain", "text/plain;q=0.9, application/openmetrics-text; q=0.1"];
        assert_eq!(not.map(|header| Format::accepted(Some(header))), [Format::Prometheus; 2]);
        assert_eq!([Some("*/*"), Some("text/plain"), None].map(Format::accepted), [Format::Prometheus; 3]);
    }
}
