//! The views, and the columns that each has.

use super::table::By;
use crate::path::conversations::Merge;
use crate::report::GroupBy;

/// What is listed. In the order of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Pods, or what they are part of.
    Pods,
    /// Who talks to whom.
    Conversations,
    /// Devices and ENIs.
    Devices,
    /// Services.
    Services,
    /// The parts of `node_network_total_bytes`.
    Terms,
}

impl View {
    /// All, in the order of their keys.
    pub const ALL: [Self; 5] = [Self::Pods, Self::Conversations, Self::Devices, Self::Services, Self::Terms];

    /// Of the key `1` and so on.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What is on its tab.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Pods => "Pods",
            Self::Conversations => "Conversations",
            Self::Devices => "Devices",
            Self::Services => "Services",
            Self::Terms => "CloudWatch",
        }
    }
}

/// How rows are grouped, where a view has more than one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// By what flows have in common.
    By(GroupBy),
    /// Conversations, merged so.
    Conversations(Merge),
    /// There is one way.
    None,
}

impl Grouping {
    /// The first of a view.
    #[must_use]
    pub const fn of(view: View) -> Self {
        match view {
            View::Pods => Self::By(GroupBy::Pod),
            View::Conversations => Self::Conversations(Merge::ClientPorts),
            View::Services => Self::By(GroupBy::Service),
            View::Devices | View::Terms => Self::None,
        }
    }

    /// The one after it; itself if the view has no other.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::By(GroupBy::Pod) => Self::By(GroupBy::Workload),
            Self::By(GroupBy::Workload) => Self::By(GroupBy::Namespace),
            Self::By(GroupBy::Namespace) => Self::By(GroupBy::Peer),
            Self::By(GroupBy::Peer) => Self::By(GroupBy::Path),
            Self::By(GroupBy::Path) => Self::By(GroupBy::Pod),
            Self::By(GroupBy::Service | GroupBy::Device) | Self::None => self,
            Self::Conversations(Merge::ClientPorts) => Self::Conversations(Merge::Nothing),
            Self::Conversations(Merge::Nothing) => Self::Conversations(Merge::ClientPorts),
        }
    }
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What is above it.
    pub heading: &'static str,
    /// What is in it.
    pub what: What,
    /// Only on screens of so many columns.
    pub from_width: u16,
}

/// What a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The word of this index: a name, which may be shortened.
    Name(usize),
    /// The word of this index, as it is.
    Word(usize),
    /// The amount of this index, in bytes.
    Bytes(usize),
    /// The amount of this index, which is a number.
    Count(usize),
    /// The same, of the last window even among totals: what lives on is in each window.
    Now(usize),
    /// The first amount's share of that of all rows.
    Share,
    /// The first amount over time.
    Trend,
}

impl What {
    /// What rows are sorted by, by this column; `None` if they cannot be.
    #[must_use]
    pub const fn by(self) -> Option<By> {
        match self {
            Self::Name(index) | Self::Word(index) => Some(By::Word(index)),
            Self::Bytes(index) | Self::Count(index) => Some(By::Amount(index)),
            Self::Now(index) => Some(By::Now(index)),
            Self::Share | Self::Trend => None,
        }
    }

    /// Whether it stands at the right of its column.
    #[must_use]
    pub const fn is_number(self) -> bool {
        matches!(self, Self::Bytes(_) | Self::Count(_) | Self::Now(_) | Self::Share)
    }
}

const fn column(heading: &'static str, what: What, from_width: u16) -> Column {
    Column { heading, what, from_width }
}

const BYTES: Column = column("BYTES", What::Bytes(0), 0);
const TREND: Column = column("TREND", What::Trend, 60);

/// The columns of a view; the first is the name.
#[must_use]
pub fn columns(view: View, grouping: Grouping) -> Vec<Column> {
    let group = |name, sent, received| {
        let sides = [column(sent, What::Bytes(1), 50), column(received, What::Bytes(2), 50)];
        let paths = [("ENI", 3), ("LOCAL", 4), ("HOST", 5), ("OTHER", 6)];
        let paths = paths.map(|(heading, index)| column(heading, What::Bytes(index), 110));
        let mut all = vec![column(name, What::Name(0), 0), BYTES];
        all.extend(sides);
        all.extend(paths);
        all.extend([column("FLOWS", What::Now(7), 70), TREND]);
        all
    };
    match (view, grouping) {
        (View::Conversations, _) => vec![
            column("FROM", What::Name(0), 0),
            column("TO", What::Name(1), 0),
            BYTES,
            column("SENT", What::Bytes(1), 110),
            column("RECEIVED", What::Bytes(2), 110),
            column("CONNS", What::Now(3), 70),
            column("DROPS", What::Count(4), 120),
            column("PATH", What::Word(2), 60),
            column("NAT", What::Word(3), 76),
            column("TREND", What::Trend, 90),
        ],
        (View::Devices, _) => vec![
            column("DEVICE", What::Name(0), 0),
            column("CLASS", What::Word(1), 60),
            BYTES,
            column("RX", What::Bytes(1), 50),
            column("TX", What::Bytes(2), 50),
            column("UNSEEN", What::Bytes(3), 100),
            column("UNEXPLAINED", What::Bytes(4), 110),
            column("POD OR ENI", What::Name(2), 70),
            TREND,
        ],
        (View::Terms, _) => vec![
            column("PART OF node_network_total_bytes", What::Name(0), 0),
            BYTES,
            column("SHARE", What::Share, 0),
            TREND,
        ],
        (_, Grouping::By(GroupBy::Workload)) => group("WORKLOAD", "SENT", "RECEIVED"),
        (_, Grouping::By(GroupBy::Namespace)) => group("NAMESPACE", "SENT", "RECEIVED"),
        (_, Grouping::By(GroupBy::Peer)) => group("PEER", "FROM PEER", "TO PEER"),
        (_, Grouping::By(GroupBy::Service)) => group("SERVICE", "SENT", "RECEIVED"),
        (_, Grouping::By(GroupBy::Path)) => vec![
            column("PATH", What::Name(0), 0),
            BYTES,
            column("SHARE", What::Share, 0),
            column("FLOWS", What::Now(7), 0),
            TREND,
        ],
        _ => group("POD", "SENT", "RECEIVED"),
    }
}
