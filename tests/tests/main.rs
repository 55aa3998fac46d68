//! What netpath does on the lab's node. One program, since linking one for each of these takes longer than what they test.
//!
//! `kernels` and `programs` are programs of their own: `cargo xtask kernels` runs them on other kernels, without the rest.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod accounting;
mod churn;
mod cleanup;
mod coexistence;
mod command;
mod conntrack;
mod devices;
mod diversions;
mod doctor;
mod documents;
mod drain;
mod drops;
mod ending;
mod enis;
mod errors;
mod hooks;
mod hostile;
mod intervals;
mod journeys;
mod link_layer;
mod memory;
mod offload;
mod others;
mod page;
mod paths;
mod pcapng;
mod pods;
mod privilege;
mod published;
mod queues;
mod random;
mod reconcile;
mod recording;
mod serve;
mod serve_flows;
mod serve_otlp;
mod stress;
mod top;
mod trace;
mod trace_filter;
mod translation;
mod wiring;
