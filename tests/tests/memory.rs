//! The kernel memory that `netpath report --help` states is what the kernel accounts for.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::process::Command;

use lab::netpath_binary;
use netpath::kernel::load::load;

/// `memlock` of all maps of this process, as /proc has it.
fn map_bytes() -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        // The descriptor that lists the folder is gone by now.
        let Ok(text) = fs::read_to_string(entry.unwrap().path()) else { continue };
        let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        if field("map_id:").is_some() {
            sum += field("memlock:").unwrap();
        }
    }
    sum
}

/// The number before the first `unit` in `text`.
fn number_before(text: &str, unit: &str) -> f64 {
    let (before, _) = text.split_once(unit).unwrap_or_else(|| panic!("no '{unit}' in {text}"));
    before.split_whitespace().next_back().unwrap().parse().unwrap()
}

#[test]
fn the_help_states_the_kernels_memory() {
    let help = Command::new(netpath_binary().unwrap()).args(["report", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, stated) = help.split_once("Kernel memory with the defaults: ").unwrap();
    let stated = stated.split_whitespace().collect::<Vec<_>>().join(" ");
    let (fixed, rest) = stated.split_once(" and ").unwrap();
    let fixed_mb = number_before(&format!("{fixed} "), " MB");
    let cpu_mb = number_before(rest, " MB a CPU");

    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let last: f64 = possible.trim().rsplit(['-', ',']).next().unwrap().parse().unwrap();
    let (_attacher, _drain) = load(65_536).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "less than 2^52 bytes")]
    let measured_mb = map_bytes() as f64 / 1e6;
    let stated_mb = fixed_mb + cpu_mb * (last + 1.0);
    assert!((measured_mb - stated_mb).abs() < 1.0, "{measured_mb} MB, and the help says {stated_mb} MB");
}
