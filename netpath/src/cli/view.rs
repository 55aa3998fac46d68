//! What of a report the table shows.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::FilterArgs;
use super::number::positive;
use crate::render::units::Units;
use crate::report::GroupBy;

/// What to show of a report, and how.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Format of the report. With JSON on stdout, what COMMAND writes to its stdout goes to stderr.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write the report to this file instead of stdout; '-' is stdout.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What to show.
    #[command(flatten)]
    pub view: ViewArgs,
    /// Sum flows by what they have in common, instead of listing conversations.
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "flows")]
    pub group_by: Option<GroupBy>,
    /// Which flows to report.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For tickets: GitHub's markdown.
    Markdown,
    /// Schema `netpath.report/1`.
    Json,
    /// For spreadsheets: conversations, or devices with --devices.
    Csv,
    /// For a browser: one file with pictures, tables that sort and filter, and the report's JSON. It asks nothing of any network.
    Html,
}

/// What the table shows.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to show")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub struct ViewArgs {
    /// Show this many conversations, groups or devices [default: as many as the terminal has
    /// room for, 20 at most].
    #[arg(short = 'n', long, value_name = "N", value_parser = positive::<usize>, allow_negative_numbers = true)]
    pub top: Option<usize>,
    /// Show each connection by itself, instead of merging a client's ports.
    #[arg(long)]
    pub flows: bool,
    /// Show what each device counted, and why that differs from what netpath saw.
    #[arg(long)]
    pub devices: bool,
    /// Show what is known of ENIs, and ipamd's numbers.
    #[arg(long)]
    pub enis: bool,
    /// Show where the names of pods come from.
    #[arg(long)]
    pub names: bool,
    /// Show all columns, and names in full.
    #[arg(long)]
    pub wide: bool,
    /// Show everything: all blocks, columns and rows. A page (html) has them anyway: 3,000 rows of each table without its script
    /// instead of 300, and 300 paths of flows instead of 20.
    #[arg(long)]
    pub all: bool,
    /// Show average bytes per second instead of sums.
    #[arg(long)]
    pub per_second: bool,
    /// Units of the table: decimal (1 kB = 1000 bytes) or binary (1 KiB = 1024 bytes).
    #[arg(long, value_enum, default_value_t = Units::Si)]
    pub units: Units,
}
