//! netpath: which bytes crossed an ENI, and which stayed between local veth pairs?
//!
//! Data flows one way: a [`session`] fills a [`snapshot::Snapshot`] a window with what [`kernel`] and [`node`] read; [`path`]
//! turns it, purely, into a [`report::Report`]; [`render`] writes reports, [`top`] shows them live,
//! [`serve`] feeds other systems. [`command`] ties them together for the command line.

pub mod cli;
pub mod command;
pub mod descriptors;
pub mod doctor;
pub mod kernel;
pub mod locale;
pub mod logging;
pub mod model;
pub mod netlink;
pub mod node;
pub mod path;
pub mod pattern;
pub mod privilege;
pub mod record;
pub mod render;
pub mod report;
pub mod sanitise;
pub mod serve;
pub mod session;
pub mod shell;
pub mod snapshot;
pub mod top;
pub mod trace;
