//! Clients that mean no good: measuring goes on, and others are answered.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use lab::traffic::{UdpSink, send_datagrams};
use lab::{Lab, http, wait_until};

use super::{ADDRESS, get, metrics, serve, value, wait_for_windows};

#[test]
fn hostile_clients_hold_nothing_up() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let node = &lab.node.namespace;
    let netpath = serve(&lab, &[]);
    let status = |request: &str| http::request(node, ADDRESS, request).map(|answer| answer.status).ok();
    assert_eq!(status("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"), Some(405));
    assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(100_000))), Some(431));
    assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(1000))), Some(431));
    assert!(matches!(status("\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03\r\n\r\n"), None | Some(400)), "TLS");
    let head = http::request(node, ADDRESS, "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(status("GET /report HTTP/1.1\r\nHost: rebound.example\r\n\r\n"), Some(421));

    // Far more than there is room for: silent ones, some that never end, some that never read.
    let connect = |request: &[u8]| {
        let mut stream = TcpStream::connect(ADDRESS).unwrap();
        let _ = stream.write_all(request);
        stream
    };
    let open: Vec<TcpStream> = node
        .run(|| {
            let silent = (0..150).map(|_| connect(b""));
            let endless = (0..50).map(|_| connect(b"GET / HTTP/1.1\r\nHost: a\r\nA: "));
            let deaf = (0..50).map(|_| connect(b"GET /report HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            silent.chain(endless).chain(deaf).collect()
        })
        .unwrap();
    let files = |process: u32| std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    let sink = UdpSink::start(&lab.pod("server").namespace, (lab.pod("server").ipv4, 0).into()).unwrap();
    for _ in 0..5 {
        assert!(get(&lab, "/metrics").is_some_and(|answer| answer.status == 200), "others are answered");
        send_datagrams(&lab.pod("client").namespace, sink.address(), 958, 20).unwrap();
    }
    lab.wait_until_quiet().unwrap();
    wait_for_windows(&lab);
    assert_eq!(value(&metrics(&lab), "netpath_bytes_total{path=\"local\"}"), Some(100_000));
    assert!(files(netpath.id()) < 200, "{} files are open", files(netpath.id()));
    // Those beyond what there is room for have been let go.
    let gone = open.iter().filter(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        matches!((&mut &**stream).read(&mut [0]), Ok(0) | Err(_))
    });
    assert!(gone.count() > 150);
    drop(open);
    wait_until("connections are closed", || files(netpath.id()) < 100);
    netpath.signal(libc::SIGTERM);
    assert!(netpath.wait(Duration::from_mins(1)).unwrap().success());
}
