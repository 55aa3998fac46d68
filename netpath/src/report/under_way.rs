//! What of a flow is between two hops when a window ends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What came in at the node's edge less what left by it. More: it was under way when the window ended, or was dropped. Less: it was
/// under way when the window began. Nothing where only one of the two is seen by design.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct UnderWay {
    /// `skb->len`.
    pub bytes: i64,
    /// Packets.
    pub packets: i64,
}

impl UnderWay {
    /// Whether as much left as came in.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}
