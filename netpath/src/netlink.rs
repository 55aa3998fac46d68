//! Netlink: sockets, requests and their answers, notifications, attributes, and the messages that both [`crate::kernel`] and
//! [`crate::node`] exchange with the kernel.
//!
//! In: the network namespace of the calling thread. Out: bodies of messages, errors as the kernel's errno. What a message means
//! is decided by those who ask, but for traffic control ([`tc`], [`qdiscs`]) and devices' counters ([`counters`]), which both
//! ask for.

pub mod attributes;
pub mod counters;
mod layer;
pub mod message;
pub mod qdiscs;
mod request;
mod socket;
pub mod tc;

pub use attributes::{Attribute, Attributes, Malformed};
pub use layer::Layer;
pub use request::{Answer, Requester, answers};
pub use socket::{Received, Subscription, is_served};
