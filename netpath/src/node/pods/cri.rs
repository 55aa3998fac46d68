//! Asks the container runtimes for their pod sandboxes (CRI, `RuntimeService`; kubernetes/cri-api).
//!
//! In: the runtimes' sockets on the host. Out: for each sandbox namespace, name and uid of its pod; for those that run and
//! have a network of their own also addresses and the network namespace. It only lists: it starts and stops nothing.
//!
//! A node may have several sockets: Docker's containerd, which runs no pods, beside cri-dockerd; a runtime that was replaced;
//! one that has died and left its socket. All are asked at once, so that one that hangs does not delay the others. If the
//! kubelet names one and it answers, Kubernetes' pods are those of that one. Otherwise a sandbox of any runtime that answers
//! is one that runs on this node, and all count: `path::names` decides on an address that two of them claim.

mod api;
pub mod kubelet;
mod sockets;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::sockets::Socket;
use super::grpc::{self, Channel, GrpcError};
use super::root::{HostRoot, link};
use super::{PodName, PodReading, SourceError, SourceReading, is_uid, netns};
use crate::model::NameSourceState;

/// Less than the timeout of a whole reading, so that what was answered by then is not lost.
const TIMEOUT: Duration = Duration::from_millis(1_500);
/// Sandboxes that are asked about at a time.
const CONCURRENT_REQUESTS: usize = 16;
/// `PodSandboxState.SANDBOX_READY` and `NamespaceMode.NODE`.
const READY: i32 = 0;
const NODE: i32 = 2;
/// The service's versions, the current one first. The other, with the same messages, is all that runtimes before containerd 1.6
/// and CRI-O 1.23 have.
const VERSIONS: [&str; 2] = ["runtime.v1", "runtime.v1alpha2"];
/// `google.rpc.Code.UNIMPLEMENTED`.
const UNIMPLEMENTED: &str = "12";

/// What is known of a running sandbox; it does not change while the sandbox runs.
#[derive(Clone, Debug, Default)]
struct Network {
    addresses: Vec<IpAddr>,
    /// Path of its network namespace on the host.
    netns: Option<String>,
}

/// The container runtimes of a node. It remembers the sandboxes that it has asked about.
#[derive(Debug, Default)]
pub struct Runtimes {
    /// By the path of the socket and the id of the sandbox.
    known: Mutex<HashMap<String, HashMap<String, Network>>>,
}

/// The sandboxes behind one socket, as far as they are answered.
#[derive(Debug, Default)]
struct Sandboxes {
    listed: Option<Vec<api::Sandbox>>,
    known: HashMap<String, Network>,
}

/// The outcome of asking at one socket.
#[derive(Debug)]
struct Answer {
    path: String,
    named: bool,
    sandboxes: Sandboxes,
    error: Option<SourceError>,
}

impl Runtimes {
    /// Asks for the sandboxes. Takes no longer than [`TIMEOUT`].
    pub fn read(&self, root: &HostRoot) -> SourceReading {
        self.ask(root).unwrap_or_else(SourceReading::from)
    }

    fn ask(&self, root: &HostRoot) -> Result<SourceReading, SourceError> {
        let sockets = sockets::find(root);
        if sockets.there.is_empty() && sockets.not_usable.is_empty() {
            return Err(sockets::none());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| SourceError::new(NameSourceState::Unreadable, format!("cannot start tokio: {error}")))?;
        let mut known = std::mem::take(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner));
        let mut answers: Vec<Answer> = runtime.block_on(async {
            let mut asked = JoinSet::new();
            for socket in sockets.there {
                let known = known.remove(&socket.path).unwrap_or_default();
                asked.spawn(ask(socket, known));
            }
            asked.join_all().await
        });
        answers.sort_by(|one, other| one.path.cmp(&other.path));
        let error = error(&answers, sockets.not_usable);
        if answers.iter().any(|answer| answer.named && answer.sandboxes.listed.is_some()) {
            answers.retain(|answer| answer.named);
        }

        let mut all = SourceReading { error, ..SourceReading::default() };
        for Answer { path, mut sandboxes, .. } in answers {
            let veths = |paths: &[Option<&str>]| netns::veths_into(paths, |path| root.namespace((*path)?).ok());
            let reading = reading(sandboxes.listed.as_deref().unwrap_or_default(), &sandboxes.known, veths);
            all.facts.pods.extend(reading.facts.pods);
            all.error = all.error.or(reading.error);
            if let Some(listed) = &sandboxes.listed {
                sandboxes.known.retain(|id, _| listed.iter().any(|sandbox| sandbox.id == *id));
            }
            known.insert(path, sandboxes.known);
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(all)
    }
}

/// Asks at one socket, for [`TIMEOUT`] at most.
async fn ask(socket: Socket, known: HashMap<String, Network>) -> Answer {
    let Socket { path, place, named } = socket;
    let mut sandboxes = Sandboxes { listed: None, known };
    let error = match timeout(TIMEOUT, query(&link(&place), &mut sandboxes)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            let why = if is_unimplemented(&error) {
                let versions = VERSIONS.join(" or ");
                format!("{path} is not a container runtime of Kubernetes, which has {versions}: {error}")
            } else {
                format!("{path}: {error}")
            };
            Some(SourceError::new(state(&error), why))
        }
        Err(_) => {
            let why = format!("{path} did not answer within {} ms", TIMEOUT.as_millis());
            Some(SourceError::new(NameSourceState::Slow, why))
        }
    };
    Answer { path, named, sandboxes, error }
}

/// The error of all sockets together: why there is nothing, or what may be missing.
///
/// Where one has listed its sandboxes, another that is not Kubernetes' runtime is no error. But one that the kubelet
/// names should have answered; and if none is named, one that does not answer in time may be the runtime.
fn error(answers: &[Answer], not_usable: Vec<(SourceError, bool)>) -> Option<SourceError> {
    let listed = |answer: &Answer| answer.sandboxes.listed.is_some();
    let by_any = answers.iter().any(listed);
    let by_named = answers.iter().any(|answer| answer.named && listed(answer));
    let failed = answers.iter().filter_map(|answer| Some((answer.error.clone()?, answer.named, listed(answer))));
    let all = failed.chain(not_usable.into_iter().map(|(error, named)| (error, named, false)));
    let weigh = |(SourceError { state, reason }, named, listed)| {
        let reason = if named { format!("{reason} (the kubelet names it)") } else { reason };
        match (named, listed) {
            (false, _) if by_named => None,
            (_, true) => Some(SourceError { state, reason }),
            _ if !by_any => Some(SourceError { state, reason }),
            _ if named || state == NameSourceState::Slow => Some(SourceError::new(NameSourceState::Incomplete, reason)),
            _ => None,
        }
    };
    let errors: Vec<SourceError> = all.filter_map(weigh).collect();
    let state = errors.iter().map(|error| error.state).max()?;
    let reasons: Vec<_> = errors.into_iter().map(|error| error.reason).collect();
    Some(SourceError::new(state, reasons.join("; ")))
}

fn is_unimplemented(error: &GrpcError) -> bool {
    matches!(error, GrpcError::Status { code, .. } if code == UNIMPLEMENTED)
}

fn state(error: &GrpcError) -> NameSourceState {
    match error {
        GrpcError::Protocol(_) => NameSourceState::Malformed,
        error if is_unimplemented(error) => NameSourceState::Malformed,
        GrpcError::Connect(_) | GrpcError::Status { .. } => NameSourceState::Unreadable,
    }
}

async fn query(socket: &Path, sandboxes: &mut Sandboxes) -> Result<(), GrpcError> {
    let channel = Arc::new(Channel::connect(socket).await?);
    let [current, older] = VERSIONS;
    let (version, list): (_, api::ListResponse) =
        match call(&channel, current, "ListPodSandbox", &api::ListRequest {}).await {
            Err(error) if is_unimplemented(&error) => {
                (older, call(&channel, older, "ListPodSandbox", &api::ListRequest {}).await?)
            }
            answer => (current, answer?),
        };
    let unknown: Vec<String> = list
        .items
        .iter()
        .filter(|sandbox| sandbox.state == READY && !sandboxes.known.contains_key(&sandbox.id))
        .map(|sandbox| sandbox.id.clone())
        .collect();
    sandboxes.listed = Some(list.items);
    let mut asked = JoinSet::new();
    let mut unknown = unknown.into_iter();
    loop {
        while asked.len() < CONCURRENT_REQUESTS
            && let Some(id) = unknown.next()
        {
            let channel = Arc::clone(&channel);
            asked.spawn(async move {
                let request = api::StatusRequest { id: id.clone(), verbose: true };
                let status: Result<api::StatusResponse, _> =
                    call(&channel, version, "PodSandboxStatus", &request).await;
                (id, status)
            });
        }
        let Some(answer) = asked.join_next().await else { return Ok(()) };
        match answer {
            Ok((id, Ok(status))) => {
                if let Some(network) = network(&status) {
                    sandboxes.known.insert(id, network);
                }
            }
            // It has gone since it was listed.
            Ok((_, Err(GrpcError::Status { .. }))) => {}
            Ok((_, Err(error))) => return Err(error),
            Err(error) => return Err(GrpcError::Protocol(error.to_string())),
        }
    }
}

async fn call<A: Message + Default>(
    channel: &Channel,
    version: &str,
    method: &str,
    request: &impl Message,
) -> Result<A, GrpcError> {
    channel.call(&format!("/{version}.RuntimeService/{method}"), request).await
}

/// The network of a sandbox that runs; `None` if it no longer does.
fn network(answer: &api::StatusResponse) -> Option<Network> {
    let status = answer.status.as_ref().filter(|status| status.state == READY)?;
    let options = status.linux.as_ref().and_then(|linux| linux.namespaces.as_ref()?.options.as_ref());
    if options.is_some_and(|options| options.network == NODE) {
        return Some(Network::default());
    }
    let texts = status.network.iter().flat_map(|network| {
        std::iter::once(&network.ip).chain(network.additional.iter().map(|additional| &additional.ip))
    });
    Some(Network {
        addresses: texts.filter_map(|text| text.parse().ok()).collect(),
        netns: answer.info.get("info").and_then(|info| namespace(info)),
    })
}

/// The path of the network namespace, from the JSON that containerd and CRI-O add to a verbose status.
#[must_use]
pub fn namespace(info: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Info {
        #[serde(rename = "runtimeSpec")]
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        linux: Linux,
    }
    #[derive(Deserialize)]
    struct Linux {
        namespaces: Vec<Namespace>,
    }
    #[derive(Deserialize)]
    struct Namespace {
        #[serde(rename = "type")]
        kind: String,
        path: Option<String>,
    }
    let info: Info = serde_json::from_str(info).ok()?;
    info.spec.linux.namespaces.into_iter().find(|namespace| namespace.kind == "network")?.path
}

/// The sandboxes in a runtime's answers, as gRPC frames them: to `ListPodSandbox`, and to `PodSandboxStatus` about each
/// sandbox. It does not look for veths.
pub fn parse(list: &[u8], status: &[u8]) -> Result<SourceReading, GrpcError> {
    let listed = grpc::parse::<api::ListResponse>(list)?.items;
    let network = network(&grpc::parse(status)?);
    let known = listed.iter().filter_map(|sandbox| Some((sandbox.id.clone(), network.clone()?))).collect();
    Ok(reading(&listed, &known, |paths| Ok(vec![Vec::new(); paths.len()])))
}

/// In: the answers, and how to find the veths into network namespaces, by these namespaces' paths.
fn reading(
    listed: &[api::Sandbox],
    known: &HashMap<String, Network>,
    veths: impl FnOnce(&[Option<&str>]) -> Result<Vec<Vec<u32>>, SourceError>,
) -> SourceReading {
    let network = |sandbox: &api::Sandbox| known.get(&sandbox.id).filter(|_| sandbox.state == READY);
    let valid: Vec<(PodName, &api::Sandbox)> = listed
        .iter()
        .filter_map(|sandbox| {
            let metadata = sandbox.metadata.as_ref()?;
            Some((PodName::new(&metadata.namespace, &metadata.name)?, sandbox))
        })
        .collect();
    let left_out = listed.len() - valid.len();
    let paths: Vec<_> = valid.iter().map(|(_, sandbox)| network(sandbox)?.netns.as_deref()).collect();
    let (mut veths, error) = match veths(&paths) {
        Ok(veths) => (veths.into_iter(), None),
        Err(error) => (Vec::new().into_iter(), Some(error)),
    };
    let pods = valid.into_iter().map(|(name, sandbox)| PodReading {
        name: Some(name),
        sandbox: Some(sandbox.id.clone()),
        uid: sandbox.metadata.as_ref().map(|metadata| metadata.uid.clone()).filter(|uid| is_uid(uid)),
        addresses: network(sandbox).map(|network| network.addresses.clone()).unwrap_or_default(),
        veths: veths.next().unwrap_or_default(),
    });
    let reading = SourceReading::pods(pods.collect(), left_out);
    SourceReading { error: error.or(reading.error), ..reading }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_namespaces() {
        let containerd = r#"{"pid":7,"runtimeSpec":{"ociVersion":"1.0","linux":{"namespaces":[{"type":"pid"},
            {"type":"network","path":"/var/run/netns/cni-1f"}]}},"cniResult":{}}"#;
        assert_eq!(namespace(containerd).as_deref(), Some("/var/run/netns/cni-1f"));
        for none in ["", "{}", r#"{"runtimeSpec":{"linux":{"namespaces":[{"type":"network"}]}}}"#] {
            assert_eq!(namespace(none), None, "{none}");
        }
    }

    /// Bytes as the protocol has them: a tag (the field's number times 8, and 2 for what has a length), length, contents.
    fn field(number: u8, contents: &[u8]) -> Vec<u8> {
        let length = u8::try_from(contents.len()).ok().filter(|length| *length < 128).expect("short");
        [&[number << 3 | 2, length], contents].concat()
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&[0, 0, 0, 0, u8::try_from(message.len()).expect("short")], message].concat()
    }

    #[test]
    fn answers_as_they_come() {
        let sandbox = |name: &[u8]| {
            let metadata = [field(1, name), field(2, b"0d0eb7a4-8b6c-4f0e-9a52-2c1d33a4b5c6"), field(3, b"default")];
            field(1, &[field(1, b"3d1f"), field(2, &metadata.concat())].concat())
        };
        let list = framed(&[sandbox(b"client"), sandbox(b"\x1b[2J")].concat());
        let status = framed(&field(1, &field(5, &field(1, b"10.0.0.21"))));
        let reading = parse(&list, &status).expect("well formed");
        let pods: Vec<_> = reading.facts.pods.iter().map(|pod| (pod.name.clone(), pod.addresses.clone())).collect();
        assert_eq!(pods, [(PodName::new("default", "client"), vec![IpAddr::from([10, 0, 0, 21])])]);
        assert_eq!(reading.error.expect("one is no pod").state, NameSourceState::Incomplete);
        assert!(parse(&list[..list.len() - 1], &status).is_err());
    }

    #[test]
    fn sandboxes_without_a_network_of_their_own() {
        let answer = |state, mode| api::StatusResponse {
            status: Some(api::Status {
                state,
                network: Some(api::Network {
                    ip: "10.0.0.21".to_owned(),
                    additional: vec![api::Ip { ip: "2001:db8::21".to_owned() }, api::Ip { ip: "?".to_owned() }],
                }),
                linux: Some(api::Linux {
                    namespaces: Some(api::Namespaces { options: Some(api::Options { network: mode }) }),
                }),
            }),
            info: HashMap::new(),
        };
        let addresses = |state, mode| network(&answer(state, mode)).map(|network| network.addresses.len());
        assert_eq!(addresses(READY, 0), Some(2));
        assert_eq!(addresses(READY, NODE), Some(0));
        assert_eq!(addresses(1, 0), None);
    }
}
