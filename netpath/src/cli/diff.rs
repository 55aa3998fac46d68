//! Options of `netpath diff`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::FilterArgs;
use super::number::positive;
use crate::render::units::Units;
use crate::report::GroupBy;

/// Options of `netpath diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netpath diff before.json after.json         two reports (netpath report -f json -o FILE), or recordings
  netpath diff node-a.rec node-b.rec          a good node and a bad one
  netpath diff monday.rec tuesday.rec --group-by workload
                                              pods that were replaced have other names, their workloads have not
  netpath diff a.rec b.rec --namespace shop -f json | jq '.comparisons[0].changes[0]'
  netpath replay node.rec --from 14:05 --to 14:10 -f json -o part.json
                                              a part of a recording, to compare it

Rates are compared, since the two may be of different length. Needs no root.")]
pub struct DiffArgs {
    /// A report (JSON) or a recording: the earlier time, or the node as it should be; '-' is stdin.
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,
    /// Another one: the later time, or the other node.
    #[arg(value_name = "AFTER")]
    pub after: PathBuf,
    /// What to compare by [default: path, pod and service].
    #[arg(long, value_enum, value_name = "WHAT")]
    pub group_by: Vec<GroupBy>,
    /// Format of the comparison; the schema of JSON is `netpath.diff/1`.
    #[arg(short, long, value_enum, default_value_t = DiffFormat::Table)]
    pub format: DiffFormat,
    /// Write to this file instead of stdout; '-' is stdout.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Show this many of the pods, services and the like that changed most; CSV and JSON have all.
    #[arg(short = 'n', long, value_name = "N", default_value = "10", value_parser = positive::<usize>, allow_negative_numbers = true)]
    pub top: usize,
    /// Units of the table: decimal (1 kB = 1000 bytes) or binary (1 KiB = 1024 bytes).
    #[arg(long, value_enum, default_value_t = Units::Si)]
    pub units: Units,
    /// Which flows to compare.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// An output format of `netpath diff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people.
    Table,
    /// For tickets: GitHub's markdown.
    Markdown,
    /// Schema `netpath.diff/1`.
    Json,
    /// For spreadsheets: a line for each change.
    Csv,
}
