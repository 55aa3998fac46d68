//! `netpath cleanup`: removes what a killed netpath left behind, and says what that was.
//!
//! In: the arguments. Out: a line on stdout for each filter. There can be something only where legacy filters are attached:
//! TCX links end with their process.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use super::output::Output;
use crate::cli::CleanupArgs;
use crate::kernel::stale_filters::{self, OwnFilter};
use crate::locale;
use crate::model::Direction;
use crate::node::devices::{self, EniChoice};
use crate::sanitise::sanitise;

/// Runs the subcommand.
pub fn run(args: &CleanupArgs) -> anyhow::Result<ExitCode> {
    let links = devices::list(&EniChoice::new(&[])?)?;
    let names: BTreeMap<u32, &str> = links.iter().map(|link| (link.ifindex, link.name.as_str())).collect();
    let found = stale_filters::find(names.keys().copied()).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => anyhow::anyhow!(
            "missing CAP_SYS_ADMIN, so netpath cannot tell which filters a running netpath uses; run 'netpath cleanup' as root (sudo)"
        ),
        _ => anyhow::Error::new(error).context("cannot look for filters; run 'netpath cleanup' again"),
    })?;
    let (used, unused): (Vec<_>, Vec<_>) = found.into_iter().partition(|filter| filter.is_used);
    if !args.dry_run {
        stale_filters::remove(&unused).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => {
                anyhow::anyhow!("missing CAP_NET_ADMIN to remove filters; run 'netpath cleanup' as root (sudo)")
            }
            _ => anyhow::Error::new(error).context("cannot remove a filter; run 'netpath cleanup' again"),
        })?;
    }
    Output::Stdout.write(|mut out| write(&mut out, &names, &unused, used.len(), args.dry_run))?;
    Ok(ExitCode::SUCCESS)
}

fn write(
    out: &mut impl Write,
    names: &BTreeMap<u32, &str>,
    unused: &[OwnFilter],
    used: usize,
    dry_run: bool,
) -> io::Result<()> {
    let done = if dry_run { "would remove" } else { "removed" };
    for filter in unused {
        let direction = match filter.direction {
            Direction::Rx => "rx",
            Direction::Tx => "tx",
        };
        let name = sanitise(names.get(&filter.ifindex).unwrap_or(&"?"));
        let name = locale::text(&name);
        let OwnFilter { program, priority, handle, .. } = filter;
        writeln!(out, "{done}: {program} on {name} {direction} (priority {priority}, handle {handle:#x})")?;
    }
    if unused.is_empty() {
        writeln!(out, "nothing to remove: no earlier netpath left a filter in this network namespace")?;
    } else {
        writeln!(out, "kept: the clsact qdiscs, since others may use them; without filters they do nothing")?;
    }
    if used > 0 {
        writeln!(out, "kept: {used} filters of a running netpath")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unused: &[OwnFilter], used: usize, dry_run: bool) -> String {
        let mut out = Vec::new();
        write(&mut out, &BTreeMap::from([(7, "a\u{1b}[2J")]), unused, used, dry_run).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn nothing() {
        assert!(text(&[], 0, false).starts_with("nothing to remove"));
        assert!(text(&[], 4, false).ends_with("\nkept: 4 filters of a running netpath\n"));
    }
}
