//! A node on which pods go on talking, to look at: as `netpath top` shows it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::terminal::Terminal;
use lab::traffic::{Serve, TcpServer, download};
use lab::{Lab, Namespace, netpath_binary};

use super::picture;

/// The service's own address, which no device has.
const SERVICE: &str = "172.20.0.10:80";
const PORT: u16 = 8080;
/// How long the node of a page is recorded.
const RECORDED: &str = "15s";
/// How long the picture's trends are, about.
const PICTURE_AFTER: Duration = Duration::from_secs(40);

/// Shows the node in the terminal, with these options, until the user ends it.
pub fn top(options: &[String]) -> Result<ExitCode> {
    let node = Node::new()?;
    let status = node.while_it_talks(|| {
        let mut top = node.lab.netpath(&["top", "--eni", "eth*", "--host-root"])?;
        top.arg(node.files.path()).args(options).status().context("cannot run netpath top")
    })?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Records the node for a while, and writes what is replayed as a page to this file.
pub fn html(file: &str, options: &[String]) -> Result<ExitCode> {
    page(&Node::new()?, Path::new(file), options)?;
    println!("{file}: open it in a browser");
    Ok(ExitCode::SUCCESS)
}

fn page(node: &Node, file: &Path, options: &[String]) -> Result<()> {
    let own = tempfile::tempdir()?;
    let recording = own.path().join("node.rec");
    let status = node.while_it_talks(|| {
        let mut record =
            node.lab.netpath(&["record", "--eni", "eth*", "--interval", "500ms", "--duration", RECORDED])?;
        record.arg("--host-root").arg(node.files.path()).arg(&recording).status().context("cannot run netpath record")
    })?;
    ensure!(status.success(), "netpath record ended with {status}; its own message is above");
    let mut replay = Command::new(netpath_binary()?);
    replay.arg("replay").arg(&recording).args(["--format", "html", "--output"]).arg(file).args(options);
    let status = replay.status().context("cannot run netpath replay")?;
    ensure!(status.success(), "netpath replay ended with {status}; its own message is above");
    Ok(())
}

/// Writes pictures of what netpath shows of the node, `top.svg` and `page.png`, to this folder.
pub fn pictures(folder: &Path) -> Result<ExitCode> {
    let node = Node::new()?;
    let own = tempfile::tempdir()?;
    let file = own.path().join("page.html");
    page(&node, &file, &[])?;
    let path = folder.join("page.png");
    let mut browser = Command::new("chromium");
    browser.args(["--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1000,815"]);
    browser.arg(format!("--screenshot={}", path.display())).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    let status = browser.status().context("cannot run chromium")?;
    ensure!(status.success() && path.is_file(), "chromium ended with {status}");
    println!("{}", path.display());

    let screen = node.while_it_talks(|| {
        let arguments = format!("top --eni 'eth*' --host-root {}", node.files.path().display());
        let top = Terminal::start(&node.lab, own.path(), (100, 17), "LC_ALL=C.UTF-8", &arguments)?;
        sleep(PICTURE_AFTER);
        top.press(&["2", "Down"])?;
        sleep(Duration::from_secs(1));
        top.screen(true)
    })?;
    let path = folder.join("top.svg");
    std::fs::write(&path, picture::svg(&screen, "netpath top")).with_context(|| path.display().to_string())?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// The lab, with those who serve.
pub struct Node {
    pub lab: Lab,
    pub files: tempfile::TempDir,
    _servers: Vec<TcpServer>,
    talks: Vec<Talk>,
}

/// Somebody who downloads again and again.
struct Talk {
    client: Namespace,
    server: SocketAddr,
    every: Duration,
}

impl Node {
    pub fn new() -> Result<Self> {
        let lab = ["web-0", "web-1", "api-0", "db-0", "batch-0"].into_iter().fold(Lab::builder(), lab::LabBuilder::pod);
        let lab = lab.start()?;
        let files = lab.host_files()?;
        lab.snat()?;
        let (mut servers, mut talks) = (Vec::new(), Vec::new());
        let mut serve = |namespace: &Namespace, address: Ipv4Addr, bytes: u64| -> Result<SocketAddr> {
            servers.push(TcpServer::start(namespace, (address, PORT).into(), Serve::Send(bytes))?);
            Ok((address, PORT).into())
        };
        let pod = |name: &str| lab.pod(name);
        let db = serve(&pod("db-0").namespace, pod("db-0").ipv4, 900_000)?;
        let api = serve(&pod("api-0").namespace, pod("api-0").ipv4, 120_000)?;
        let outside = serve(&lab.outside.namespace, lab.outside.ipv4, 700_000)?;
        lab.cluster_ip(SERVICE.parse()?, api)?;
        lab.name_service(SERVICE.parse()?, ["default", "api", "http"])?;
        let mut talk = |client: &Namespace, server: SocketAddr, milliseconds: u64| {
            let client = Namespace::named(client.name());
            talks.push(Talk { client, server, every: Duration::from_millis(milliseconds) });
        };
        talk(&pod("api-0").namespace, db, 120);
        talk(&pod("web-0").namespace, SERVICE.parse()?, 90);
        talk(&pod("web-1").namespace, SERVICE.parse()?, 140);
        talk(&pod("batch-0").namespace, outside, 250);
        talk(&lab.node.namespace, api, 700);
        Ok(Self { lab, files, _servers: servers, talks })
    }

    /// All talk until the work is done.
    pub fn while_it_talks<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = AtomicBool::new(false);
        scope(|scope| {
            for talk in &self.talks {
                scope.spawn(|| talk.until(&done));
            }
            let worked = work();
            done.store(true, Ordering::Relaxed);
            worked
        })
    }
}

impl Talk {
    fn until(&self, done: &AtomicBool) {
        // The pace varies, so that trends have a shape.
        for round in 0_u32.. {
            if done.load(Ordering::Relaxed) || download(&self.client, self.server).is_err() {
                break;
            }
            sleep(self.every * (1 + round / 40 % 3));
        }
    }
}
