//! Numbers at random, of a seed that is printed.

use std::time::SystemTime;

/// xorshift64 (Marsaglia, 2003).
pub struct Random(u64);

impl Random {
    /// With a seed of its own, which is printed: `SEED=…` repeats it.
    pub fn new() -> Self {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let seed = std::env::var("SEED").map_or_else(|_| u64::try_from(now()).unwrap(), |seed| seed.parse().unwrap());
        println!("SEED={seed}");
        Self(seed | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    /// One of them.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Whether it is the one time in so many.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
