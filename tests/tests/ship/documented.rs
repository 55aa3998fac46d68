//! Commands as README.md and docs/ show them, so that what is tested is what people type.
//!
//! In: the pages. Out: commands, with this version for VERSION. Those of netpath itself are run by the lab's tests, those of jq
//! by the tests of JSON.

use std::fs;
use std::path::Path;

/// What these tests run, by how it begins.
const TESTED: [&str; 11] = [
    "ctr images import",
    "ctr run",
    "curl http://",
    "dpkg --install",
    "dpkg --purge",
    "kubectl netpath",
    "rpm --erase",
    "rpm --install",
    "skopeo copy",
    "skopeo inspect",
    "systemctl enable",
];
/// What the documents show besides: tested elsewhere, or (`tar`, `./netpath`) of a release's archive; all that needs a cluster.
const OTHERS: [&str; 9] = [
    "cargo xtask",
    "ctr --namespace",
    "jq ",
    "kubectl -n",
    "kubectl apply",
    "kubectl delete",
    "netpath",
    "tar -xzf",
    "./netpath-",
];

/// The commands that are shown, of all pages, that begin so; there is one at least.
#[track_caller]
pub fn documented(start: &str) -> Vec<String> {
    assert!(TESTED.contains(&start), "add it to those that are tested: {start}");
    let found: Vec<_> = all().into_iter().filter(|command| command.starts_with(start)).collect();
    assert!(!found.is_empty(), "no page shows `{start}`");
    found
}

/// The only one that begins so, and has these words.
#[track_caller]
pub fn the_documented(start: &str, words: &str) -> String {
    let found: Vec<_> = documented(start).into_iter().filter(|command| command.contains(words)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

fn all() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.chain(["README.md", "SECURITY.md"].map(|name| root.join(name)));
    let mut commands: Vec<_> = pages
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .flat_map(|path| commands_of(&fs::read_to_string(path).unwrap()))
        .collect();
    commands.sort();
    commands.dedup();
    commands
}

/// In blocks of code: after a prompt, or a line of kubectl's.
fn commands_of(page: &str) -> Vec<String> {
    let page = page.replace("\\\n", " ");
    let blocks = page.split("\n```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines);
    let commands = lines.filter_map(|line| {
        let line = line.strip_prefix("$ ").or(line.starts_with("kubectl ").then_some(line))?;
        let command = line.strip_prefix("sudo ").unwrap_or(line).split(" #").next()?.trim();
        Some(command.replace("VERSION", env!("CARGO_PKG_VERSION")))
    });
    commands.collect()
}

#[test]
fn each_command_is_tested_somewhere() {
    for command in all() {
        let known = TESTED.iter().chain(&OTHERS).any(|start| command.starts_with(start));
        assert!(known, "nobody tests `{command}`");
    }
}

#[test]
fn commands_are_found() {
    let page = "Do:\n\n```console\n$ sudo ctr run --rm \\\n    netpath:VERSION   # now\nan answer\n$ ls\n```\n`kubectl x`\n```\nkubectl netpath top\n```\n";
    let run = concat!("ctr run --rm      netpath:", env!("CARGO_PKG_VERSION"));
    assert_eq!(commands_of(page), [run, "ls", "kubectl netpath top"]);
}
