//! netpath's build, demonstration and test commands.

fn main() {}
