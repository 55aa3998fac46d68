//! `cargo xtask dist --image`: the container image, made without a container engine.
//!
//! In: the static binaries, and what they are made of. Out: the OCI layout `<target>/dist/image`, the same as an archive, and
//! the SBOM. Both are the same to the byte whenever and wherever they are made, by the same compilers: every time in them is that
//! of the last commit, or `SOURCE_DATE_EPOCH` (<https://reproducible-builds.org/specs/source-date-epoch/>).

pub mod layout;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use jiff::Timestamp;

use self::layout::{File, Image, archive, layout};
use super::licences;
use super::parts::{Parts, parts};
use super::sbom::sbom;
use super::time::time;
use crate::architecture::Architecture;
use crate::files::{empty, read, write};
use crate::process::{git, step, target_directory};

/// What the image is called wherever nobody says otherwise.
const NAME: &str = "ghcr.io/netpath/netpath";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const DESCRIPTION: &str =
    "Which bytes crossed an ENI, and which stayed on the node: an eBPF packet-path tracer for Kubernetes and EKS nodes";

/// Makes the image of these binaries.
///
/// # Errors
/// When something that belongs into it is missing, or it cannot be written.
pub fn make(binaries: &[(Architecture, PathBuf)]) -> Result<()> {
    step("making the image: what the binary is made of, its licences");
    let architectures: Vec<_> = binaries.iter().map(|(architecture, _)| *architecture).collect();
    let time = time()?;
    let sbom = |architectures: &[Architecture]| -> Result<_> {
        let parts = parts(architectures)?;
        let text = format!("{:#}\n", sbom(&parts, VERSION, &time.to_string()));
        Ok((parts, text.into_bytes()))
    };
    let mut files = Vec::new();
    for (architecture, binary) in binaries {
        let (parts, sbom) = sbom(&[*architecture])?;
        files.push((*architecture, contents(&parts, sbom, read(binary)?)?));
    }
    let image = Image {
        name: format!("{NAME}:{VERSION}"),
        tag: VERSION.to_owned(),
        time,
        entry_point: "/netpath".to_owned(),
        labels: labels(time),
        files,
    };
    let layout = layout(&image)?;

    let dist = target_directory()?.join("dist");
    let (_, sbom) = sbom(&architectures)?;
    write(&dist.join("netpath.cdx.json"), &sbom)?;
    let folder = dist.join("image");
    empty(&folder)?;
    for (name, bytes) in &layout {
        write(&folder.join(name), bytes)?;
    }
    let place = dist.join("netpath-image.tar");
    let bytes = archive(&archived(layout), time)?;
    write(&place, &bytes)?;
    let (digest, names) = (layout::sha256(&bytes), architectures.iter().map(|one| one.oci_name()).collect::<Vec<_>>());
    println!("{}: {NAME}:{VERSION} for {}, sha256:{digest}", place.display(), names.join(" and "));
    Ok(())
}

/// What is in the image of an architecture: licences, the SBOM, the binary.
fn contents(parts: &Parts, sbom: Vec<u8>, binary: Vec<u8>) -> Result<Vec<File>> {
    let mut files = vec![File { path: "licenses/".to_owned(), mode: 0o755, bytes: None }];
    let licences = licences::files(parts)?.into_iter().map(|(name, text)| (format!("licenses/{name}"), text));
    for (path, bytes) in licences.chain([("netpath.cdx.json".to_owned(), sbom)]) {
        files.push(File { path, mode: 0o644, bytes: Some(bytes) });
    }
    files.push(File { path: "netpath".to_owned(), mode: 0o755, bytes: Some(binary) });
    Ok(files)
}

fn labels(time: Timestamp) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<_, _> = [
        ("title", "netpath"),
        ("description", DESCRIPTION),
        ("version", VERSION),
        ("licenses", "MIT OR Apache-2.0"),
        ("source", "https://github.com/netpath/netpath"),
        ("created", &time.to_string()),
    ]
    .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.to_owned()))
    .into();
    // From an archive of the source there is none.
    if let Ok(revision) = git(&["describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]) {
        labels.insert("org.opencontainers.image.revision".to_owned(), revision);
    }
    labels
}

/// The layout's files as those of an archive, with their folders. What says what it is comes first.
fn archived(layout: BTreeMap<String, Vec<u8>>) -> Vec<File> {
    let folder = |path: &str| File { path: path.to_owned(), mode: 0o755, bytes: None };
    let file = |(path, bytes)| File { path, mode: 0o644, bytes: Some(bytes) };
    let (blobs, first): (Vec<_>, Vec<_>) = layout.into_iter().partition(|(path, _)| path.starts_with("blobs/"));
    let first = first.into_iter().rev().map(file);
    first.chain([folder("blobs/"), folder("blobs/sha256/")]).chain(blobs.into_iter().map(file)).collect()
}
