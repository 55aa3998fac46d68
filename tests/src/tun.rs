//! Makes tun and tap devices. Each is gone when its file is closed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, Result};

use crate::namespace::{Namespace, check};

/// Makes a device (`IFF_TUN` or `IFF_TAP`, and more flags) and returns its other end, which does not block: each read is a
/// packet that the device sent. The device is down.
///
/// # Errors
/// When the device cannot be made.
pub fn open_tun(namespace: &Namespace, name: &str, flags: libc::c_int) -> Result<File> {
    let make = || {
        let tun = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        // SAFETY: zeros are a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        #[expect(clippy::cast_possible_truncation, reason = "flags of 16 bits")]
        let flags = (flags | libc::IFF_NO_PI) as libc::c_short;
        request.ifr_ifru.ifru_flags = flags;
        // SAFETY: the request lives through the call; its name ends with a zero byte.
        check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        Ok::<_, io::Error>(tun)
    };
    namespace.run(make)?.with_context(|| {
        format!("cannot make the device {name} in namespace {}; does this machine have /dev/net/tun?", namespace.name())
    })
}
