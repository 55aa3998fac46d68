//! The signals that end a window: every one that would end the process, which would lose the report and leave filters behind.
//!
//! In: nothing, or the end of stdin, where nobody can send signals. Out: signals as they come, and how they were handled before,
//! for the command that netpath runs.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};

use anyhow::Context as _;
use libc::{c_int, sigset_t};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Always taken. Shells have what they start in the background ignore SIGINT; `kill -INT` ends its window all the same.
const ALWAYS: [c_int; 2] = [libc::SIGINT, libc::SIGTERM];

/// Taken, as are real-time signals, unless they are ignored when netpath starts: all others that end a process (signal(7)), but
/// for those of a fault in the program, and SIGPIPE: Rust's runtime ignores it, and it comes from any write to a peer that is
/// gone, such as a container runtime.
const UNLESS_IGNORED: [c_int; 12] = [
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGSTKFLT,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
];

/// With it, the end of stdin, which is a pipe, is a SIGINT: `kubectl exec` hands on no signal, but does hand on that it has ended.
const END_WITH_STDIN: &str = "NETPATH_END_WITH_STDIN";

const FIX: &str = "check what confines this process (seccomp)";

/// The signals that end a window.
#[derive(Debug)]
pub struct Signals {
    taken: Vec<(c_int, Signal)>,
    /// Until it ends.
    stdin: Option<Receiver>,
    before: Handling,
}

/// How signals were handled before netpath took them over.
#[derive(Clone, Copy)]
pub struct Handling {
    ignored: [bool; ALWAYS.len()],
    pipe_ignored: bool,
    blocked: sigset_t,
}

impl Signals {
    /// Takes them over, for the rest of the process's life. Must be called in a tokio runtime.
    pub fn new() -> anyhow::Result<Self> {
        let before = Handling::now().with_context(|| format!("cannot read how signals are handled; {FIX}"))?;
        let others = UNLESS_IGNORED.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
        let is_taken = |number: &c_int| matches!(is_ignored(*number), Ok(false));
        let numbers = ALWAYS.into_iter().chain(others.filter(is_taken));
        let take = |number| {
            let signal = signal(SignalKind::from_raw(number));
            Ok((number, signal.with_context(|| format!("cannot handle signal {number}; {FIX}"))?))
        };
        Ok(Self { taken: numbers.map(take).collect::<anyhow::Result<_>>()?, stdin: stdin()?, before })
    }

    /// How signals were handled before.
    pub fn before(&self) -> Handling {
        self.before
    }

    /// Waits for any of them. Cancel safe.
    pub async fn next(&mut self) -> c_int {
        poll_fn(|context| {
            if self.stdin.as_mut().is_some_and(|stdin| has_ended(stdin, context)) {
                self.stdin = None;
                return Poll::Ready(libc::SIGINT);
            }
            let mut came = self
                .taken
                .iter_mut()
                .filter_map(|(number, signal)| signal.poll_recv(context).is_ready().then_some(*number));
            came.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Stdin, if its end is to count.
fn stdin() -> anyhow::Result<Option<Receiver>> {
    if std::env::var_os(END_WITH_STDIN).is_none() {
        return Ok(None);
    }
    let open = || Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?);
    open()
        .map(Some)
        .with_context(|| format!("cannot wait for the end of stdin; make it a pipe, or unset {END_WITH_STDIN}"))
}

/// Reads what is there.
fn has_ended(stdin: &mut Receiver, context: &mut TaskContext) -> bool {
    let mut bytes = [MaybeUninit::uninit(); 1024];
    loop {
        let mut read = ReadBuf::uninit(&mut bytes);
        match Pin::new(&mut *stdin).poll_read(context, &mut read) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
            Poll::Ready(_) => return true,
        }
    }
}

impl Handling {
    fn now() -> io::Result<Self> {
        let mut blocked = MaybeUninit::uninit();
        // SAFETY: without a new mask the call only writes the present one.
        let answer = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, null(), blocked.as_mut_ptr()) };
        if answer != 0 {
            return Err(io::Error::from_raw_os_error(answer));
        }
        let [interrupt, terminate] = ALWAYS.map(is_ignored);
        Ok(Self {
            ignored: [interrupt?, terminate?],
            pipe_ignored: PIPE_IGNORED.load(Ordering::Relaxed),
            // SAFETY: the call above has written it.
            blocked: unsafe { blocked.assume_init() },
        })
    }

    /// Handles signals as before, between fork and exec, after the standard library has set SIGPIPE to its default and blocked
    /// none. Signals that are taken and were not ignored get their default by exec. Async-signal-safe.
    pub fn restore(&self) -> io::Result<()> {
        let signals = [(ALWAYS[0], self.ignored[0]), (ALWAYS[1], self.ignored[1]), (libc::SIGPIPE, self.pipe_ignored)];
        for (number, _) in signals.into_iter().filter(|(_, ignored)| *ignored) {
            // SAFETY: to ignore a signal takes no handler.
            if unsafe { libc::signal(number, libc::SIG_IGN) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: the mask lives through the call.
        let answer = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.blocked, null_mut()) };
        if answer == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(answer)) }
    }
}

impl std::fmt::Debug for Handling {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ignored, pipe_ignored, .. } = self;
        to.debug_struct("Handling")
            .field("ignored", ignored)
            .field("pipe_ignored", pipe_ignored)
            .finish_non_exhaustive()
    }
}

fn is_ignored(number: c_int) -> io::Result<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only writes the present one, and it is read only if it has.
    unsafe {
        if libc::sigaction(number, null(), action.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(action.assume_init().sa_sigaction == libc::SIG_IGN)
    }
}

/// Whether SIGPIPE was ignored before Rust's runtime set it to be.
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before the runtime starts: the C library calls what is in this section before `main`.
#[used]
// SAFETY: it only makes a system call and sets a flag, which needs nothing that is initialised later.
#[unsafe(link_section = ".init_array")]
static REMEMBER_PIPE: extern "C" fn() = remember_pipe;

extern "C" fn remember_pipe() {
    PIPE_IGNORED.store(matches!(is_ignored(libc::SIGPIPE), Ok(true)), Ordering::Relaxed);
}
