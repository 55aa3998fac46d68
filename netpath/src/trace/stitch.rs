//! Puts events together.
