//! What of a report the table shows.

use clap::Args;

use super::number::positive;
use crate::render::units::Units;

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
    /// Show everything: all blocks, columns and rows.
    #[arg(long)]
    pub all: bool,
    /// Show average bytes per second instead of sums.
    #[arg(long)]
    pub per_second: bool,
    /// Units of the table: decimal (1 kB = 1000 bytes) or binary (1 KiB = 1024 bytes).
    #[arg(long, value_enum, default_value_t = Units::Si)]
    pub units: Units,
}
