//! Where files of records are, and what they are called: `KIND/date=2026-01-31/hour=14/node=NAME/20260131T140500Z-0000.json.gz`.
//!
//! In: a file's kind, time and number. Out: its path below the folder, and back. Pure. Engines take `date`, `hour` and `node` for columns.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::Offset;

/// Seconds of an hour.
pub const HOUR: i64 = 3_600;
/// Longest name of a folder, `NAME_MAX`.
const LONGEST: usize = 255;
const NODE: &str = "node=";
/// Behind a file's name while it is being written.
const UNFINISHED: &str = ".unfinished";
const EXTENSION: &str = ".json.gz";

/// What the records of a file are. Of an hour, those come last that make the others understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `netpath.flow/1`.
    Flow,
    /// `netpath.window/1`.
    Window,
    /// `netpath.eni/1`.
    Eni,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Flow, Self::Window, Self::Eni];

    /// Its folder.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Flow => "netpath.flow",
            Self::Eni => "netpath.eni",
            Self::Window => "netpath.window",
        }
    }
}

/// A file of records; what is to be removed first comes first: the oldest hour's flows, then its other files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The hour of that.
    hour: i64,
    /// What is in it.
    pub kind: Kind,
    /// When its first window began, in seconds since 1970.
    pub start: i64,
    /// Tells files apart that begin in the same second.
    pub number: u16,
}

/// A node's name as the name of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFolder(String);

impl NodeFolder {
    /// Of any name; `None` if it is empty or too long. Whatever engines or file systems could mistake is written as `%2F`, as they
    /// read it.
    #[must_use]
    pub fn new(node: &str) -> Option<Self> {
        let mut folder = NODE.to_owned();
        for byte in node.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
                folder.push(char::from(byte));
            } else {
                let _ = write!(folder, "%{byte:02X}");
            }
        }
        (!node.is_empty() && folder.len() <= LONGEST).then_some(Self(folder))
    }
}

/// The hour that a time is in, since 1970.
#[must_use]
pub const fn hour(start: i64) -> i64 {
    start.div_euclid(HOUR)
}

impl AsRef<Path> for NodeFolder {
    fn as_ref(&self) -> &Path {
        self.0.as_ref()
    }
}

impl Name {
    /// The first file of that second.
    #[must_use]
    pub const fn new(kind: Kind, start: i64) -> Self {
        Self { hour: hour(start), kind, start, number: 0 }
    }

    /// The last moment for which it may be needed: ENIs are those of the whole hour.
    #[must_use]
    pub const fn needed_until(self) -> i64 {
        match self.kind {
            Kind::Eni => self.hour * HOUR + HOUR - 1,
            Kind::Flow | Kind::Window => self.start,
        }
    }

    /// Its folder.
    #[must_use]
    pub fn folder(self, node: &NodeFolder) -> PathBuf {
        let time = self.time("date=%Y-%m-%d/hour=%H");
        [Path::new(self.kind.folder()), Path::new(&time), node.as_ref()].iter().collect()
    }

    /// Its name in that.
    #[must_use]
    pub fn file(self) -> String {
        format!("{}-{:04}{EXTENSION}", self.time("%Y%m%dT%H%M%SZ"), self.number)
    }

    /// The same while it is being written: nobody's pattern takes that for a file of records.
    #[must_use]
    pub fn unfinished(self) -> String {
        format!(".{}{UNFINISHED}", self.file())
    }

    /// Of a file in a folder of a kind. `None` if netpath does not write files of this name.
    #[must_use]
    pub fn parse(kind: Kind, file: &str) -> Option<Self> {
        let (start, number) = file.strip_suffix(EXTENSION)?.split_once('-')?;
        let start = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", start).ok()?.to_datetime().ok()?;
        let start = Offset::UTC.to_timestamp(start).ok()?.as_second();
        let name = Self { number: number.parse().ok()?, ..Self::new(kind, start) };
        (name.file() == file).then_some(name)
    }

    /// Of a file that was not finished.
    #[must_use]
    pub fn parse_unfinished(kind: Kind, file: &str) -> Option<Self> {
        Self::parse(kind, file.strip_prefix('.')?.strip_suffix(UNFINISHED)?)
    }

    fn time(self, format: &str) -> String {
        let start = Timestamp::from_second(self.start).unwrap_or_default();
        Offset::UTC.to_datetime(start).strftime(format).to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> Name {
        let start: Timestamp = "2026-01-31T14:05:09.9Z".parse().expect("a time");
        Name { number: 7, ..Name::new(Kind::Flow, start.as_second()) }
    }

    #[test]
    fn where_a_file_is() {
        let node = NodeFolder::new("ip-10-0-0-5.ec2.internal").expect("a name");
        let folder = "netpath.flow/date=2026-01-31/hour=14/node=ip-10-0-0-5.ec2.internal";
        assert_eq!(name().folder(&node), Path::new(folder));
        assert_eq!(name().file(), "20260131T140509Z-0007.json.gz");
        assert_eq!(name().unfinished(), ".20260131T140509Z-0007.json.gz.unfinished");
        assert_eq!(Name::parse(Kind::Flow, &name().file()), Some(name()));
        assert_eq!(Name::parse_unfinished(Kind::Flow, &name().unfinished()), Some(name()));
    }

    #[test]
    fn what_is_no_file_of_netpaths() {
        for file in [
            "",
            "20260131T140509Z-0007.json",
            "20260131T140509Z-7.json.gz",
            "20260131T140509Z-+007.json.gz",
            "20260131T140509Z-99999.json.gz",
            "20260231T140509Z-0007.json.gz",
            "20260131T140509Z.json.gz",
            " 20260131T140509Z-0007.json.gz",
            "../20260131T140509Z-0007.json.gz",
            ".20260131T140509Z-0007.json.gz.unfinished",
        ] {
            assert_eq!(Name::parse(Kind::Flow, file), None, "{file:?}");
        }
        assert_eq!(Name::parse_unfinished(Kind::Flow, &name().file()), None);
    }

    #[test]
    fn names_of_nodes() {
        let of = |node: &str| NodeFolder::new(node).map(|folder| folder.0);
        assert_eq!(of("../../etc"), Some("node=..%2F..%2Fetc".to_owned()));
        assert_eq!(of("a=b c%\n\0ü"), Some("node=a%3Db%20c%25%0A%00%C3%BC".to_owned()));
        assert_eq!((of(""), of(&"a".repeat(251)), of(&"/".repeat(84))), (None, None, None));
        assert!(of(&"a".repeat(250)).is_some());
    }

    proptest! {
        #[test]
        fn a_node_is_one_folder_and_no_two_have_the_same(one in ".{1,20}", other in ".{1,20}") {
            let folders = [&one, &other].map(|node| NodeFolder::new(node).expect("short enough"));
            let path: &Path = folders[0].as_ref();
            prop_assert_eq!(path.components().count(), 1);
            prop_assert!(path.is_relative() && path.file_name() == Some(path.as_os_str()));
            prop_assert_eq!(one == other, folders[0] == folders[1]);
        }

        #[test]
        fn names_are_read_as_they_are_written(start in 0_i64..253_402_300_799, number: u16) {
            for kind in Kind::ALL {
                let name = Name { number, ..Name::new(kind, start) };
                prop_assert_eq!(Name::parse(kind, &name.file()), Some(name));
            }
        }
    }
}
