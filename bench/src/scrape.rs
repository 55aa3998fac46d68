//! What a scrape of `netpath serve` takes, from the request to the last byte.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use netpath::serve::http::Site;
use netpath::serve::metric::Metric;
use netpath::serve::state::State;

/// Milliseconds of each of so many scrapes of a node with so many pods.
pub fn measure(pods: usize, rounds: usize) -> Result<Vec<f64>> {
    let state = Arc::new(State::new(Duration::from_secs(10), 20_000));
    for pod in 0..pods {
        let name = format!("web-5d4f8b7c9d-{pod:05}");
        for path in ["eni", "local", "host"] {
            for direction in ["receive", "transmit"] {
                for metric in [Metric::PodBytes, Metric::PodPackets] {
                    state.count(metric, &["a-namespace", &name, path, direction], 1_234_567_890);
                }
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    let address = listener.local_addr()?;
    // It ends with this process.
    thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(Site::new(state, "node".to_owned()).serve(listener))?;
        Ok(())
    });
    let scrape = || -> Result<f64> {
        let begin = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let taken = begin.elapsed();
        ensure!(text.matches("netpath_pod_").count() >= pods * 12, "the answer lacks series");
        Ok(taken.as_secs_f64() * 1e3)
    };
    (0..rounds).map(|_| scrape()).collect()
}
