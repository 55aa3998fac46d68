//! An OCI image layout (<https://github.com/opencontainers/image-spec>), for several architectures.
//!
//! In: what the image has in it. Out: the layout's files, the same bytes for the same image. Pure: no clock, no disk.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::architecture::Architecture;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A file of an image, or a folder if it has no bytes.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it is, without a slash in front.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub bytes: Option<Vec<u8>>,
}

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its name, by which a container runtime that imports it knows it, tag and all.
    pub name: String,
    /// The tag alone.
    pub tag: String,
    /// When everything in it was last changed, and it was made.
    pub time: Timestamp,
    /// What it runs.
    pub entry_point: String,
    /// What is said of it (`org.opencontainers.image.…`).
    pub labels: BTreeMap<String, String>,
    /// The files of every architecture, in order.
    pub files: Vec<(Architecture, Vec<File>)>,
}

/// The files of the layout, by their names.
///
/// # Errors
/// When a file's name is too long for an archive.
pub fn layout(image: &Image) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut manifests = Vec::new();
    for (architecture, contents) in &image.files {
        let mut manifest = manifest(image, *architecture, contents, &mut files)?;
        manifest["platform"] = json!({"os": "linux", "architecture": architecture.oci_name()});
        manifests.push(manifest);
    }
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": image.labels,
    });
    let mut index = blob(INDEX, text(&index), &mut files);
    // The second is containerd's: what it calls the image that it imports.
    index["annotations"] =
        json!({"org.opencontainers.image.ref.name": image.tag, "io.containerd.image.name": image.name});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [index]});
    files.insert("index.json".to_owned(), text(&index));
    files.insert("oci-layout".to_owned(), text(&json!({"imageLayoutVersion": "1.0.0"})));
    Ok(files)
}

/// Adds the image of one architecture, and returns what points to it.
fn manifest(
    image: &Image,
    architecture: Architecture,
    contents: &[File],
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<Value> {
    let layer = archive(contents, image.time)?;
    let config = json!({
        "architecture": architecture.oci_name(),
        "os": "linux",
        "created": image.time.to_string(),
        "config": {"Entrypoint": [image.entry_point], "User": "0:0", "WorkingDir": "/", "Labels": image.labels},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]},
        "history": [{"created": image.time.to_string(), "created_by": "cargo xtask dist --image"}],
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(CONFIG, text(&config), files),
        "layers": [blob(LAYER, compressed(&layer)?, files)],
        "annotations": image.labels,
    });
    Ok(blob(MANIFEST, text(&manifest), files))
}

/// An archive in which every file is root's and of one time, in the order given (POSIX ustar).
///
/// # Errors
/// When a file's name is too long.
pub fn archive(files: &[File], time: Timestamp) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let bytes = file.bytes.as_deref().unwrap_or_default();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(if file.bytes.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory });
        header.set_mode(file.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(time.as_second()).context("a time before 1970; set SOURCE_DATE_EPOCH")?);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, &file.path, bytes).with_context(|| format!("cannot archive {}", file.path))?;
    }
    archive.into_inner().context("cannot end an archive")
}

/// As gzip has it, without a time.
///
/// # Errors
/// When compressing fails.
pub fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).context("cannot compress")
}

/// Adds a blob, and returns what points to it.
fn blob(kind: &str, bytes: Vec<u8>, files: &mut BTreeMap<String, Vec<u8>>) -> Value {
    let digest = sha256(&bytes);
    let pointer = json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()});
    files.insert(format!("blobs/sha256/{digest}"), bytes);
    pointer
}

/// The digest of these bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// JSON as it is stored: its keys are sorted.
fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn image() -> Image {
        let file = |path: &str, bytes: &[u8]| File { path: path.to_owned(), mode: 0o755, bytes: Some(bytes.to_vec()) };
        Image {
            name: "example.org/program:1".to_owned(),
            tag: "1".to_owned(),
            time: Timestamp::from_second(1_000_000_000).unwrap(),
            entry_point: "/program".to_owned(),
            labels: [("org.opencontainers.image.version".to_owned(), "1".to_owned())].into(),
            files: vec![
                (Architecture::X86_64, vec![file("program", b"Intel")]),
                (Architecture::Aarch64, vec![file("program", b"Graviton")]),
            ],
        }
    }

    /// What a pointer points to, its size checked.
    fn at<'a>(files: &'a BTreeMap<String, Vec<u8>>, pointer: &Value) -> &'a [u8] {
        let digest = pointer["digest"].as_str().unwrap();
        let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(pointer["size"], bytes.len());
        bytes
    }

    #[test]
    fn from_the_index_to_every_architecture() {
        let files = layout(&image()).unwrap();
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let top = json(&files["index.json"]);
        assert_eq!(top["manifests"][0]["annotations"]["io.containerd.image.name"], "example.org/program:1");
        let index = json(at(&files, &top["manifests"][0]));
        for (place, architecture) in ["amd64", "arm64"].into_iter().enumerate() {
            assert_eq!(index["manifests"][place]["platform"]["architecture"], architecture);
            let manifest = json(at(&files, &index["manifests"][place]));
            let config = json(at(&files, &manifest["config"]));
            assert_eq!(
                (&config["architecture"], &config["created"]),
                (&json!(architecture), &json!("2001-09-09T01:46:40Z"))
            );
            at(&files, &manifest["layers"][0]);
        }
        assert_eq!(files.len(), 2 + 1 + 2 * 3);
        assert_eq!(layout(&image()).unwrap(), files, "the same image");
    }

    /// sha256sum's answer.
    #[test]
    fn digests() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    /// As tar reads it.
    #[test]
    fn an_archive() {
        let folder = File { path: "folder/".to_owned(), mode: 0o755, bytes: None };
        let file = File { path: "folder/file".to_owned(), mode: 0o644, bytes: Some(b"text".to_vec()) };
        let bytes = archive(&[folder, file], image().time).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["--list", "--verbose", "--numeric-owner", "--utc", "--full-time"]).env("LC_ALL", "C");
        let mut tar = tar.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        tar.stdin.take().unwrap().write_all(&bytes).unwrap();
        let list = String::from_utf8(tar.wait_with_output().unwrap().stdout).unwrap();
        let lines: Vec<_> = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            ["drwxr-xr-x 0/0 0 2001-09-09 01:46:40 folder/", "-rw-r--r-- 0/0 4 2001-09-09 01:46:40 folder/file"]
        );
    }
}
