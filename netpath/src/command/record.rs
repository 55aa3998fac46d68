//! `netpath record`: measures window after window, and keeps each in a file.
//!
//! In: the options. Out: the file, a line on stderr, and the exit status of the command that was measured, if there was one.

use std::process::ExitCode;

use anyhow::anyhow;

use super::measure::{Plan, Windows, measure};
use super::output::Reader;
use super::reason_not_made;
use crate::cli::RecordArgs;
use crate::privilege;
use crate::record::Recording;
use crate::render::labels::counted;

/// Records.
pub fn run(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let name = args.file.display().to_string().escape_debug().to_string();
    let mut recording = Recording::create(&args.file, args.max_size.as_u64())
        .map_err(|error| anyhow!("cannot make {name}: {}; name another file", reason_not_made(&error)))?;
    let plan = Plan {
        windows: Windows { interval: Some(args.interval), count: None },
        writes_file: true,
        json_on_stdout: false,
        ..Plan::default()
    };
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
