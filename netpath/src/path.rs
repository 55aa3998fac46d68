//! From a snapshot to a report, purely: join, classify, account.
