//! Raw Ethernet frames: VLAN, ARP, or broken on purpose. The caller writes every byte.

use std::ffi::CString;
use std::io;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, SockAddr, Socket, Type};

use super::LIMIT;
use super::udp::set_option;
use crate::namespace::Namespace;

/// Sends each frame, Ethernet header first and without checksum at the end, out of a device. The kernel refuses frames shorter
/// than an Ethernet header or longer than the device's MTU allows.
///
/// # Errors
/// When there is no such device, or the kernel refuses a frame.
pub fn send_frames(namespace: &Namespace, device: &str, frames: &[Vec<u8>]) -> Result<()> {
    FrameSocket::open(namespace, device)?.send(frames)
}

/// A socket that sends frames out of a device. To open and close one takes the kernel some 20 ms.
#[derive(Debug)]
pub struct FrameSocket(Socket);

impl FrameSocket {
    /// Of a device of this namespace.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        let socket = namespace.run(|| open(device))?;
        Ok(Self(socket.with_context(|| format!("cannot send frames from {device} in namespace {}", namespace.name()))?))
    }

    /// As [`send_frames`].
    ///
    /// # Errors
    /// When the kernel refuses a frame.
    pub fn send(&self, frames: &[Vec<u8>]) -> Result<()> {
        frames.iter().try_for_each(|frame| self.0.send(frame).map(drop)).context("cannot send a frame")
    }
}

/// What the kernel shall cut a frame into: `struct virtio_net_hdr` of virtio 1.2, 5.1.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of all headers, Ethernet to TCP.
    pub headers_bytes: u16,
    /// Bytes before the TCP header.
    pub transport_offset: u16,
    /// Payload bytes of each frame but the last.
    pub payload_bytes: u16,
    /// Whether it is IPv6.
    pub ipv6: bool,
}

/// Sends a TCP packet that is longer than a frame, as virtual machines do: the kernel is told how long the frames shall be,
/// but not how many they are. It computes the checksums, from that of the pseudo header in the frame.
///
/// # Errors
/// As [`send_frames`].
pub fn send_super_packet(namespace: &Namespace, device: &str, frame: &[u8], cut: Cut) -> Result<()> {
    const NEEDS_CHECKSUM: u8 = 1;
    const TCP_V4: u8 = 1;
    const TCP_V6: u8 = 4;
    const TCP_CHECKSUM_OFFSET: u16 = 16;
    let mut message = vec![NEEDS_CHECKSUM, if cut.ipv6 { TCP_V6 } else { TCP_V4 }];
    for field in [cut.headers_bytes, cut.payload_bytes, cut.transport_offset, TCP_CHECKSUM_OFFSET] {
        message.extend(field.to_ne_bytes());
    }
    message.extend(frame);
    let send = || {
        let socket = open(device)?;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
        socket.send(&message)
    };
    let sent = namespace
        .run(send)?
        .with_context(|| format!("cannot send a super-packet from {device} in namespace {}", namespace.name()))?;
    ensure!(sent == message.len(), "only {sent} of {} bytes were sent", message.len());
    Ok(())
}

/// The MAC address of a device, in the order of transmission.
///
/// # Errors
/// When there is no such device.
pub fn mac(namespace: &Namespace, device: &str) -> Result<[u8; 6]> {
    let address = namespace
        .run(|| open(device)?.local_addr())?
        .with_context(|| format!("no device {device} in namespace {}", namespace.name()))?;
    // SAFETY: local_addr of a packet socket is a sockaddr_ll, and sockaddr_storage has room and alignment for one.
    let link = unsafe { &*address.as_ptr().cast::<libc::sockaddr_ll>() };
    ensure!(link.sll_halen == 6, "{device} in namespace {} is no Ethernet device", namespace.name());
    Ok(std::array::from_fn(|index| link.sll_addr[index]))
}

#[expect(clippy::cast_possible_truncation, reason = "libc gives families as int, the kernel takes them as u16: 17")]
const PACKET_FAMILY: libc::sa_family_t = libc::AF_PACKET as libc::sa_family_t;
#[expect(clippy::cast_possible_truncation, reason = "20 bytes")]
const LINK_ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

/// A packet socket that sends from `device` and receives nothing.
fn open(device: &str) -> io::Result<Socket> {
    let name = CString::new(device)?;
    // SAFETY: the name is a C string that lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the closure writes a sockaddr_ll, which sockaddr_storage has room and alignment for, and gives its size. All other
    // bytes are zero: protocol 0 receives nothing.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = PACKET_FAMILY;
            (*link).sll_ifindex = index.cast_signed();
            *length = LINK_ADDRESS_BYTES;
            Ok(())
        })
    }?;
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_write_timeout(Some(LIMIT))?;
    socket.bind(&address)?;
    Ok(socket)
}
