//! Sources of facts: each is asked, and answers, fails, or does not answer in time.
//!
//! In: a question, which runs on a thread of its own, and a deadline. Out: a [`Reading`], or the fallback for one that did not
//! come. A source that hangs delays its caller until the deadline and no longer.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

/// What a source answered, and why that is not everything it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<T, S> {
    /// What it answered, or as much as could be used of it.
    pub facts: T,
    /// If not all is well.
    pub error: Option<SourceError<S>>,
}

/// Why a source has nothing, or less than it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError<S> {
    /// The kind of error, as the report has it.
    pub state: S,
    /// One line; from elsewhere, so to be sanitised when printed.
    pub reason: String,
}

impl<S> SourceError<S> {
    /// An error of this kind.
    pub fn new(state: S, reason: impl Into<String>) -> Self {
        Self { state, reason: reason.into() }
    }
}

impl<T: Default, S> Default for Reading<T, S> {
    fn default() -> Self {
        Self { facts: T::default(), error: None }
    }
}

impl<T: Default, S> From<SourceError<S>> for Reading<T, S> {
    fn from(error: SourceError<S>) -> Self {
        Self { facts: T::default(), error: Some(error) }
    }
}

impl<T: Default, S> From<Result<T, SourceError<S>>> for Reading<T, S> {
    fn from(outcome: Result<T, SourceError<S>>) -> Self {
        outcome.map_or_else(Self::from, |facts| Self { facts, error: None })
    }
}

/// An answer that another thread owes.
#[derive(Debug)]
pub struct Pending<T> {
    answer: Receiver<T>,
    deadline: Instant,
    fallback: T,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The deadline has passed.
    TimedOut,
    /// The thread has ended without an answer, or could not be started.
    Died,
}

impl<T> Pending<T> {
    /// An answer that is sent to the returned sender. [`Self::wait`] waits for so long, and then returns `fallback`.
    pub fn new(within: Duration, fallback: T) -> (Sender<T>, Self) {
        let (sender, answer) = mpsc::channel();
        (sender, Self { answer, deadline: Instant::now() + within, fallback })
    }

    /// The answer, or the fallback.
    #[must_use]
    pub fn wait(self) -> T {
        self.result().unwrap_or(self.fallback)
    }

    /// The answer, if it comes by the deadline.
    pub fn result(&self) -> Result<T, Unanswered> {
        self.answer.recv_timeout(self.deadline.saturating_duration_since(Instant::now())).map_err(|error| match error {
            RecvTimeoutError::Timeout => Unanswered::TimedOut,
            RecvTimeoutError::Disconnected => Unanswered::Died,
        })
    }

    /// The answer, without waiting; `None` if it may still come.
    pub fn poll(&self) -> Option<Result<T, Unanswered>> {
        match self.answer.try_recv() {
            Ok(answer) => Some(Ok(answer)),
            Err(TryRecvError::Disconnected) => Some(Err(Unanswered::Died)),
            Err(TryRecvError::Empty) => None,
        }
    }
}

impl<T: Send + 'static> Pending<T> {
    /// Asks on a thread of its own, in the network namespace of the calling thread.
    pub fn spawn(thread: &str, within: Duration, fallback: T, ask: impl FnOnce() -> T + Send + 'static) -> Self {
        let (sender, pending) = Self::new(within, fallback);
        // Without a thread the sender is dropped. After the deadline the receiver may be.
        let _ = thread::Builder::new().name(thread.to_owned()).spawn(move || drop(sender.send(ask())));
        pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_mins(1);

    #[test]
    fn an_answer() {
        assert_eq!(Pending::spawn("test", SOON, 1, || 2).wait(), 2);
        let (sender, pending) = Pending::new(SOON, 1);
        assert_eq!(pending.poll(), None);
        sender.send(2).expect("it is waited for");
        assert_eq!(pending.poll(), Some(Ok(2)));
    }

    #[test]
    fn no_answer() {
        let (sender, pending) = Pending::new(Duration::ZERO, 1);
        assert_eq!(pending.result(), Err(Unanswered::TimedOut));
        drop(sender);
        assert_eq!((pending.result(), pending.poll()), (Err(Unanswered::Died), Some(Err(Unanswered::Died))));
        assert_eq!(pending.wait(), 1);
    }
}
