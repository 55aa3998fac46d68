//! Where packets went and what became of their addresses, for each way through a node: the report against the sockets at
//! both ends, the kernel's table of connections, and the devices' own counters.
//!
//! In: the lab with real nftables rules and real traffic. Each test expects **every** flow of its window: protocol, path,
//! initiator, each hop with device, direction and addresses; and it holds the bytes of the hops against the devices.

mod changes;
mod diverted;
mod encapsulated;
mod expected;
mod inner;
mod node;
mod outside;
mod own;
mod pods;
mod services;
mod special;
mod watch;
