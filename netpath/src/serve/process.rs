//! What this process uses, by /proc/self (proc(5)).

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// What Prometheus' own clients show of their process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    /// User and system time.
    pub cpu_seconds: f64,
    /// Unix time.
    pub start_time_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Virtual memory.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_files: u64,
    /// Limit on them.
    pub most_files: u64,
}

impl Process {
    /// As it is now; `None` if /proc is not there.
    #[must_use]
    pub fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let booted = fs::read_to_string("/proc/stat").ok()?;
        let booted = booted.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
        let mut process = parse(&stat, booted)?;
        process.open_files = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        process.most_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Some(process)
    }
}

/// `stat`: of /proc/PID/stat. The name in it may have blanks and parentheses.
#[expect(clippy::cast_precision_loss, reason = "a double has 53 bits, and these are ticks of a hundredth of a second")]
fn parse(stat: &str, booted: f64) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // proc(5) counts from 1, and these begin with the third.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
    Some(Process {
        cpu_seconds: seconds(field(14)? + field(15)?),
        start_time_seconds: booted + seconds(field(22)?),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page_size() as u64,
        open_files: 0,
        most_files: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_name_with_blanks() {
        let numbers: Vec<String> = (4..=52).map(|number: u64| (number * 100).to_string()).collect();
        let process = parse(&format!("7 (a) b) S {}", numbers.join(" ")), 1e9).expect("a process");
        assert_eq!((process.cpu_seconds, process.start_time_seconds), (29.0, 1_000_000_022.0));
        assert_eq!((process.virtual_bytes, process.resident_bytes), (2300, 2400 * page_size() as u64));
        assert!(Process::read().is_some_and(|process| process.open_files > 2 && process.resident_bytes > 1 << 20));
    }
}
