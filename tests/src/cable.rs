//! A network card as an ENI is one: it counts each frame that comes over its cable before the kernel merges them (GRO), and
//! each that leaves after the kernel has cut them (GSO). A veth pair cannot do that: see `tests/offload.rs`.
//!
//! It is a TAP device with NAPI; its cable is a thread that carries frames to another TAP device and back. Both devices are
//! gone when the cable is, or the process.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Result;

use crate::namespace::{Namespace, check};
use crate::tun::open_tun;

/// How often the cable looks whether it shall end.
const LOOK_MS: i32 = 20;
/// Frames that the devices queue before they drop any.
pub(crate) const QUEUE_FRAMES: u32 = 20_000;
/// Longer than any frame.
const FRAME_BYTES: usize = 1 << 16;

/// The cable between two TAP devices. Dropping it removes them.
#[derive(Debug)]
pub(crate) struct Cable {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// Makes the two devices, by namespace and name, and connects them. They are down.
    pub(crate) fn connect(near: (&Namespace, &str), far: (&Namespace, &str)) -> Result<Self> {
        let tap = |(namespace, name)| open_tun(namespace, name, libc::IFF_TAP | libc::IFF_NAPI);
        let (near, far) = (tap(near)?, tap(far)?);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut frame = vec![0; FRAME_BYTES];
                while !stop.load(Ordering::Relaxed) {
                    // A device that was removed with its namespace: nothing is left to carry.
                    if carry(&near, &far, &mut frame).is_err() {
                        break;
                    }
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for frames and carries them; returns at the latest after [`LOOK_MS`].
fn carry(near: &File, far: &File, frame: &mut [u8]) -> io::Result<()> {
    let mut ready = [near, far].map(|tap| libc::pollfd { fd: tap.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    // SAFETY: the array lives through the call, and its length is given.
    if let Err(error) = check(unsafe { libc::poll(ready.as_mut_ptr(), 2, LOOK_MS) }) {
        return if error.kind() == ErrorKind::Interrupted { Ok(()) } else { Err(error) };
    }
    if ready.iter().any(|tap| tap.revents & (libc::POLLERR | libc::POLLNVAL) != 0) {
        return Err(ErrorKind::NotConnected.into());
    }
    forward(near, far, frame)?;
    forward(far, near, frame)
}

/// Carries what is there now, but for at most so many frames that the other direction does not starve.
fn forward(mut from: &File, mut to: &File, frame: &mut [u8]) -> io::Result<()> {
    for _ in 0..64 {
        match from.read(frame) {
            Ok(length) => match to.write(&frame[..length]) {
                // The device is down: frames get lost on real cables, too.
                Err(error) if error.raw_os_error() != Some(libc::EBADFD) => {}
                result => drop(result?),
            },
            Err(error) if error.raw_os_error() == Some(libc::EBADFD) => return Err(error),
            // No more frames, or the device is down.
            Err(_) => break,
        }
    }
    Ok(())
}
