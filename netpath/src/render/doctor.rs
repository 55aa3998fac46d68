//! Writes what `netpath doctor` found: a table for people, JSON (schema `netpath.doctor/1`) for programs.
//!
//! In: a diagnosis. Out: text. The table sanitises what it prints; JSON escapes it, so that it reads the same.

use std::io::{self, Write};
use std::iter::{once, repeat};

use super::block::{Screen, write_hanging, write_wrapped};
use super::labels::device_class;
use crate::doctor::devices::Device;
use crate::doctor::{Diagnosis, Level};
use crate::sanitise::sanitise;

/// Writes it as JSON.
///
/// # Errors
/// If `out` fails.
pub fn json(diagnosis: &Diagnosis, out: &mut impl Write) -> io::Result<()> {
    super::json::write(diagnosis, out)
}

/// Writes it for people: the verdict, each finding with what to do, then the devices that somebody is on or that something
/// is wrong with.
///
/// # Errors
/// If `out` fails.
pub fn table(diagnosis: &Diagnosis, out: &mut impl Write, screen: &Screen) -> io::Result<()> {
    let verdict = match diagnosis.level {
        Level::Skipped | Level::Ok => "netpath can measure this node correctly.",
        Level::Warn => "netpath can measure this node correctly. Check the WARN lines.",
        Level::Fail => "netpath cannot measure this node correctly. Fix the FAIL lines first.",
    };
    write_wrapped(out, screen, verdict, 0)?;
    writeln!(out)?;
    for finding in &diagnosis.findings {
        let before = format!("  {:<7}  {:<12}  ", level(finding.level), finding.check);
        write_hanging(out, screen, &before, &sanitise(&finding.found))?;
        todo(finding.todo.as_deref(), out, screen)?;
    }
    let worth = |device: &&Device| device.found.is_some() || !(device.rx.is_empty() && device.tx.is_empty());
    let devices: Vec<&Device> = diagnosis.devices.iter().filter(worth).collect();
    let measured = diagnosis.devices.iter().filter(|device| device.measured).count();
    writeln!(out, "\nOTHER PROGRAMS ON DEVICES   {} of {measured} measured", devices.len())?;
    for device in devices {
        let what = format!("{} ({})", sanitise(&device.name), device_class(device.class));
        write_hanging(out, screen, &format!("  {:<7}  ", level(device.level)), &what)?;
        for (hook, programs) in [("ingress", &device.rx), ("egress", &device.tx)] {
            // In the order in which packets meet them.
            for (program, hook) in programs.iter().zip(once(hook).chain(repeat(""))) {
                write_hanging(out, screen, &format!("{INDENT}{hook:<7}  "), &sanitise(program))?;
            }
        }
        if let Some(found) = &device.found {
            write_hanging(out, screen, INDENT, &sanitise(found))?;
        }
        todo(device.todo.as_deref(), out, screen)?;
    }
    Ok(())
}

/// Below the level of a finding.
const INDENT: &str = "           ";

fn todo(todo: Option<&str>, out: &mut impl Write, screen: &Screen) -> io::Result<()> {
    todo.map_or(Ok(()), |todo| write_hanging(out, screen, &format!("{INDENT}→ "), &sanitise(todo)))
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Skipped => "skipped",
        Level::Ok => "ok",
        Level::Warn => "WARN",
        Level::Fail => "FAIL",
    }
}
