//! `netpath devices --format json`.

use serde::Deserialize;

use super::{Eni, Ipam, Source};

#[derive(Clone, Debug, Deserialize)]
pub struct Devices {
    pub instance_id: Option<String>,
    pub devices: Vec<ListedDevice>,
    pub enis: Vec<Eni>,
    pub sources: Vec<Source>,
    pub ipam: Option<Ipam>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ListedDevice {
    pub name: String,
    pub altnames: Vec<String>,
    pub eni_evidence: Option<String>,
}

impl Devices {
    /// The device of this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn device(&self, name: &str) -> &ListedDevice {
        let found = self.devices.iter().find(|device| device.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {:#?}", self.devices))
    }
}
