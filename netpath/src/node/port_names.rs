//! Ports by the names that the host has for them.
//!
//! In: the host's `/etc/services`. Out: the port of a name.

use std::path::Path;

use super::pods::HostRoot;

const FILE: &str = "/etc/services";
/// Debian's has 13 kB, IANA's whole list 1 MB.
const LIMIT: u64 = 4 << 20;

/// The port of this name, if the file can be read and has it.
#[must_use]
pub fn port(host_root: Option<&Path>, name: &str) -> Option<u16> {
    let text = HostRoot::find(host_root).ok()?.read(FILE, LIMIT).ok()?;
    find(&String::from_utf8_lossy(&text), name)
}

/// `services(5)`: a name, port/protocol, and other names for the same.
fn find(services: &str, name: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (first, port) = (words.next()?, words.next()?);
        let mut names = std::iter::once(first).chain(words);
        names.any(|known| known.eq_ignore_ascii_case(name)).then(|| port.split('/').next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases() {
        let text = "# Network services\n\nsmtp\t\t25/tcp\t\tmail\nX11-1 6001/tcp # x11\nodd\nbad x/tcp\n";
        assert_eq!(["smtp", "mail", "x11-1"].map(|name| find(text, name)), [Some(25), Some(25), Some(6001)]);
        assert_eq!(["x11", "odd", "bad", "#", ""].map(|name| find(text, name)), [None; 5]);
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(port(Some(folder.path()), "smtp"), None);
    }
}
