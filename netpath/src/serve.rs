//! Feeds other systems with what the windows have: counters for Prometheus and OpenTelemetry, events for `CloudWatch`, flow records for
//! a fleet.
//!
//! In: reports, one a window, for ever. Out: sums of them, the last one, and answers for those who ask. It measures nothing.

pub mod emf;
pub mod flows;
pub mod http;
pub mod metric;
pub mod names;
pub mod otlp;
mod page;
mod process;
pub mod prometheus;
mod sampling;
pub mod series;
pub mod state;
pub mod totals;
mod under_way;
pub mod zones;
