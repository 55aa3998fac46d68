//! Which container runtime the kubelet of this node uses, by what it was started with.
//!
//! In: the host's `/proc`, and the kubelet's configuration files. Out: paths of sockets on the host. The flag
//! `--container-runtime-endpoint` goes before drop-ins of the configuration (`--config-dir`), and these before the
//! configuration itself (kubernetes, `cmd/kubelet/app/server.go`). A distribution that runs the kubelet inside another program
//! (k3s, microk8s) names nothing here.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use serde_json::Value;

use crate::node::pods::root::HostRoot;

/// Where distributions keep the configuration: EKS on AL2023 and on AL2, Bottlerocket, kubeadm. Read where no kubelet is seen.
const CONFIGURATIONS: [&str; 4] = [
    "/etc/kubernetes/kubelet/config.json",
    "/etc/kubernetes/kubelet/kubelet-config.json",
    "/etc/kubernetes/kubelet/config",
    "/var/lib/kubelet/config.yaml",
];
/// The drop-ins that EKS adds to the first of them.
const DROP_INS: &str = "/etc/kubernetes/kubelet/config.json.d";
const KEY: &str = "containerRuntimeEndpoint";
/// Processes that are looked at, and files of a folder of drop-ins.
const MAX_PROCESSES: usize = 100_000;
const MAX_DROP_INS: usize = 100;
const LIMIT_BYTES: u64 = 1 << 20;

/// What a kubelet was started with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flags {
    endpoint: Option<String>,
    configuration: Option<String>,
    drop_ins: Option<String>,
}

/// The paths of the sockets that kubelets name, without repetition; empty if none is named.
#[must_use]
pub fn sockets(root: &HostRoot) -> Vec<String> {
    let kubelets = kubelets(root);
    let endpoints: Vec<Option<String>> = if kubelets.is_empty() {
        let configured = CONFIGURATIONS.iter().find_map(|path| configured(root, path));
        vec![dropped_in(root, DROP_INS).or(configured)]
    } else {
        let of = |flags: Flags| {
            let Flags { endpoint, configuration, drop_ins } = flags;
            endpoint
                .or_else(|| dropped_in(root, drop_ins.as_deref()?))
                .or_else(|| configured(root, configuration.as_deref()?))
        };
        kubelets.into_iter().map(of).collect()
    };
    let mut sockets: Vec<String> = Vec::new();
    for path in endpoints.iter().flatten().filter_map(|endpoint| socket(endpoint)) {
        if !sockets.iter().any(|known| known == path) {
            sockets.push(path.to_owned());
        }
    }
    sockets
}

/// The flags of every process whose name is `kubelet`.
fn kubelets(root: &HostRoot) -> Vec<Flags> {
    let Ok(proc) = root.processes() else { return Vec::new() };
    let Ok(entries) = Dir::read_from(&proc) else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str().ok()?.parse::<u32>().ok());
    numbers.take(MAX_PROCESSES).filter_map(|process| kubelet(&proc, process)).collect()
}

fn kubelet(proc: &OwnedFd, process: u32) -> Option<Flags> {
    // Reading the command line of a process that is stuck may block; reading its name does not.
    match read(proc, &format!("{process}/comm")) {
        Ok(name) if name.trim_ascii_end() == b"kubelet" => {}
        Err(Errno::NOENT) => {}
        _ => return None,
    }
    let line = read(proc, &format!("{process}/cmdline")).ok()?;
    let program = line.split(|byte| *byte == 0).next()?;
    (Path::new(OsStr::from_bytes(program)).file_name()? == "kubelet").then(|| flags(&line))
}

fn read(proc: &OwnedFd, path: &str) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(proc, path, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(LIMIT_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(bytes)
}

/// The flags in a command line: arguments that end with NUL. Of a flag that is given twice the last counts.
fn flags(line: &[u8]) -> Flags {
    let mut flags = Flags::default();
    let text = String::from_utf8_lossy(line);
    let mut arguments = text.split('\0').skip(1);
    while let Some(argument) = arguments.next() {
        let (name, value) = argument.split_once('=').map_or((argument, None), |(name, value)| (name, Some(value)));
        let flag = match name {
            "--container-runtime-endpoint" => &mut flags.endpoint,
            "--config" => &mut flags.configuration,
            "--config-dir" => &mut flags.drop_ins,
            _ => continue,
        };
        *flag = value.or_else(|| arguments.next()).map(ToOwned::to_owned);
    }
    flags
}

/// What the drop-ins in a folder name: of its files that end with `.conf` the last in order that names something.
fn dropped_in(root: &HostRoot, folder: &str) -> Option<String> {
    let entries = root.folder(folder).ok()?.flatten().take(MAX_DROP_INS);
    let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(ToOwned::to_owned));
    let mut names: Vec<String> = names.filter(|name| name.as_bytes().ends_with(b".conf")).collect();
    names.sort();
    names.iter().rev().find_map(|name| configured(root, &format!("{folder}/{name}")))
}

fn configured(root: &HostRoot, path: &str) -> Option<String> {
    endpoint(&String::from_utf8_lossy(&root.read(path, LIMIT_BYTES).ok()?))
}

/// The value of `containerRuntimeEndpoint` in a `KubeletConfiguration`, in JSON, or in YAML with a line for it.
#[must_use]
pub fn endpoint(configuration: &str) -> Option<String> {
    let value = match serde_json::from_str::<Value>(configuration) {
        Ok(json) => json.get(KEY)?.as_str()?.to_owned(),
        Err(_) => configuration.lines().find_map(in_yaml)?,
    };
    Some(value).filter(|value| !value.is_empty())
}

/// `containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock"  # a comment`
fn in_yaml(line: &str) -> Option<String> {
    let (key, value) = line.split_once(':')?;
    if key.trim().trim_matches(['"', '\'']) != KEY {
        return None;
    }
    let value = value.trim_start();
    let quoted = |quote| value.strip_prefix(quote)?.split_once(quote).map(|(inside, _)| inside);
    let plain = || value.split_once(" #").map_or(value, |(value, _)| value).trim_end();
    Some(quoted('"').or_else(|| quoted('\'')).unwrap_or_else(plain).to_owned())
}

/// The path in `unix:///run/x.sock`; a path alone is one, too.
fn socket(endpoint: &str) -> Option<&str> {
    let path = endpoint.strip_prefix("unix:").unwrap_or(endpoint);
    let path = path.strip_prefix("//").unwrap_or(path);
    (path.starts_with('/') && !path.contains('\0')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let of = |arguments: &[&str]| flags(arguments.join("\0").as_bytes()).endpoint;
        let endpoint = Some("unix:///run/x.sock".to_owned());
        assert_eq!(of(&["kubelet", "--container-runtime-endpoint=unix:///run/x.sock", "--v=2"]), endpoint);
        assert_eq!(of(&["kubelet", "--container-runtime-endpoint", "unix:///run/x.sock"]), endpoint);
        assert_eq!(
            of(&["kubelet", "--container-runtime-endpoint=/a", "--container-runtime-endpoint=unix:///run/x.sock"]),
            endpoint
        );
        for none in
            [&["kubelet"][..], &["kubelet", "--container-runtime-endpoint"], &["--container-runtime-endpoint=x"]]
        {
            assert_eq!(of(none), None, "{none:?}");
        }
        let both = flags(b"/usr/bin/kubelet\0--config\0/etc/k.json\0--config-dir=/etc/k.d\0");
        assert_eq!((both.configuration.as_deref(), both.drop_ins.as_deref()), (Some("/etc/k.json"), Some("/etc/k.d")));
    }

    #[test]
    fn configurations() {
        for text in [
            r#"{"kind":"KubeletConfiguration","containerRuntimeEndpoint":"unix:\/\/\/run/x.sock","maxPods":17}"#,
            "kind: KubeletConfiguration\ncontainerRuntimeEndpoint: unix:///run/x.sock\n",
            "containerRuntimeEndpoint:   \"unix:///run/x.sock\" # why\r\n",
            "\"containerRuntimeEndpoint\": 'unix:///run/x.sock'",
            "containerRuntimeEndpoint: unix:///run/x.sock # why",
        ] {
            assert_eq!(endpoint(text).as_deref(), Some("unix:///run/x.sock"), "{text}");
            for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
                assert!(endpoint(&text[..end]).is_none_or(|found| found.len() <= text.len()), "cut at {end}");
            }
        }
        for none in [
            "",
            "{}",
            "# containerRuntimeEndpoint: unix:///run/x.sock",
            "imageServiceEndpoint: unix:///run/x.sock",
            r#"{"containerRuntimeEndpoint":""}"#,
            r#"{"containerRuntimeEndpoint":7}"#,
            "containerRuntimeEndpoint: ''",
        ] {
            assert_eq!(endpoint(none), None, "{none}");
        }
    }

    #[test]
    fn endpoints() {
        for good in ["unix:///run/x.sock", "unix:/run/x.sock", "/run/x.sock"] {
            assert_eq!(socket(good), Some("/run/x.sock"), "{good}");
        }
        for bad in ["", "tcp://127.0.0.1:7", "npipe:////./pipe/x", "run/x.sock", "unix://x", "/run/\0"] {
            assert_eq!(socket(bad), None, "{bad}");
        }
    }

    /// A host with files in these places.
    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, HostRoot) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("proc")).expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let root = HostRoot::find(Some(folder.path())).expect("a root");
        (folder, root)
    }

    #[test]
    fn flags_go_before_drop_ins_and_these_before_the_configuration() {
        let at = |path: &str| format!("{KEY}: unix://{path}");
        let (one, two, three) = (at("/one"), at("/two"), at("/three"));
        let files =
            [("etc/k.json", one.as_str()), ("etc/k.d/1.conf", &two), ("etc/k.d/2.conf", "a: b"), ("etc/k.d/3", &three)];
        let named = |line: &str, rest: &[(&str, &str)]| {
            let kubelet = [("proc/7/comm", "kubelet\n"), ("proc/7/cmdline", line)];
            let (_folder, root) = host(&[&files[..], &kubelet, rest].concat());
            sockets(&root)
        };
        let line = "/usr/bin/kubelet\0--config=/etc/k.json\0";
        assert_eq!(named(line, &[]), ["/one"]);
        assert_eq!(named(&format!("{line}--config-dir=/etc/k.d\0"), &[]), ["/two"]);
        let flag = format!("{line}--config-dir=/etc/k.d\0--container-runtime-endpoint=unix:///four\0");
        assert_eq!(named(&flag, &[]), ["/four"]);
        // A kubelet of another cluster, in a container.
        assert_eq!(named(line, &[("proc/8/comm", "kubelet\n"), ("proc/8/cmdline", &flag)]).len(), 2);
        assert_eq!(named("vi\0--container-runtime-endpoint=/x\0", &[]), [""; 0]);
    }

    #[test]
    fn where_no_kubelet_is_seen() {
        let config = format!(r#"{{"{KEY}":"unix:///one"}}"#);
        let (_folder, root) = host(&[("etc/kubernetes/kubelet/config.json", &config)]);
        assert_eq!(sockets(&root), ["/one"]);
        let (_folder, root) = host(&[
            ("etc/kubernetes/kubelet/config.json", &config),
            ("etc/kubernetes/kubelet/config.json.d/40-nodeadm.conf", &format!(r#"{{"{KEY}":"unix:///two"}}"#)),
        ]);
        assert_eq!(sockets(&root), ["/two"]);
        assert_eq!(sockets(&host(&[]).1), [""; 0]);
    }
}
