//! UDP: datagrams of a given size and number, and a sink that counts those that arrive.
//!
//! A datagram larger than the device's MTU leaves in fragments.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use socket2::{Domain, Protocol, Socket, Type};

use super::LIMIT;
use crate::namespace::{Namespace, check};

const LOOK: Duration = Duration::from_millis(20);
/// Enough for what arrives while the sink's thread waits for a CPU.
const BUFFER_BYTES: libc::c_int = 8 << 20;

/// Receives datagrams on a thread of its own, and answers none. Dropping it stops it.
#[derive(Debug)]
pub struct UdpSink {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Datagrams>>>,
}

/// What arrived at a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// Whole datagrams.
    pub count: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Who sent the last one, after translation on the way.
    pub peer: Option<SocketAddr>,
}

impl UdpSink {
    /// Receives on an address of the namespace; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// When the address is not the namespace's, or in use.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let bind = || {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
            force_receive_buffer(&socket)?;
            socket.set_read_timeout(Some(LOOK))?;
            socket.bind(&address.into())?;
            Ok::<_, io::Error>(UdpSocket::from(socket))
        };
        let socket = namespace
            .run(bind)?
            .with_context(|| format!("cannot receive on {address} in namespace {}", namespace.name()))?;
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || receive(&socket, &stop)
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it receives.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes what has arrived and stops.
    ///
    /// # Errors
    /// When the socket failed.
    pub fn stop(mut self) -> Result<Datagrams> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the sink was stopped before")?;
        thread.join().map_err(|_| anyhow!("the UDP sink panicked"))?.context("the UDP sink failed")
    }
}

impl Drop for UdpSink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whoever wants the outcome calls `stop`.
            let _ = thread.join();
        }
    }
}

/// Sends `count` datagrams of `bytes` payload each (at most 65507 over IPv4), as fast as they go. Returns the sender's own
/// address, before translation on the way.
///
/// # Errors
/// When there is no route, or the size is too large.
pub fn send_datagrams(sender: &Namespace, to: SocketAddr, bytes: usize, count: u32) -> Result<SocketAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let send = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_write_timeout(Some(LIMIT))?;
        socket.connect(to)?;
        let payload = vec![b'n'; bytes];
        for _ in 0..count {
            socket.send(&payload)?;
        }
        socket.local_addr()
    };
    sender
        .run(send)?
        .with_context(|| format!("cannot send datagrams of {bytes} bytes from namespace {} to {to}", sender.name()))
}

/// Answers each datagram with its own content, on a thread of its own. Dropping it stops it.
#[derive(Debug)]
pub struct UdpEcho {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<u64>>>,
}

impl UdpEcho {
    /// Answers at an address of the namespace; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// When the address is not the namespace's, or in use.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let socket = namespace
            .run(|| UdpSocket::bind(address))?
            .with_context(|| format!("cannot answer at {address} in namespace {}", namespace.name()))?;
        socket.set_read_timeout(Some(LOOK))?;
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let (mut buffer, mut answered) = (vec![0; 65536], 0);
                while !stop.load(Ordering::Relaxed) {
                    match socket.recv_from(&mut buffer) {
                        Ok((length, peer)) => {
                            socket.send_to(&buffer[..length], peer)?;
                            answered += 1;
                        }
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(answered)
            }
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops, with the number of datagrams that were answered.
    ///
    /// # Errors
    /// When the socket failed.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it was stopped before")?;
        thread.join().map_err(|_| anyhow!("the UDP echo panicked"))?.context("the UDP echo failed")
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What became of datagrams that wait for an answer each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The sender's own address, before translation on the way.
    pub local: SocketAddr,
    /// Answers that came.
    pub answers: u32,
    /// Refusals that came, by ICMP.
    pub refusals: u32,
}

/// Sends `count` datagrams of `bytes` payload each from a port of the sender (0: any), and waits for an answer to each.
/// `between` runs before each, with the number of those before it.
///
/// # Errors
/// When there is no route, or the size is too large.
pub fn ask(
    sender: &Namespace,
    port: u16,
    to: SocketAddr,
    [bytes, count]: [usize; 2],
    mut between: impl FnMut(usize) -> Result<()> + Send,
) -> Result<Asked> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    sender.run(|| {
        let socket = UdpSocket::bind((any, port))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.connect(to)?;
        let mut asked = Asked { local: socket.local_addr()?, answers: 0, refusals: 0 };
        let payload = vec![b'n'; bytes];
        let mut buffer = vec![0; 65536];
        for number in 0..count {
            between(number)?;
            // A refusal of the one before may be reported by either call.
            let refused = |error: &io::Error| error.kind() == ErrorKind::ConnectionRefused;
            match socket.send(&payload).and_then(|_| socket.recv(&mut buffer)) {
                Ok(_) => asked.answers += 1,
                Err(error) if refused(&error) => asked.refusals += 1,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(asked)
    })?
}

/// Sends `count` super-packets, each of which the kernel or the device shall cut into datagrams of `bytes` payload (UDP
/// GSO). Each has `datagrams` of them, and a last one of 1 byte.
///
/// # Errors
/// When there is no route, or a super-packet has more than the kernel allows: 64 datagrams, 64 KiB.
pub fn send_segmented(
    sender: &Namespace,
    to: SocketAddr,
    bytes: u16,
    datagrams: u16,
    count: u32,
) -> Result<SocketAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let send = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_write_timeout(Some(LIMIT))?;
        let segment = libc::c_int::from(bytes);
        set_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, &segment)?;
        socket.connect(to)?;
        let payload = vec![b'n'; usize::from(bytes) * usize::from(datagrams) + 1];
        for _ in 0..count {
            socket.send(&payload)?;
        }
        socket.local_addr()
    };
    sender.run(send)?.with_context(|| {
        format!("cannot send {datagrams} datagrams of {bytes} bytes at once from namespace {} to {to}", sender.name())
    })
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<Datagrams> {
    let mut buffer = vec![0; 1 << 16];
    let mut all = Datagrams::default();
    loop {
        // Looked at before reading: what had arrived by then is still taken.
        let last = stop.load(Ordering::Relaxed);
        match socket.recv_from(&mut buffer) {
            Ok((bytes, peer)) => {
                all = Datagrams { count: all.count + 1, bytes: all.bytes + bytes as u64, peer: Some(peer) };
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if last {
                    return Ok(all);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Past the system's limit, as root may.
fn force_receive_buffer(socket: &Socket) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BUFFER_BYTES)
}

#[expect(clippy::cast_possible_truncation, reason = "the length of an int")]
pub(super) fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &libc::c_int,
) -> io::Result<()> {
    // SAFETY: the option value is an int that lives through the call, and its length is given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
}
