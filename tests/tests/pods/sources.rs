//! Sources in files and sockets, whole and broken: whatever they are, the report is made and says what is missing.

use std::ffi::CString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use lab::traffic::{Serve, TcpServer, download};
use lab::{Lab, Pod, Report, read};

use super::{ends, sources, veths};

const IPAM: &str = "var/run/aws-node/ipam.json";
const SOCKET: &str = "run/containerd/containerd.sock";
const LOGS: &str = "var/log/pods";

/// A host's files.
pub(super) struct Host(tempfile::TempDir);

impl Host {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // So that the processes of the machine are not looked at.
        fs::create_dir(folder.path().join("proc")).unwrap();
        Self(folder)
    }

    /// A place for a file, in folders that are there.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        let place = self.0.path().join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        place
    }

    pub(super) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.at(path), bytes).unwrap();
    }

    /// What ipamd would have written of these pods, under these names.
    pub(super) fn ipam(&self, pods: &[(&Pod, &str)]) {
        self.write(IPAM, ipam(pods));
    }

    fn log_folder(&self, name: &str) {
        fs::create_dir_all(self.at(LOGS).join(name)).unwrap();
    }

    fn fifo(&self, path: &str) {
        let path = CString::new(self.at(path).to_str().unwrap()).unwrap();
        // SAFETY: mkfifo reads the C string during the call.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    }

    /// Measures while nothing happens.
    pub(super) fn measure_idle(&self, lab: &Lab) -> Report {
        lab.measure(&["--host-root", self.0.path().to_str().unwrap()], || Ok(())).unwrap().report
    }

    /// Measures a download of `client` from `server`.
    pub(super) fn measure(&self, lab: &Lab) -> Report {
        let root = self.0.path().to_str().unwrap();
        let (client, server) = (lab.pod("client"), lab.pod("server"));
        let listen =
            TcpServer::start(&server.namespace, SocketAddr::new(server.ipv4.into(), 0), Serve::Send(10_000)).unwrap();
        let work = || download(&client.namespace, listen.address()).map(drop);
        lab.measure(&["--host-root", root], work).unwrap().report
    }
}

fn ipam(pods: &[(&Pod, &str)]) -> String {
    let entry = |(pod, name): &(&Pod, &str)| {
        format!(
            r#"{{"networkName":"aws-cni","containerID":"1f","ifName":"eth0","ipv4":"{}","allocationTimestamp":1700000000000000000,
                "metadata":{{"k8sPodNamespace":"default","k8sPodName":"{name}"}}}}"#,
            pod.ipv4
        )
    };
    let entries: Vec<_> = pods.iter().map(entry).collect();
    format!(r#"{{"version":"vpc-cni-ipam/1","allocations":[{}]}}"#, entries.join(","))
}

/// What a socket does with whoever connects. Its threads end with the test's process.
fn listen(path: &Path, serve: impl Fn(UnixStream) + Send + 'static) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(serve));
}

fn expect(report: &Report, expected: [(&str, &str, &str); 4]) {
    let sources = sources(report);
    assert_eq!(sources.len(), 5, "{sources:?}");
    let services = ("kube_proxy", "absent", "nftables has no services of kube-proxy");
    for (source, state, reason) in expected.into_iter().chain([services]) {
        let (is, _, why) = &sources[source];
        assert!(is == state && why.contains(reason) && why.is_empty() == (state == "ok"), "{source}: {is} {why}");
    }
}

const NO_PROCESS: (&str, &str, &str) = ("processes", "absent", "no process here is in a pod's cgroup");

fn unnamed(report: &Report) {
    assert!(veths(report).is_empty());
    assert_eq!(ends(report), [(None, None), (None, None)]);
    assert_eq!(report.names.unknown_veths, 2);
}

pub(super) fn node() -> Lab {
    Lab::builder().pod("client").pod("server").start().unwrap()
}

#[test]
fn sources_that_are_missing_or_broken() {
    let lab = node();
    let client = lab.pod("client");

    // Nothing is there.
    let report = Host::new().measure(&lab);
    expect(
        &report,
        [
            ("vpc_cni", "absent", "there is no /var/run/aws-node/ipam.json"),
            ("cri", "absent", "no container runtime listens at /run/containerd/containerd.sock"),
            NO_PROCESS,
            ("pod_logs", "absent", "there is no /var/log/pods"),
        ],
    );
    unnamed(&report);

    // Empty, left behind, of another kind.
    let host = Host::new();
    host.write(IPAM, "");
    drop(UnixListener::bind(host.at(SOCKET)).unwrap());
    host.write(LOGS, "");
    let report = host.measure(&lab);
    expect(
        &report,
        [
            ("vpc_cni", "malformed", "is empty"),
            ("cri", "unreadable", "Connection refused"),
            NO_PROCESS,
            ("pod_logs", "absent", "there is no /var/log/pods"),
        ],
    );
    unnamed(&report);

    // Huge, hostile, cut off.
    let host = Host::new();
    host.write(IPAM, ipam(&[(client, "client")]) + &" ".repeat(65 << 20));
    listen(&host.at(SOCKET), |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n\x1b[31m");
        let _ = stream.read(&mut [0; 64]);
    });
    host.log_folder("default_\u{1b}[31mclient_0123456789abcdef0123456789abcdef");
    host.log_folder("lost+found");
    let report = host.measure(&lab);
    expect(
        &report,
        [
            ("vpc_cni", "malformed", "is larger than 64 MiB"),
            ("cri", "malformed", "containerd.sock: "),
            NO_PROCESS,
            ("pod_logs", "incomplete", "2 of its entries are not as Kubernetes writes them"),
        ],
    );
    unnamed(&report);

    let host = Host::new();
    let whole = ipam(&[(client, "client"), (lab.pod("server"), "server")]);
    host.write(IPAM, &whole[..whole.len() - 30]);
    host.write(SOCKET, "not a socket");
    std::os::unix::fs::symlink("/var/log/pods", host.at(LOGS)).unwrap();
    let report = host.measure(&lab);
    expect(
        &report,
        [
            ("vpc_cni", "malformed", "is not as the VPC CNI writes it"),
            ("cri", "malformed", "is not a socket"),
            NO_PROCESS,
            ("pod_logs", "unreadable", "/var/log/pods cannot be read"),
        ],
    );
    unnamed(&report);
}

#[test]
fn sources_that_never_answer() {
    let lab = node();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    // The veths' names still tell whose they are.
    let host = Host::new();
    host.fifo(IPAM);
    listen(&host.at(SOCKET), std::mem::forget);
    host.log_folder("default_client_0d0eb7a4-8b6c-4f0e-9a52-2c1d33a4b5c6");
    host.log_folder("default_server_0123456789abcdef0123456789abcdef");
    let report = host.measure(&lab);
    expect(
        &report,
        [
            ("vpc_cni", "malformed", "is not a file"),
            ("cri", "slow", "did not answer within 1500 ms"),
            NO_PROCESS,
            ("pod_logs", "ok", ""),
        ],
    );
    let by_name = |pod: &str| format!("default/{pod} by veth_name of pod_logs");
    let expected = [(client.veth.clone(), by_name("client")), (server.veth.clone(), by_name("server"))];
    assert_eq!(veths(&report), expected.into());
    let (client_end, server_end) = (Some(by_name("client")), Some(by_name("server")));
    // The download has more bytes than its acknowledgements.
    assert_eq!(ends(&report), [(server_end.clone(), client_end.clone()), (client_end, server_end)]);
}

#[test]
fn names_from_files() {
    let lab = node();
    let (client, server) = (lab.pod("client"), lab.pod("server"));

    // One pod has a name that is none; the other is named.
    let host = Host::new();
    host.write(IPAM, ipam(&[(client, "client"), (server, "a/../b")]));
    let report = host.measure(&lab);
    let (state, count, _) = &sources(&report)["vpc_cni"];
    assert_eq!((state.as_str(), *count), ("incomplete", 1));
    // `default/client` is also what the veth is named by.
    assert_eq!(veths(&report), [(client.veth.clone(), "default/client by veth_name of vpc_cni".to_owned())].into());

    // Whole, under names that are not in the veths': by route and address.
    let host = Host::new();
    host.write(IPAM, ipam(&[(client, "web-0"), (server, "db.example-1")]));
    let report = host.measure(&lab);
    let by_address = |pod: &str| format!("default/{pod} by address of vpc_cni");
    let expected = [(client.veth.clone(), by_address("web-0")), (server.veth.clone(), by_address("db.example-1"))];
    assert_eq!(veths(&report), expected.clone().into());
    assert_eq!(report.names.unknown_veths, 0);

    // A large file, as one with thousands of entries that are no longer any pod's.
    let host = Host::new();
    let odd = format!(r#"{{"ipv4":"10.9.9.9","metadata":{{"k8sPodName":"{}"}}}},"#, "x".repeat(200));
    let whole = ipam(&[(client, "web-0"), (server, "db.example-1")]);
    host.write(IPAM, whole.replacen('[', &format!("[{}", odd.repeat(40_000)), 1));
    let report = host.measure_idle(&lab);
    assert_eq!(veths(&report), expected.into());
    let (state, count, reason) = &sources(&report)["vpc_cni"];
    assert_eq!((state.as_str(), *count), ("incomplete", 2));
    assert!(reason.starts_with("40000 of its entries"), "{reason}");

    // Two sources that disagree: whose the server's veth is, only its name tells; whose the client's, nothing.
    let host = Host::new();
    host.write(IPAM, ipam(&[(client, "web-0"), (client, "web-1"), (server, "server")]));
    let report = host.measure(&lab);
    assert_eq!(veths(&report), [(server.veth.clone(), "default/server by veth_name of vpc_cni".to_owned())].into());
    assert_eq!(report.names.disputed_addresses, 1);
}

/// A folder that is not there is found wrong before anything is measured.
#[test]
fn a_host_root_that_is_not_there() {
    let lab = Lab::builder().start().unwrap();
    let output = lab.netpath(&["report", "--host-root", "/no/such/folder"]).unwrap().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("cannot open --host-root /no/such/folder; name the folder where the host's / is"),
        "{error}"
    );
}

/// As in a container: another root, in which only what the program needs is mounted. `$1` is a folder with the host's files,
/// `$2` netpath, `$3` where the host's root is to be seen, if anywhere.
const IN_A_CONTAINER: &str = r#"set -e
mount -t tmpfs tmpfs /run
cp -r "$1/var/run/aws-node" /run/
root=$(mktemp -d -p /run)
mount -t tmpfs tmpfs $root
for folder in usr lib lib64 bin proc sys $3; do mkdir $root/$folder; done
for folder in usr lib lib64 bin proc sys; do test ! -e /$folder || mount --rbind /$folder $root/$folder; done
cp "$2" $root/netpath
"#;

/// The host's files are found where a debug pod has them: by the host's first process, or at `/host`.
#[test]
fn the_hosts_files_from_inside_a_pod() {
    let lab = node();
    let files = lab.host_files().unwrap();
    for (folder, end) in [
        // The shell is the first process, and has the host's root.
        ("", "chroot $root /netpath report --duration 1s --format json; true"),
        // netpath itself is the first process it sees.
        ("host", "mount --rbind / $root/host; exec chroot $root /netpath report --duration 1s --format json"),
    ] {
        let mut command = lab.node.namespace.command("unshare").unwrap();
        command.args([
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            &format!("{IN_A_CONTAINER}{end}"),
            "sh",
        ]);
        command.arg(files.path()).arg(lab::netpath_binary().unwrap()).arg(folder);
        let output = lab::output_within(&mut command, Duration::from_mins(1)).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let report: Report = read(&output.stdout).unwrap_or_else(|error| panic!("{error:#}: {errors}"));
        let named = ["client", "server"]
            .map(|pod| (lab.pod(pod).veth.clone(), format!("default/{pod} by veth_name of vpc_cni")));
        assert_eq!(veths(&report), named.into(), "{folder}: {:?}", sources(&report));
    }
}
