//! A real Prometheus in the lab's node, that scrapes what listens at 127.0.0.1:9456 there.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{Namespace, Running, http, wait_until};

/// It ends when it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    namespace: Namespace,
    _process: Running,
}

impl Prometheus {
    /// Where it listens.
    pub const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

    /// Starts it with its data in `folder`, and waits until it has scraped. `rules`: a file of alerts.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn start(namespace: &Namespace, folder: &Path, rules: &Path) -> Result<Self> {
        let config = format!(
            "global: {{scrape_interval: 500ms, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             scrape_configs:\n  - job_name: netpath\n    static_configs: [{{targets: ['127.0.0.1:9456']}}]\n",
            rules.display()
        );
        let file = folder.join("prometheus.yaml");
        fs::write(&file, config)?;
        let mut command = namespace.command("prometheus")?;
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={}", Self::ADDRESS)).arg("--log.level=error");
        let process = Running::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
        let prometheus = Self { namespace: namespace.clone(), _process: process };
        // It listens some time after it was started, and scrapes some time after that.
        wait_until("Prometheus scrapes", || prometheus.query("up == 1").is_ok_and(|samples| !samples.is_empty()));
        Ok(prometheus)
    }

    /// What a query has for an answer at the moment: a list of samples, as its API has them.
    ///
    /// # Errors
    /// When Prometheus does not take the query.
    pub fn query(&self, query: &str) -> Result<Vec<Value>> {
        let escape = |byte: u8| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        let escaped: String = query.bytes().map(escape).collect();
        let answer = http::get(&self.namespace, Self::ADDRESS, &format!("/api/v1/query?query={escaped}"), "")?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        ensure!(answer["status"] == "success", "{query}: {answer}");
        Ok(answer["data"]["result"].as_array().context("a result")?.clone())
    }

    /// The one whole number that a query has for an answer.
    ///
    /// # Errors
    /// When there are none, or many, or it is not whole.
    pub fn number(&self, query: &str) -> Result<u64> {
        let samples = self.query(query)?;
        ensure!(samples.len() == 1, "{query}: {samples:?}");
        let value = samples[0]["value"][1].as_str().context("a value")?;
        value.parse().with_context(|| format!("{query}: {value}"))
    }
}
