//! A device's driver, by `ioctl(SIOCETHTOOL, ETHTOOL_GDRVINFO)` (Linux, `include/uapi/linux/ethtool.h`).
//!
//! In: a device's name. Out: its driver's name. It needs no privilege. sysfs has the same fact, but shows the devices of the
//! network namespace that it was mounted in, which in a debug pod may be another one.

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 3;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

const _: () = assert!(size_of::<DriverInfo>() == 196);

/// A socket to ask through.
#[derive(Debug)]
pub struct Ethtool(OwnedFd);

impl Ethtool {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        // SAFETY: socket(2) takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave this descriptor to us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The driver of a device; `None` if it does not tell, or is gone.
    #[must_use]
    pub fn driver(&self, device: &str) -> Option<String> {
        let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
        // SAFETY: an all-zero ifreq is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if device.len() >= request.ifr_name.len() {
            return None;
        }
        for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
            *to = c_char::from_ne_bytes([from]);
        }
        request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut info).cast();
        // SAFETY: the request names a device and points to a DriverInfo, which both outlive the call.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCETHTOOL, &raw mut request) } < 0 {
            return None;
        }
        let name = info.driver.split(|byte| *byte == 0).next().unwrap_or_default();
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }
}
