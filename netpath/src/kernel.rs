//! The kernel side as user space sees it: load, attach, drain.
