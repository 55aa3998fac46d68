//! `netpath record`: measures window after window, and keeps each in a file.
//!
//! In: the options. Out: the file or stdout, a line on stderr, and the exit status of the command that was measured, if there was one.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};

use super::measure::{Plan, Windows, measure};
use super::output::{Output, Reader};
use super::reason_not_made;
use crate::cli::RecordArgs;
use crate::privilege;
use crate::record::{Recording, member};
use crate::render::labels::counted;

/// Records.
pub fn run(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    if args.file == Path::new("-") {
        return to_stdout(args);
    }
    let name = args.file.display().to_string().escape_debug().to_string();
    let mut recording = Recording::create(&args.file, args.max_size.as_u64())
        .map_err(|error| anyhow!("cannot make {name}: {}; name another file", reason_not_made(&error)))?;
    let plan = Plan { windows: windows(args), writes_file: true, json_on_stdout: false, ..Plan::default() };
    let status = measure(&args.measure, plan, |snapshot| {
        let added = privilege::to_write_a_file(|| Ok(recording.add(&snapshot)))?;
        added.map_err(|error| {
            let (windows, _) = recording.windows();
            let before = counted(windows, "window");
            anyhow!("cannot write {name}: {}; it has the {before} before", reason_not_made(&error))
        })?;
        Ok(Reader::Reads)
    })?;
    let ((windows, gone), bytes) = (recording.windows(), recording.bytes());
    let older = if gone > 0 {
        format!("; {} went, as the file was full", counted(gone, "older window"))
    } else {
        String::new()
    };
    eprintln!("netpath: {} in {name}, {bytes} bytes{older}", counted(windows, "window"));
    Ok(status)
}

/// Writes each window as it ends. What is written cannot go again, so that no size is a limit.
fn to_stdout(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let mut output = Output::open(None)?;
    let plan = Plan { windows: windows(args), json_on_stdout: true, ..Plan::default() };
    measure(&args.measure, plan, |snapshot| {
        let window = member(&snapshot).context("cannot compress a window; run it again")?;
        output.write(|out| out.write_all(&window))
    })
}

fn windows(args: &RecordArgs) -> Windows {
    Windows { interval: Some(args.interval), count: None }
}
