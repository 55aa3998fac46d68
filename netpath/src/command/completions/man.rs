//! Man pages: the command line, and what clap does not know of it.
//!
//! In: clap's description of the command line. Out: a page for netpath and for each subcommand, as `man(7)` wants it.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// Terms, and what they mean.
type List = &'static [(&'static str, &'static str)];

const EXIT_STATUS: List = &[("0", "Success."), ("1", "It failed; a line on stderr says why."), ("2", "Wrong usage.")];
const OF_A_COMMAND: List = &[
    ("124", "COMMAND was ended, since it ran longer than --duration."),
    ("126", "COMMAND cannot be run."),
    ("127", "There is no such COMMAND."),
    ("any other", "The exit status of COMMAND, or 128 and the number of the signal that ended it."),
];
const OF_DOCTOR: List =
    &[("0", "netpath can measure this node correctly."), ("1", "It cannot, or not correctly."), ("2", "Wrong usage.")];

const LOG: List = &[("NETPATH_LOG", "What to log to stderr, by module: netpath=info, or netpath::node=debug.")];
const OF_ENIS: List = &[
    ("NETPATH_OFFLINE", "As --offline, if set to anything but 0, false, no or off."),
    ("AWS_EC2_METADATA_DISABLED", "If true, the instance metadata service is not asked."),
    (
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "Where the instance metadata service is, as http://ADDRESS or http://ADDRESS:PORT.",
    ),
    (
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
        "IPv4 or IPv6: by which of its two addresses the instance metadata service is asked.",
    ),
];
const OF_STDIN: List = &[(
    "NETPATH_END_WITH_STDIN",
    "If set, stdin is a pipe whose end ends the measurement, as Ctrl-C does: for what hands on no signals, such as kubectl exec.",
)];
const OF_TEXT: List = &[
    ("NO_COLOR", "If set, tables have no colours."),
    ("COLUMNS", "How wide help and tables are, where the terminal's width is not known."),
];

const FILES: List = &[
    ("/proc, /sys", "Devices, processes and the kernel's settings. Both must be mounted."),
    ("/etc/services", "Names of ports, for --port."),
    ("/var/run/aws-node/ipam.json", "Pods' addresses, by the VPC CNI."),
    ("/run/containerd/containerd.sock, /run/crio/crio.sock", "The container runtime, for names of pods."),
    ("/var/log/pods", "Names of pods."),
    ("/sys/kernel/btf/vmlinux, /proc/kallsyms", "How to read packets that the kernel drops, and names of the places."),
];
const FILES_OF_DEVICES: List = &[("/proc, /sys", "Devices, and what their drivers are.")];
const FILES_OF_REPLAY: List = &[("/etc/services", "Names of ports, for --port.")];
const NO_FILES: List = &[("none", "It reads no file.")];

/// Each page with its file's name.
pub fn pages(root: Command) -> Vec<(String, Vec<u8>)> {
    let mut root = root.disable_help_subcommand(true);
    root.build();
    let names: Vec<String> = std::iter::once(&root).chain(root.get_subcommands()).map(name).collect();
    let commands = std::iter::once(&root).chain(root.get_subcommands());
    commands.map(|command| (format!("{}.1", name(command)), page(command, &names))).collect()
}

/// `netpath-report`.
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: &Command, all: &[String]) -> Vec<u8> {
    let man = Man::new(command.clone()).source(concat!("netpath ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    // A write to memory does not fail.
    let _ = man.render_title(&mut page);
    let _ = man.render_name_section(&mut page);
    let _ = man.render_synopsis_section(&mut page);
    let _ = man.render_description_section(&mut page);
    let _ = man.render_options_section(&mut page);
    if command.has_subcommands() {
        let _ = man.render_subcommands_section(&mut page);
    }
    let mut roff = Roff::default();
    if let Some(notes) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        roff.control("SH", ["EXAMPLES AND NOTES"]);
        for line in notes.to_string().lines() {
            // Examples as they are; the rest fills the width.
            let is_example = line.starts_with(' ');
            roff.control(if is_example { "nf" } else { "fi" }, []);
            if line.is_empty() {
                roff.control("PP", []);
            } else {
                roff.text([roman(line)]);
            }
        }
        roff.control("fi", []);
    }
    let [exit, environment, files] = lists(command.get_name());
    for (title, lists) in [("EXIT STATUS", exit), ("ENVIRONMENT", environment), ("FILES", files)] {
        roff.control("SH", [title]);
        for (term, meaning) in lists {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*meaning)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    let own = name(command);
    let pages = all.iter().filter(|other| **other != own).map(|other| format!("{other}(1)"));
    let others = ["ip(8)", "tc(8)", "conntrack(8)", "timeout(1)"].map(str::to_owned);
    roff.text([roman(pages.chain(others).collect::<Vec<_>>().join(", "))]);
    let _ = roff.to_writer(&mut page);
    page
}

/// Exit status, environment and files of a command.
fn lists(command: &str) -> [Vec<&'static (&'static str, &'static str)>; 3] {
    let of = |lists: &[List]| lists.iter().copied().flatten().collect();
    match command {
        "netpath" | "report" | "explain" | "trace" | "record" => {
            [of(&[EXIT_STATUS, OF_A_COMMAND]), of(&[LOG, OF_ENIS, OF_STDIN, OF_TEXT]), of(&[FILES])]
        }
        "doctor" => [of(&[OF_DOCTOR]), of(&[LOG, OF_ENIS, OF_TEXT]), of(&[FILES])],
        "devices" => [of(&[EXIT_STATUS]), of(&[LOG, OF_ENIS, OF_TEXT]), of(&[FILES_OF_DEVICES])],
        "replay" => [of(&[EXIT_STATUS]), of(&[LOG, OF_TEXT]), of(&[FILES_OF_REPLAY])],
        _ => [of(&[EXIT_STATUS]), of(&[LOG]), of(&[NO_FILES])],
    }
}
