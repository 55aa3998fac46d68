//! Requests that wait for a collector: of bounded size, whatever the collector does.
//!
//! In: requests, and what became of the one that was sent. Out: the next one, and how many items were given up. No I/O, no clock.
//!
//! Metrics are sums since netpath started, so that the newest request has all that those before it had: it alone waits. Of logs
//! the oldest are given up when there is no more room.

use std::collections::VecDeque;

use bytes::Bytes;

/// A request, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Compressed.
    pub body: Bytes,
    /// How many data points or records it has.
    pub items: u64,
}

/// What may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The newest request.
    Newest,
    /// The newest ones, of this many bytes together.
    Bytes(usize),
}

/// Requests, oldest first. One at a time is taken out and sent.
#[derive(Debug)]
pub struct Queue {
    room: Room,
    waiting: VecDeque<Request>,
    /// Bytes of `waiting`.
    bytes: usize,
    /// Items of the one that is being sent.
    taken: u64,
}

impl Queue {
    /// An empty one.
    #[must_use]
    pub fn new(room: Room) -> Self {
        Self { room, waiting: VecDeque::new(), bytes: 0, taken: 0 }
    }

    /// Adds the newest request. How many items are given up for it.
    pub fn push(&mut self, request: Request) -> u64 {
        self.bytes += request.body.len();
        self.waiting.push_back(request);
        self.give_up()
    }

    /// Takes the oldest request, to be sent.
    pub fn take(&mut self) -> Option<Request> {
        let request = self.waiting.pop_front()?;
        self.bytes -= request.body.len();
        self.taken = request.items;
        Some(request)
    }

    /// Puts the request that was taken back in front, since it could not be sent. How many items are given up for those that came
    /// meanwhile.
    pub fn put_back(&mut self, request: Request) -> u64 {
        self.taken = 0;
        self.bytes += request.body.len();
        self.waiting.push_front(request);
        self.give_up()
    }

    /// The request that was taken needs not be kept any longer.
    pub fn settle(&mut self) {
        self.taken = 0;
    }

    /// How many items have not been sent: those that wait, and those of the request that was taken.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.taken + self.waiting.iter().map(|request| request.items).sum::<u64>()
    }

    fn give_up(&mut self) -> u64 {
        let mut items = 0;
        while self.is_too_full()
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.bytes -= oldest.body.len();
            items += oldest.items;
        }
        items
    }

    fn is_too_full(&self) -> bool {
        match self.room {
            Room::Newest => self.waiting.len() > 1,
            Room::Bytes(most) => self.bytes > most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(bytes: usize, items: u64) -> Request {
        Request { body: vec![0; bytes].into(), items }
    }

    /// However long the collector is away, no more waits than there is room for, and nothing is unaccounted for.
    #[test]
    fn it_is_bounded() {
        const ROOM: usize = 1000;
        let mut queue = Queue::new(Room::Bytes(ROOM));
        let (mut pushed, mut given_up) = (0, 0);
        for turn in 0..10_000_u64 {
            let bytes = usize::try_from(turn * 37 % 300).expect("small");
            given_up += queue.push(request(bytes, turn % 7));
            pushed += turn % 7;
            if turn % 3 == 0
                && let Some(taken) = queue.take()
            {
                given_up += queue.push(request(bytes, 1));
                pushed += 1;
                given_up += queue.put_back(taken);
            }
            let held: usize = queue.waiting.iter().map(|request| request.body.len()).sum();
            assert!(held == queue.bytes && held <= ROOM, "{held} bytes");
            assert_eq!(pushed, given_up + queue.left());
        }
        assert!(queue.waiting.len() > 2 && given_up > 10_000, "{given_up}");
    }

    #[test]
    fn the_oldest_is_given_up_first() {
        let mut queue = Queue::new(Room::Bytes(10));
        assert_eq!([queue.push(request(4, 1)), queue.push(request(4, 2)), queue.push(request(4, 4))], [0, 0, 1]);
        let taken = queue.take().expect("one");
        assert_eq!((taken.items, queue.left()), (2, 6));
        assert_eq!(queue.push(request(4, 8)), 0, "the one that is sent takes no room");
        assert_eq!(queue.put_back(taken), 2, "it is the oldest");
        assert_eq!(queue.take().map(|request| request.items), Some(4));
        queue.settle();
        assert_eq!(queue.left(), 8);
        assert_eq!(queue.push(request(11, 16)), 24, "one that has no room at all is not kept either");
        assert_eq!((queue.take(), queue.left()), (None, 0));
    }

    #[test]
    fn of_metrics_the_newest_waits() {
        let mut queue = Queue::new(Room::Newest);
        assert_eq!([queue.push(request(1 << 20, 5)), queue.push(request(1, 6))], [0, 5]);
        let taken = queue.take().expect("one");
        assert_eq!(queue.put_back(taken), 0);
        let taken = queue.take().expect("the same");
        assert_eq!(queue.push(request(1, 7)), 0);
        assert_eq!(queue.put_back(taken), 6, "there is a newer one");
        assert_eq!((queue.take().map(|request| request.items), queue.take()), (Some(7), None));
    }
}
