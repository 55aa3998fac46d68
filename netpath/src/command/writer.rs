//! Reports as the options ask for: filtered, grouped, in their format, to where they go.
//!
//! In: the options, and reports. Out: what is written. Everything that can be found wrong before is found when it is made.

use std::path::Path;

use super::output::{Output, Reader};
use super::resolve_ports;
use super::screen::screen;
use crate::cli::{Format, ShowArgs, ViewArgs};
use crate::path::select::Filter;
use crate::render::block::Screen;
use crate::render::html::Slice;
use crate::render::report::View;
use crate::report::Report;
use crate::{path, render};

/// Writes one report after the other.
pub struct Writer<'a> {
    args: &'a ShowArgs,
    filter: Filter,
    output: Output,
    view: View,
    screen: Screen,
    is_first: bool,
    /// The windows of what is written, for a page.
    slices: Vec<Slice>,
}

impl<'a> Writer<'a> {
    /// Opens what is written to. Ports by name are those of the host, whose files are in `host_root`; `None` to find it.
    pub fn new(args: &'a ShowArgs, host_root: Option<&Path>) -> anyhow::Result<Self> {
        let mut filter = args.filter.filter();
        resolve_ports(&mut filter, host_root)?;
        let output = Output::open(args.output.as_deref())?;
        let (view, screen) = (view(&args.view), screen(&output));
        Ok(Self { args, filter, output, view, screen, is_first: true, slices: Vec::new() })
    }

    /// Whether reports go to a regular file.
    pub fn writes_file(&self) -> bool {
        matches!(self.output, Output::File { .. })
    }

    /// Whether JSON goes to stdout.
    pub fn json_on_stdout(&self) -> bool {
        self.args.format == Format::Json && matches!(self.output, Output::Stdout)
    }

    /// Whether reports become one page.
    pub fn is_page(&self) -> bool {
        self.args.format == Format::Html
    }

    /// Notes a window of the report that is to be written, for the page's picture of them.
    pub fn note_window(&mut self, mut report: Report) {
        path::select::select(&mut report, &self.filter);
        self.slices.push(Slice::of(&report));
    }

    /// Writes a report.
    pub fn write(&mut self, mut report: Report) -> anyhow::Result<Reader> {
        let args = self.args;
        path::select::select(&mut report, &self.filter);
        if let Some(by) = args.group_by {
            path::group::group(&mut report, by);
        }
        let separate = !std::mem::replace(&mut self.is_first, false);
        let Self { output, view, screen, slices, .. } = self;
        output.write(|mut out| match args.format {
            Format::Table => {
                if separate {
                    writeln!(out)?;
                }
                render::table::write(&report, &mut out, view, screen)
            }
            Format::Html => render::html::write(&report, slices, &mut out, view),
            Format::Csv => render::csv::write(&report, &mut out, view, !separate),
            Format::Markdown => render::markdown::write(&report, &mut out, view, screen),
            // One of many.
            Format::Json if report.window.interval_ns.is_some() => render::json::write_line(&report, &mut out),
            Format::Json => render::json::write(&report, &mut out),
        })
    }
}

fn view(args: &ViewArgs) -> View {
    View {
        top: args.top,
        flows: args.flows,
        devices: args.devices,
        enis: args.enis,
        names: args.names,
        wide: args.wide,
        all: args.all,
        units: args.units,
        per_second: args.per_second,
    }
}
