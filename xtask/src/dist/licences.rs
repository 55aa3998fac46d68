//! netpath's licences, and those of what others wrote.
//!
//! In: the parts, and netpath's licences in the source. Out: files. The crates' are one text: what each is under, then every text
//! once, with those that it is of.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use super::parts::{Part, Parts};
use crate::files::read;
use crate::process::workspace;

const LINE: &str = "--------------------------------------------------------------------------------";

/// Names and texts of the files that distributors of the binary pass on.
///
/// # Errors
/// When netpath's own cannot be read.
pub fn files(parts: &Parts) -> Result<Vec<(String, Vec<u8>)>> {
    // What is no crate has a text of its own, as long as all of theirs.
    let (crates, others): (Vec<_>, Vec<_>) = parts.all.iter().cloned().partition(|part: &Part| part.checksum.is_some());
    let mut files = Vec::new();
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        files.push((name.to_owned(), read(&workspace().join(name))?));
    }
    files.push(("CRATES.txt".to_owned(), third_party(&crates).into_bytes()));
    for part in others {
        for (file, text) in part.texts {
            files.push((format!("{}-{}-{file}", part.name, part.version), text.into_bytes()));
        }
    }
    Ok(files)
}

fn third_party(parts: &[Part]) -> String {
    let mut text = String::from(
        "The binary of netpath contains these works of others, unchanged. Their licences follow, each text once.\n\n",
    );
    for part in parts {
        let repository = part.repository.as_deref().unwrap_or("no repository named");
        put(&mut text, &format!("{} {}: {}\n    {repository}", part.name, part.version, part.licence));
    }
    put(&mut text, "\nThe packages of these have no text; their licences are as in LICENSE-MIT and LICENSE-APACHE:\n");
    for part in parts.iter().filter(|part| part.texts.is_empty()) {
        let authors = if part.authors.is_empty() { "its authors".to_owned() } else { part.authors.join(", ") };
        put(&mut text, &format!("{} {}: {}, of {authors}", part.name, part.version, part.licence));
    }
    for (licence, of) in by_text(parts) {
        put(&mut text, &format!("\n{LINE}\n{}\n{LINE}\n\n{licence}", of.join("\n")));
    }
    text
}

/// Each text, and what it is of, in the order of the first of those.
fn by_text(parts: &[Part]) -> Vec<(&str, Vec<String>)> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut texts: Vec<(&str, Vec<String>)> = Vec::new();
    for part in parts {
        for (file, text) in &part.texts {
            let text = text.trim_end();
            let place = *places.entry(text).or_insert_with(|| {
                texts.push((text, Vec::new()));
                texts.len() - 1
            });
            texts[place].1.push(format!("{} {}: {file}", part.name, part.version));
        }
    }
    texts
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn part(name: &str, texts: &[(&str, &str)]) -> Part {
        Part {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            purl: format!("pkg:cargo/{name}@1.0.0"),
            licence: "MIT".to_owned(),
            authors: vec!["A. Author".to_owned()],
            repository: None,
            checksum: None,
            texts: texts.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect(),
            uses: BTreeSet::new(),
        }
    }

    #[test]
    fn every_text_once_and_who_has_none() {
        let same = "Permission is granted\n";
        let parts =
            [part("a", &[("LICENSE", same)]), part("b", &[("COPYING", "Permission is granted\n\n")]), part("c", &[])];
        let text = third_party(&parts);
        assert_eq!(text.matches("Permission is granted").count(), 1, "{text}");
        assert!(text.contains("a 1.0.0: LICENSE\nb 1.0.0: COPYING\n"), "{text}");
        assert!(text.contains("LICENSE-APACHE:\n\nc 1.0.0: MIT, of A. Author\n"), "{text}");
    }
}
