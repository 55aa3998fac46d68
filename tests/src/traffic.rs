//! Traffic of known size between namespaces, by plain sockets. Every wait is bounded.
//!
//! What a generator returns counts payload as it passed through the sockets; headers and acknowledgements are not in it.

mod churn;
mod frames;
mod icmp;
mod tcp;
mod udp;

use std::time::Duration;

pub use churn::{Churn, Witnessed, churn};
pub use frames::{Cut, FrameSocket, mac, send_frames, send_super_packet};
pub use icmp::ping;
pub use tcp::{Serve, Served, ShortConnections, TcpServer, Transfer, download, echo, short_connections, upload};
pub use udp::{Asked, Datagrams, UdpEcho, UdpSink, ask, send_datagrams, send_segmented};

/// How long one socket operation may take.
const LIMIT: Duration = Duration::from_secs(5);
