//! Where each window goes besides `/metrics`, as the options say.
//!
//! In: reports. Out: what each exporter makes of them, on the thread that judges windows.

use std::sync::Arc;

use anyhow::anyhow;
use jiff::Timestamp;

use super::super::reason_not_made;
use crate::cli::ServeArgs;
use crate::report::Report;
use crate::serve::emf::{Events, Queue};
use crate::serve::flows::{self, Counts, Writer};
use crate::serve::metric::Metric;
use crate::serve::names::Names;
use crate::serve::otlp::Exporter;
use crate::serve::state::State;

/// The exporters that the options ask for.
pub struct Exports {
    pub emf: Option<(Events, Queue)>,
    pub flows: Option<Writer>,
    pub otlp: Option<Exporter>,
    pub state: Arc<State>,
}

impl Exports {
    /// Hands a window on to all of them. It is in the state already.
    pub fn add(&mut self, report: &Report) {
        if let Some((events, queue)) = &mut self.emf {
            queue.push(events.of(report));
        }
        if let Some(flows) = &mut self.flows {
            let counts = flows.add(report);
            self.count(counts);
        }
        if let Some(otlp) = &mut self.otlp {
            otlp.add(report);
        }
    }

    /// There are no more windows.
    pub fn finish(mut self) {
        if let Some(mut flows) = self.flows.take() {
            self.count(flows.finish());
        }
    }

    /// Looks whether flow records can be written, by the rights of this thread.
    pub fn open_flows(&mut self, choice: flows::Choice) -> anyhow::Result<()> {
        let folder = choice.folder.display().to_string().escape_debug().to_string();
        let writer = Writer::open(choice, Timestamp::now()).map_err(|error| {
            anyhow!("cannot write flow records into {folder}: {}; name another folder", reason_not_made(&error))
        })?;
        self.flows = Some(writer);
        self.count(Counts::default());
        Ok(())
    }

    fn count(&self, counts: Counts) {
        self.state.count(Metric::FlowRecordsWritten, &[], counts.written);
        self.state.count(Metric::FlowRecordsDropped, &[], counts.dropped);
    }
}

/// Which flow records there are to be, if any.
pub fn flow_choice(args: &ServeArgs, names: &Names) -> Option<flows::Choice> {
    Some(flows::Choice {
        folder: args.flows.clone()?,
        most_bytes: args.flows_max_size.as_u64(),
        longest: args.flows_max_age,
        names: names.clone(),
    })
}
