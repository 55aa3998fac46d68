//! Why netpath did not see all traffic of a device.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Direction;

/// Why not all traffic of a device was seen.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Blind {
    /// It appeared while the window was being closed.
    Late,
    /// netpath could not be attached.
    NotAttached {
        /// Why, as one line.
        reason: String,
    },
    /// Another program took netpath's off the hook.
    TakenOff {
        /// The hook.
        direction: Direction,
        /// What is on the hook instead; empty if nothing is.
        present: Vec<String>,
    },
    /// It could not be checked that netpath's programs stayed on its hooks.
    Unchecked {
        /// Why, as one line.
        reason: String,
    },
    /// Programs that run before netpath's kept packets from it.
    Ahead {
        /// The hook.
        direction: Direction,
        /// These programs.
        programs: Vec<String>,
        /// Bytes that the device counted and netpath did not see; `null` without the device's counters.
        hidden_bytes: Option<i64>,
    },
}

/// A clause without a full stop. Names in it are as the kernel has them.
impl fmt::Display for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => write!(f, "it appeared when the window was being closed"),
            Self::NotAttached { reason } => write!(f, "netpath could not attach to it: {reason}"),
            Self::TakenOff { direction, present } => {
                let present = if present.is_empty() { "nobody".to_owned() } else { present.join(", ") };
                let hook = hook(*direction);
                write!(
                    f,
                    "its {hook} hook lost netpath's program in the window: another program removed it; now there: {present}"
                )
            }
            Self::Unchecked { reason } => {
                write!(f, "netpath could not check that its programs stayed on the hooks: {reason}")
            }
            Self::Ahead { direction, programs, hidden_bytes } => {
                write!(f, "before netpath on its {} hook: {}; ", hook(*direction), programs.join(", "))?;
                match hidden_bytes {
                    Some(bytes) => write!(f, "{bytes} bytes that the device counted did not reach netpath"),
                    None => write!(
                        f,
                        "without the device's counters, netpath cannot tell whether packets were kept from it"
                    ),
                }
            }
        }
    }
}

const fn hook(direction: Direction) -> &'static str {
    match direction {
        Direction::Rx => "ingress",
        Direction::Tx => "egress",
    }
}
