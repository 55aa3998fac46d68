//! Asks a device which driver runs it, and what that driver counts: the ioctls behind `ethtool -i` and `ethtool -S`.
//!
//! In: a device's name in the calling thread's network namespace. Out: driver and bus address, and statistics by name. Needs no
//! privilege. sysfs (`/sys/class/net/X/device/driver`) names the driver, too, but it shows the namespace it was
//! mounted in, which in a container is often another one. It must not change a device.

pub mod statistics;

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;

pub use self::statistics::statistics;

/// `ETHTOOL_GDRVINFO` (linux/ethtool.h).
const GDRVINFO: u32 = 3;

/// A device's driver and place on a bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverInfo {
    /// Name of the driver ("ena").
    pub driver: Option<String>,
    /// Where on a bus the device is ("0000:00:05.0"); `None` for a device made of software.
    pub bus: Option<String>,
}

/// `struct ethtool_drvinfo` (linux/ethtool.h).
#[repr(C)]
struct Drvinfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    fw_version: [u8; 32],
    bus_info: [u8; 32],
    erom_version: [u8; 32],
    reserved2: [u8; 12],
    n_priv_flags: u32,
    n_stats: u32,
    testinfo_len: u32,
    eedump_len: u32,
    regdump_len: u32,
}

const _: () = assert!(size_of::<Drvinfo>() == 196);

/// Asks for the driver of the device `name` (bytes, since a name need not be UTF-8).
///
/// # Errors
/// `EOPNOTSUPP` if the device has no driver (loopback), `ENODEV` if there is no device of that name (any more).
pub fn driver_info(name: &[u8]) -> io::Result<DriverInfo> {
    let mut info = Drvinfo {
        cmd: GDRVINFO,
        driver: [0; 32],
        version: [0; 32],
        fw_version: [0; 32],
        bus_info: [0; 32],
        erom_version: [0; 32],
        reserved2: [0; 12],
        n_priv_flags: 0,
        n_stats: 0,
        testinfo_len: 0,
        eedump_len: 0,
        regdump_len: 0,
    };
    // SAFETY: a `struct ethtool_drvinfo` is what ETHTOOL_GDRVINFO reads and writes, and it outlives the call.
    unsafe { ask(name, (&raw mut info).cast())? };
    // Software devices write "N/A" or repeat their kind ("tun"): only what has the look of a bus address is one.
    let bus = text(&info.bus_info).filter(|bus| bus.contains(|c: char| c.is_ascii_digit()));
    Ok(DriverInfo { driver: text(&info.driver), bus })
}

/// One ethtool command, to the device `name`.
///
/// # Safety
/// `data` points to the structure that the command in its first four bytes reads and writes.
unsafe fn ask(name: &[u8], data: *mut libc::c_char) -> io::Result<()> {
    if name.len() >= libc::IFNAMSIZ || name.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    // Any socket will do: the ioctl is handled above the socket's family, in the network namespace the socket was made in.
    let socket = UnixDatagram::unbound()?;
    let mut request =
        libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data } };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: the descriptor is open; `request` is a valid `struct ifreq`, and the caller vouches for what its data points to.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The text before the first NUL, `None` if it is empty.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    (end > 0).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be() {
        for name in [&b"a-name-longer-than-15-bytes"[..], b"a\0b", b"", b"no-such-device"] {
            assert!(driver_info(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn text_ends_at_nul() {
        assert_eq!(text(b"ena\0\0\0"), Some("ena".to_owned()));
        assert_eq!(text(b"\0na\0"), None);
        assert_eq!(text(b"full"), Some("full".to_owned()));
    }
}
