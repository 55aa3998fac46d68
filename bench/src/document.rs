//! `docs/performance.md`: everything that was measured, with the machine and the date.
//!
//! In: results. Out: Markdown.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use aya::util::nr_cpus;

use crate::figures::{Figure, Unit, markdown, median, show, table};
use crate::loaded::MapSize;
use crate::programs::Interleaved;
use crate::start::{Started, Starts};
use crate::user_space::{CPU_MS, DRAIN_MS, JSON_MS, PEAK_MB, REPORT_MS, TABLE_MS};
use crate::whole_path::{self, Traffic};

/// The default of `--max-flows`.
pub const DEFAULT_MAX_FLOWS: u32 = 65_536;
/// A large node.
const MANY_CPUS: u64 = 96;

/// All that was measured.
pub struct Results {
    /// The table.
    pub figures: Vec<Figure>,
    /// The cache, by the number of flows in turn.
    pub interleaved: Vec<Interleaved>,
    /// The whole path.
    pub traffic: Vec<Traffic>,
    /// User space, by the number of observations.
    pub flows: BTreeMap<u32, BTreeMap<String, Vec<f64>>>,
    /// Starts.
    pub starts: Vec<Starts>,
    /// The maps of the default flags on this machine.
    pub maps: Vec<MapSize>,
}

impl Results {
    /// The document.
    pub fn document(&self) -> Result<String> {
        let cpus = nr_cpus().map_err(|(file, error)| anyhow::anyhow!("cannot read {file}: {error}"))? as u64;
        Ok(format!(
            "\
# What netpath costs

<!-- Written by `cargo xtask bench`; do not edit. -->

{machine}

Times of programs are CPU time a packet, by `BPF_PROG_TEST_RUN`; each is compared with the empty program of the same
round, all programs taking turns. \"Flows in turn\" has every packet of another flow than the one before; what it takes to
rewrite the packet is subtracted. A *miss* evicts another flow from the per-CPU cache into the flow map. An aim is judged
by the median. The ratios travel to other machines, the nanoseconds do not.

{figures}
## The per-CPU cache, by flows in turn

Every packet of another flow is the worst order there is; packets of real connections come in bursts.

{interleaved}
## Traffic through a node

iperf3 between two pods: each packet passes two of netpath's hooks, and a TCP acknowledgement two more. One connection
goes on through all rounds, with nothing on the hooks, empty programs, and netpath in turn; behind each median is the
range that holds the true one with a probability of 95 %.

{traffic}
A program takes more here than in the first table, where it runs alone and finds all in the nearest cache: between two runs
of it here the kernel does all else that a packet needs. A profile of the UDP load (`perf record -e cpu-clock`) had 45 ns
of 3,060 ns a packet in each of the two programs: 16 of them at its first instruction, which is the call itself and
what an empty program takes too; the other 30 ns are spread over its loads, as they are when the second-level cache has
what they need.

## User space, by flows

A flow here is one 5-tuple at one hook; a connection through the node has four. The drain's time includes waiting for
an RCU grace period of the kernel. CPU is of a drain, a report and its rendering as JSON each second.

{flows}
## Start and end, by devices

From the start of the process until the first packet is counted, and from the end of the window to the end of the process,
in which the kernel takes the programs off again. Each device has two programs. Nearly all of it is the kernel's own
waiting: it attaches and detaches a TCX program under the lock of all devices and waits for an RCU grace period each time
(`kernel/bpf/tcx.c`, `tcx_entry_sync`), which is some ticks of the kernel's timer: the table above has its length here, to be
held against half the time a device. Legacy filters (`--clsact`) know no such waiting, but outlive a netpath that is killed,
until the next start or `netpath cleanup` removes them. The report is written before the detaching.

{devices}
## Kernel memory

With the default flags, as the kernel accounts for it (`memlock` in `/proc/PID/fdinfo`). Per-CPU maps grow with the
number of CPUs that the machine may have, hash maps by an element each; the column for {MANY_CPUS} CPUs is computed from that.

{maps}
",
            machine = machine(cpus)?,
            figures = table(&self.figures),
            interleaved = markdown(
                &["flows in turn", "over empty", "found in their slot"],
                &self.interleaved.iter().map(Interleaved::row).collect::<Vec<_>>()
            ),
            traffic = whole_path::table(&self.traffic),
            flows = self.flows_table(),
            devices = self.devices_table(),
            maps = self.maps_table(cpus),
        ))
    }

    fn flows_table(&self) -> String {
        let head = [
            "flows",
            "drain",
            "a flow",
            "report",
            "a flow",
            "JSON",
            "table",
            "CPU of one core",
            "peak memory",
            "a flow",
        ];
        let rows = self.flows.iter().map(|(&count, samples)| {
            let value = |name: &str| samples.get(name).map_or(f64::NAN, |samples| median(samples));
            let each = |name: &str, scale: f64| value(name) * scale / f64::from(count);
            let ms = |name: &str| show(value(name), Unit::Ms);
            vec![
                thousands(count.into()),
                ms(DRAIN_MS),
                show(each(DRAIN_MS, 1e6), Unit::Ns),
                ms(REPORT_MS),
                show(each(REPORT_MS, 1e6), Unit::Ns),
                ms(JSON_MS),
                ms(TABLE_MS),
                show(value(CPU_MS) / 10.0, Unit::Percent),
                show(value(PEAK_MB), Unit::Mb),
                format!("{:.0} B", each(PEAK_MB, 1e6)),
            ]
        });
        markdown(&head, &rows.collect::<Vec<_>>())
    }

    fn devices_table(&self) -> String {
        let rows = self.starts.iter().map(|Starts { devices, tcx, clsact }| {
            let cells = [tcx, clsact].into_iter().flat_map(|started| {
                let all = |of: fn(&Started) -> f64| median(&started.iter().map(of).collect::<Vec<_>>());
                let times = [all(|started| started.first_packet_ms), all(|started| started.end_ms)];
                #[expect(clippy::cast_precision_loss, reason = "some thousand devices")]
                times.map(|ms| [show(ms, Unit::Ms), format!("{:.2} ms", ms / *devices as f64)])
            });
            [thousands(*devices as u64)].into_iter().chain(cells.flatten()).collect()
        });
        let head = [
            "devices",
            "to the first packet",
            "a device",
            "to the end",
            "a device",
            "first packet, `--clsact`",
            "a device",
            "to the end",
            "a device",
        ];
        markdown(&head, &rows.collect::<Vec<_>>())
    }

    fn maps_table(&self, cpus: u64) -> String {
        let many = |map: &MapSize| {
            map.memory_bytes + (MANY_CPUS * map.bytes_per_cpu()).saturating_sub(cpus * map.bytes_per_cpu())
        };
        let mut maps: Vec<&MapSize> = self.maps.iter().collect();
        maps.sort_by(|one, other| one.name.cmp(&other.name));
        let mut rows: Vec<Vec<String>> = maps
            .iter()
            .map(|map| {
                vec![
                    // What the drain waits with has no name.
                    if map.name.is_empty() { "(for waiting)".to_owned() } else { format!("`{}`", map.name) },
                    thousands(map.max_entries),
                    (map.key_bytes + map.value_bytes).to_string(),
                    thousands(map.memory_bytes),
                    thousands(map.bytes_per_cpu()),
                    thousands(many(map)),
                ]
            })
            .collect();
        let sum = |of: &dyn Fn(&MapSize) -> u64| thousands(self.maps.iter().map(of).sum());
        rows.push(vec![
            "all".to_owned(),
            String::new(),
            String::new(),
            sum(&|map| map.memory_bytes),
            sum(&MapSize::bytes_per_cpu),
            sum(&many),
        ]);
        let (here, there) = (format!("bytes on {cpus} CPUs"), format!("bytes on {MANY_CPUS} CPUs"));
        markdown(&["map", "elements", "bytes each", &here, "bytes a CPU", &there], &rows)
    }
}

/// CPU, kernel and date, in one line.
fn machine(cpus: u64) -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's release")?;
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Ok(format!(
        "{date}, {} × {}, Linux {}, {}, load average at the end {}.",
        cpus,
        model.unwrap_or("unknown CPU"),
        kernel.trim(),
        std::env::consts::ARCH,
        load.split(' ').next().unwrap_or_default()
    ))
}

/// With commas between thousands.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        assert_eq!([0, 999, 1_000, 65_536, 1_234_567].map(thousands), ["0", "999", "1,000", "65,536", "1,234,567"]);
    }
}
