//! Whether a commit may be published as a version. In: what git and CHANGELOG.md say. Out: the version's section, or why not. Pure.

use anyhow::{Result, bail, ensure};

/// What a changelog says below `## NAME`, which a date may follow.
pub fn section(changelog: &str, name: &str) -> Option<String> {
    let is_it = |line: &str| {
        let heading = line.strip_prefix("## ").map(|heading| heading.trim_start_matches('['));
        let rest = heading.and_then(|heading| heading.strip_prefix(name));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ']']))
    };
    let mut lines = changelog.lines().skip_while(|line| !is_it(line));
    lines.next()?;
    let text: Vec<_> = lines.take_while(|line| !line.starts_with("## ")).collect();
    Some(text.join("\n").trim().to_owned()).filter(|text| !text.is_empty())
}

/// The error that there is none.
///
/// # Errors
/// Always.
pub fn no_section(version: &str) -> Result<String> {
    bail!(
        "CHANGELOG.md says nothing below `## {version}`; rename `## Unreleased` to `## {version} - DATE`, or try --draft"
    )
}

/// Whether what would be published is a commit, and that of this version, by `git status --porcelain` and the commit's tags.
///
/// # Errors
/// When it is not; the message says what to do.
pub fn check(status: &str, tags: &str, version: &str) -> Result<()> {
    if let Some(first) = status.lines().next() {
        let path = first.get(3..).unwrap_or(first).escape_debug();
        bail!(
            "{} file(s) differ from the commit, {path} for one; commit or stash them, or try --draft",
            status.lines().count()
        );
    }
    let tag = format!("v{version}");
    let versions: Vec<_> = tags.lines().filter(|tag| tag.starts_with('v')).collect();
    ensure!(
        versions.contains(&tag.as_str()),
        "the commit has {}, and Cargo.toml's version is {version}; run `git tag -s {tag}`, or correct the version, or try --draft",
        if versions.is_empty() { "no tag of a version".to_owned() } else { format!("the tag {}", versions.join(" ")) }
    );
    ensure!(
        versions.len() == 1,
        "the commit has several versions' tags, {}; delete the wrong ones",
        versions.join(" ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGELOG: &str =
        "# Changelog\n\n## Unreleased\n\n## 0.10.0 - 2026-12-01\n\n### Added\n\n- A.\n\n## [0.1.0]\n\n- First.\n";

    #[test]
    fn a_section_ends_where_the_next_begins() {
        assert_eq!(section(CHANGELOG, "0.10.0").unwrap(), "### Added\n\n- A.");
        assert_eq!(section(CHANGELOG, "0.1.0").unwrap(), "- First.");
        assert_eq!(section(CHANGELOG, "0.1"), None);
        assert_eq!(section(CHANGELOG, "Unreleased"), None, "it is empty");
        assert!(no_section("0.2.0").unwrap_err().to_string().contains("`## 0.2.0`"));
    }

    #[test]
    fn what_is_in_no_commit_is_not_published() {
        let error = check(" M xtask/src/main.rs\n?? x\n", "v0.1.0\n", "0.1.0").unwrap_err().to_string();
        assert!(error.starts_with("2 file(s) differ from the commit, xtask/src/main.rs for one"), "{error}");
    }

    #[test]
    fn the_tag_is_the_versions() {
        check("", "latest\nv0.1.0\n", "0.1.0").unwrap();
        let error = |tags| check("", tags, "0.1.0").unwrap_err().to_string();
        assert!(error("").contains("no tag of a version"), "{}", error(""));
        assert!(error("v0.2.0\n").contains("the tag v0.2.0, and Cargo.toml's version is 0.1.0"));
        assert!(error("v0.1.0\nv0.2.0\n").contains("several"));
    }
}
