//! `netpath doctor --format json`.

use serde::Deserialize;

use super::show;

#[derive(Clone, Debug, Deserialize)]
pub struct Diagnosis {
    pub schema: String,
    pub level: String,
    pub findings: Vec<Finding>,
    pub devices: Vec<DiagnosedDevice>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    pub check: String,
    pub level: String,
    pub found: String,
    pub todo: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct DiagnosedDevice {
    pub name: String,
    pub class: String,
    pub level: String,
    pub found: Option<String>,
    pub rx: Vec<String>,
    pub tx: Vec<String>,
}

show!(Diagnosis, Finding, DiagnosedDevice);

impl Diagnosis {
    /// What was found of this check.
    ///
    /// # Panics
    /// When it was not made.
    #[must_use]
    #[track_caller]
    pub fn finding(&self, check: &str) -> &Finding {
        let found = self.findings.iter().find(|finding| finding.check == check);
        found.unwrap_or_else(|| panic!("no {check} in {self:#}"))
    }

    /// The device of this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn device(&self, name: &str) -> &DiagnosedDevice {
        let found = self.devices.iter().find(|device| device.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {self:#}"))
    }
}
