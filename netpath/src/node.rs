//! Facts about the node: devices, conntrack.
