//! Kernels × checks: what came of each. Pure, but for the date.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use super::packages::Kernel;
use crate::architecture::Architecture;
use crate::process::output;

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// The machine did not say.
    NotRun,
}

/// The results.
pub struct Matrix {
    checks: Vec<String>,
    kernels: Vec<String>,
    outcomes: BTreeMap<(String, String), Outcome>,
}

impl Matrix {
    /// Without any result.
    pub fn new(checks: Vec<String>) -> Self {
        Self { checks, kernels: Vec::new(), outcomes: BTreeMap::new() }
    }

    /// Takes a check's result from what a machine said.
    pub fn take(&mut self, kernel: &Kernel, check: &str, said: &str) -> Outcome {
        if !self.kernels.contains(&kernel.release) {
            self.kernels.push(kernel.release.clone());
        }
        let outcome = outcome(check, said);
        self.outcomes.insert((kernel.release.clone(), check.to_owned()), outcome);
        outcome
    }

    /// How many checks did not pass.
    pub fn failed(&self) -> usize {
        let all = self.kernels.iter().flat_map(|kernel| self.checks.iter().map(move |check| (kernel, check)));
        all.filter(|(kernel, check)| self.outcome(kernel, check) != Outcome::Passed).count()
    }

    fn outcome(&self, kernel: &str, check: &str) -> Outcome {
        self.outcomes.get(&(kernel.to_owned(), check.to_owned())).copied().unwrap_or(Outcome::NotRun)
    }

    /// As a Markdown table, which is readable as text, too.
    pub fn text(&self) -> String {
        let width = self.checks.iter().map(String::len).max().unwrap_or(0);
        let mut text = format!("| {:width$} |", "");
        for kernel in &self.kernels {
            let _ = write!(text, " {kernel} |");
        }
        let _ = write!(text, "\n| {:-<width$} |", "");
        for kernel in &self.kernels {
            let _ = write!(text, " {:-<1$} |", "", kernel.len());
        }
        for check in &self.checks {
            let _ = write!(text, "\n| {:width$} |", check.replace('_', " "));
            for kernel in &self.kernels {
                let word = match self.outcome(kernel, check) {
                    Outcome::Passed => "passed",
                    Outcome::Failed => "FAILED",
                    Outcome::NotRun => "NOT RUN",
                };
                let _ = write!(text, " {word:0$} |", kernel.len());
            }
        }
        text.push('\n');
        text
    }

    /// The document.
    ///
    /// # Errors
    /// When the date cannot be told.
    pub fn document(&self, architecture: Architecture) -> Result<String> {
        let date = output(Command::new("date").args(["-u", "+%F"]))?;
        Ok(format!(
            "# On which kernels netpath was tested: {0}\n\n\
             <!-- Written by `cargo xtask kernels --target {0}`; do not edit. -->\n\n\
             {1}, Debian's kernels for virtual machines, in qemu. Each check is a test of that name in\n\
             [kernels](../tests/tests/kernels/main.rs) or [programs](../tests/tests/programs/main.rs). Before Linux 6.6 netpath attaches\n\
             legacy filters (clsact); from there on each check of kernels that is about hooks is done with TCX, and once more with\n\
             legacy filters.\n\n{2}",
            architecture.name(),
            date.trim(),
            self.text()
        ))
    }
}

/// What Rust's test harness printed of a test: `test NAME ... ok`.
fn outcome(check: &str, said: &str) -> Outcome {
    let result = said.lines().find_map(|line| line.strip_prefix("test ")?.strip_prefix(check)?.strip_prefix(" ... "));
    match result {
        Some("ok") => Outcome::Passed,
        Some(result) if result.starts_with("FAILED") => Outcome::Failed,
        _ => Outcome::NotRun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_machine_says_has_passed() {
        let said = "boot\ntest a_b ... ok\ntest c ... FAILED\ntest d ... ignored\ntest e ... \n";
        assert_eq!(outcome("a_b", said), Outcome::Passed);
        assert_eq!(outcome("c", said), Outcome::Failed);
        for check in ["a", "d", "e", "f"] {
            assert_eq!(outcome(check, said), Outcome::NotRun, "{check}");
        }
    }

    #[test]
    fn what_did_not_run_is_shown_and_counted() {
        let mut matrix = Matrix::new(vec!["a_b".into(), "c".into()]);
        let kernel = Kernel { release: "5.10.0-cloud".into(), image: "i".into(), modules: "m".into() };
        matrix.take(&kernel, "a_b", "test a_b ... ok\n");
        assert_eq!(matrix.failed(), 1);
        assert_eq!(
            matrix.text(),
            "|     | 5.10.0-cloud |\n| --- | ------------ |\n| a b | passed       |\n| c   | NOT RUN      |\n"
        );
    }
}
