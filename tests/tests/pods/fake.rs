//! A container runtime that is none: a socket that answers CRI's two questions as a test wants, also as no runtime should.
//!
//! In: a path, and how to answer. Its threads end with the test's process.

use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Response};
use prost::Message;

/// How a socket answers.
#[derive(Clone)]
pub enum How {
    /// As the runtime of these pods, in this version of CRI.
    Pods(&'static str, Vec<(String, IpAddr)>),
    /// As Docker's containerd, whose CRI plugin is off.
    Unimplemented,
    /// Never, though it accepts whoever connects.
    Hangs,
}

/// CRI's messages, both ways.
mod api {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub struct List {
        #[prost(message, repeated, tag = "1")]
        pub items: Vec<Sandbox>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Sandbox {
        #[prost(string, tag = "1")]
        pub id: String,
        #[prost(message, optional, tag = "2")]
        pub metadata: Option<Metadata>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Metadata {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "3")]
        pub namespace: String,
    }

    /// A request for a status, and the network in the answer, are a string with tag 1.
    #[derive(Clone, PartialEq, Message)]
    pub struct Text {
        #[prost(string, tag = "1")]
        pub text: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Answer {
        #[prost(message, optional, tag = "1")]
        pub status: Option<Status>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Status {
        #[prost(message, optional, tag = "5")]
        pub network: Option<Text>,
    }
}

/// Listens at `path`.
pub fn listen(path: &Path, how: How) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let how = how.clone();
            thread::spawn(move || match how {
                How::Hangs => thread::park(),
                // Whoever asked may have gone.
                how => drop(serve(stream, &how)),
            });
        }
    });
}

fn serve(stream: UnixStream, how: &How) -> Result<(), h2::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        stream.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(stream).unwrap();
        let mut connection = h2::server::handshake(stream).await?;
        let mut waiting = Vec::new();
        while let Some(request) = connection.accept().await {
            let (request, respond) = request?;
            let method = request.uri().path().to_owned();
            let mut body = request.into_body();
            let how = how.clone();
            // The body arrives while the connection is driven.
            waiting.push(tokio::spawn(async move {
                let mut bytes = Vec::new();
                while let Some(chunk) = body.data().await {
                    bytes.extend_from_slice(&chunk?);
                }
                answer(&how, &method, &bytes, respond)
            }));
        }
        Ok(())
    })
}

fn answer(how: &How, method: &str, body: &[u8], mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let head = || Response::builder().header("content-type", "application/grpc");
    let message = match how {
        How::Pods(version, pods) if method == format!("/{version}.RuntimeService/ListPodSandbox") => {
            let sandbox = |(name, _): &(String, IpAddr)| api::Sandbox {
                id: name.clone(),
                metadata: Some(api::Metadata { name: name.clone(), namespace: "default".to_owned() }),
            };
            api::List { items: pods.iter().map(sandbox).collect() }.encode_to_vec()
        }
        How::Pods(version, pods) if method == format!("/{version}.RuntimeService/PodSandboxStatus") => {
            let asked = api::Text::decode(&body[5..]).unwrap().text;
            let address = pods.iter().find(|(name, _)| *name == asked).unwrap().1.to_string();
            let network = Some(api::Text { text: address });
            api::Answer { status: Some(api::Status { network }) }.encode_to_vec()
        }
        _ => {
            let service = method.split('/').nth(1).unwrap_or_default();
            let head = head().header("grpc-status", "12").header("grpc-message", format!("unknown service {service}"));
            respond.send_response(head.body(()).unwrap(), true)?;
            return Ok(());
        }
    };
    let mut stream = respond.send_response(head().body(()).unwrap(), false)?;
    let length = u32::try_from(message.len()).unwrap();
    stream.send_data([&[0][..], &length.to_be_bytes(), &message].concat().into(), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    stream.send_trailers(trailers)
}
