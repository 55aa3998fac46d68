//! From a snapshot to a report, purely: join, classify, account.

pub mod container_insights;
