//! The page for a browser, in one: it says nothing, asks for nothing, sorts, filters, fits a phone.

mod browser;

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use netpath::model::{Attach, DeviceClass, DeviceFacts, Direction, KernelCounters, NameSource, NodeInfo, Window};
use netpath::path;
use netpath::path::conversations::{Merge, conversations};
use netpath::render::html::{Slice, write};
use netpath::render::report::View;
use netpath::report::{PathClass, Report};
use netpath::snapshot::{Connection, Counts, Device, Observation, PodRecord, Snapshot, Tuple};
use serde_json::json;

use self::browser::Browser;

const PODS: u8 = 20;

/// A node with pods that talk to each other and, by SNAT, to hosts elsewhere, in one of its windows.
fn snapshot(connections: u32, window: u8) -> Snapshot {
    let moment = Window {
        started_at: format!("2026-01-31T14:{window:02}:00Z"),
        duration_ns: 60_000_000_000,
        ..Window::default()
    };
    let node = NodeInfo { hostname: "node-1".to_owned(), kernel: "6.1.0".to_owned(), ..NodeInfo::default() };
    let mut snapshot = Snapshot::new(node, moment);
    let address = |pod: u8| IpAddr::from([10, 0, 0, 20 + pod]);
    for connection in 0..connections {
        let pod = u8::try_from(connection % u32::from(PODS)).unwrap();
        let veth = 10 + u32::from(pod);
        // Each has another one.
        let port = u16::try_from((20_000 + connection) % 65_536).unwrap();
        let bytes = 1000 + u64::from(connection) * 7919 % 99_991 * u64::from(window + 3);
        let tuple = |src, sport, dst, dport| Tuple { proto: 6, src, sport, dst, dport };
        let mut see = |ifindex, direction, tuple| {
            let counts = Counts { packets: 9, bytes, wire_bytes: bytes };
            snapshot.observations.push(Observation { ifindex, direction, vlans: [0, 0], tuple, about: None, counts });
        };
        let inside = tuple(address(pod), port, IpAddr::from([198, 51, 100, 7]), 443);
        let outside = tuple(IpAddr::from([10, 0, 0, 5]), port, inside.dst, 443);
        if connection % 3 == 0 {
            see(veth, Direction::Rx, inside);
            see(2, Direction::Tx, outside);
            snapshot.connections.push(Connection { zone: 0, original: inside, reply: outside.reversed() });
        } else {
            let other = (pod + 1 + u8::try_from(connection % 7).unwrap()) % PODS;
            let between = tuple(address(pod), port, address(other), 8080);
            see(veth, Direction::Rx, between);
            see(10 + u32::from(other), Direction::Tx, between);
        }
    }
    let device = |ifindex, name: String, class| {
        let mut facts = DeviceFacts::new(ifindex, name, class);
        facts.attach = Attach::Tcx;
        let sum = |direction| {
            let seen =
                snapshot.observations.iter().filter(|seen| (seen.ifindex, seen.direction) == (ifindex, direction));
            seen.map(|seen| seen.counts.bytes).sum()
        };
        let (rx_bytes, tx_bytes) = (sum(Direction::Rx), sum(Direction::Tx));
        facts.kernel = Some(KernelCounters { rx_bytes, tx_bytes, ..KernelCounters::default() });
        Device::new(facts)
    };
    let mut devices = vec![device(2, "eth0".to_owned(), DeviceClass::Eni)];
    devices[0].facts.addresses = vec!["10.0.0.5/24".to_owned()];
    for pod in 0..PODS {
        let mut veth = device(10 + u32::from(pod), format!("eni{pod:x}</script>"), DeviceClass::Veth);
        veth.routed = vec![address(pod)];
        devices.push(veth);
        snapshot.names.pods.push(PodRecord {
            source: NameSource::Cri,
            namespace: ["shop", "batch", "kube-system"][usize::from(pod % 3)].to_owned(),
            name: match pod {
                // Of more room than as many others.
                9 => "W".repeat(60),
                10 => "網卡".repeat(30),
                17 => format!("e{}", "\u{301}".repeat(300)),
                pod => format!("<img src=x onerror=alert({pod})>"),
            },
            uid: None,
            addresses: vec![address(pod)],
            veths: vec![10 + u32::from(pod)],
            at_start: true,
            at_end: true,
        });
    }
    snapshot.devices = devices;
    snapshot
}

/// A page of so many windows, in a file that outlives the test.
fn page(name: &str, connections: u32, windows: u8, view: View) -> (PathBuf, Report) {
    let mut slices: Vec<_> =
        (0..windows).map(|window| Slice::of(&path::report(&snapshot(connections, window)))).collect();
    // Every path has its place in the legend.
    for slice in &mut slices {
        slice.by_path = PathClass::ALL.map(|path| (path, slice.by_path[&path] + 5000)).into();
    }
    let whole = (0..windows).map(|window| snapshot(connections, window)).reduce(Snapshot::merge).unwrap();
    let report = path::report(&whole);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    write(&report, &slices, &mut File::create(&file).unwrap(), &view).unwrap();
    (file, report)
}

/// The cells of a column of the conversations, as they are shown.
fn column(browser: &mut Browser, index: usize) -> Vec<String> {
    let rows = "[...document.querySelectorAll('#conversations tbody tr:not(.d)')]";
    let cells = browser.value(&format!("{rows}.map((row) => row.cells[{index}].textContent)"));
    serde_json::from_value(cells).unwrap()
}

fn type_filter(browser: &mut Browser, words: &str) {
    browser.click("document.querySelector('#conversations input')");
    browser.value("document.activeElement.select()");
    browser.call("Input.insertText", &json!({"text": words}));
    browser.value("new Promise((done) => setTimeout(done, 400))");
}

#[test]
fn a_browser_sorts_and_filters() {
    let (file, report) = page("page.html", 900, 2, View { flows: true, ..View::default() });
    let mut browser = Browser::start();
    browser.open(&file, [1280, 900], "light");
    assert_eq!(browser.value("document.querySelectorAll('img').length"), json!(0), "a name is text");
    assert_eq!(column(&mut browser, 0).len(), 300);

    // By what was sent: falling, then rising, by the report's own numbers.
    let flows = conversations(&report.flows, Merge::Nothing);
    let mut sent: Vec<u64> = flows.iter().map(|one| one.sent_bytes.unwrap()).collect();
    sent.sort_unstable();
    let shown = |browser: &mut Browser| -> Vec<u64> {
        let rows = "[...document.querySelectorAll('#conversations tbody tr:not(.d)')]";
        let numbers = browser.value(&format!("{rows}.map((row) => Number(row.cells[8].textContent.split(', ')[0]))"));
        let ids: Vec<u64> = serde_json::from_value(numbers).unwrap();
        ids.iter().map(|id| flows.iter().find(|one| one.flows[0] == *id).unwrap().sent_bytes.unwrap()).collect()
    };
    let heading = |browser: &mut Browser| browser.value("document.querySelectorAll('#conversations th')[3].ariaSort");
    browser.click("document.querySelectorAll('#conversations thead button')[3]");
    assert_eq!(heading(&mut browser), "descending");
    assert_eq!(shown(&mut browser), sent.iter().rev().take(300).copied().collect::<Vec<_>>());
    browser.click("document.querySelectorAll('#conversations thead button')[3]");
    assert_eq!(heading(&mut browser), "ascending");
    assert_eq!(shown(&mut browser), sent[..300]);

    // Every row that has both words, and no other.
    type_filter(&mut browser, "ALERT(3) :443");
    let matching = column(&mut browser, 0);
    let expected = flows
        .iter()
        .filter(|one| one.from.pod.as_deref().is_some_and(|pod| pod.contains("alert(3)")) && one.to.port == Some(443));
    assert_eq!(matching.len(), expected.count());
    assert!(!matching.is_empty() && matching.iter().all(|name| name.contains("alert(3)")), "{matching:?}");
    type_filter(&mut browser, "no such");
    assert_eq!(column(&mut browser, 0), Vec::<String>::new());
    // A name is found by its address, too.
    type_filter(&mut browser, "10.0.0.24");
    let expected =
        flows.iter().filter(|one| [&one.from, &one.to].iter().any(|end| end.address == Some([10, 0, 0, 24].into())));
    let expected = expected.count();
    assert!(column(&mut browser, 0).len() == expected && expected > 0, "{expected}");
    // Paper says so, and has every row where nothing is filtered.
    let paper = print(&mut browser);
    assert_eq!(
        (&paper[0], &paper[1]),
        (&json!(expected), &json!(format!("{expected} of 900 rows: those with “10.0.0.24”")))
    );
    type_filter(&mut browser, "");
    assert_eq!(print(&mut browser), json!([900, "", true]));
    assert_eq!(column(&mut browser, 0).len(), 300, "the screen has them no more");
    browser.click("document.querySelector('#conversations .more')");
    assert_eq!(column(&mut browser, 0).len(), 600);
    browser.click("document.querySelector('#conversations .more')");
    assert_eq!(column(&mut browser, 0).len(), 900);
    assert_eq!(
        browser.value("document.activeElement.ariaLabel"),
        browser.value("document.querySelector('#conversations h2').textContent")
    );
    // Addresses are ordered as numbers.
    let sorted = "['[fd00::10]:80', '10.0.0.9', 'fd00::a', '10.0.0.10', 'fd00::1:0', 'a/b:2'].sort((a, b) => text.compare(ordered(a), ordered(b)))";
    assert_eq!(
        browser.value(sorted),
        json!(["10.0.0.9", "10.0.0.10", "fd00::a", "[fd00::10]:80", "fd00::1:0", "a/b:2"])
    );
    assert_eq!(browser.told(), [format!("file://{}", file.display())]);
}

/// What paper has of the conversations: how many rows, the sentence about others, and whether everything is unfolded.
fn print(browser: &mut Browser) -> serde_json::Value {
    browser.value(
        "addEventListener('beforeprint', () => { const all = document.querySelector('#conversations'); window.paper = \
         [all.querySelectorAll('tbody tr:not(.d)').length, all.querySelector('.paper').textContent, \
         !document.querySelector('details:not([open])')]; }, { once: true })",
    );
    let pdf = browser.call("Page.printToPDF", &json!({}));
    assert!(pdf["data"].as_str().unwrap().len() > 10_000);
    browser.value("window.paper")
}

/// Without the script, too, paper shows what is folded, and what is not there is said.
#[test]
fn paper_without_the_script() {
    let (file, _) = page("paper.html", 400, 3, View { flows: true, ..View::default() });
    let mut browser = Browser::start();
    browser.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.open(&file, [1280, 900], "light");
    let unseen =
        "[...document.querySelectorAll('details > :not(summary)')].filter((one) => !one.checkVisibility()).length";
    assert!(browser.value(unseen).as_u64().unwrap() > 20, "folded on a screen");
    browser.call("Emulation.setEmulatedMedia", &json!({"media": "print"}));
    assert_eq!(browser.value(unseen), json!(0));
    let note = browser.value("document.querySelector('#conversations .count').textContent");
    assert!(note.as_str().unwrap().starts_with("300 of 400 rows; the others need"), "{note}");
    let sizes =
        "['body', 'td', 'p'].map((one) => parseFloat(getComputedStyle(document.querySelector(one)).fontSize) <= 11)";
    assert_eq!(browser.value(sizes), json!([true, true, true]));
}

#[test]
fn it_fits_a_phone_and_a_screen() {
    let (file, report) = page("small.html", 60, 8, View::default());
    let mut browser = Browser::start();
    for (width, scheme) in [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")] {
        browser.open(&file, [width, 900], scheme);
        let wide = browser.value("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= width.into(), "{wide} of {width}");
        browser.value("document.querySelectorAll('.flow').forEach((one, at) => { one.open = at < 2; })");
        browser.screenshot(&file.with_file_name(format!("page-{width}-{scheme}.png")));
        assert_eq!(browser.told(), [format!("file://{}", file.display())]);
    }

    // Nor does anything stick out of a small phone, or a name out of its picture.
    for width in [320, 360] {
        browser.open(&file, [width, 700], "light");
        assert_eq!(browser.value("document.documentElement.scrollWidth"), json!(width));
        let out = "[...document.querySelectorAll('main *')].filter((one) => !one.closest('.scroll, svg.patterns') && \
                   one.getBoundingClientRect().right > innerWidth).map((one) => one.outerHTML.slice(0, 99))";
        assert_eq!(browser.value(out), json!([]));
    }
    let names = browser.value(
        "[...document.querySelectorAll('svg.sankey text')].map((one) => { const box = one.getBBox(); \
         return [one.textContent, box.x >= 0 && box.x + box.width <= one.ownerSVGElement.viewBox.baseVal.width]; })",
    );
    let names: Vec<(String, bool)> = serde_json::from_value(names).unwrap();
    assert!(names.iter().all(|(_, within)| *within), "{names:?}");
    for letter in ["WW…", "網卡…", "\u{301}"] {
        assert!(names.iter().any(|(name, _)| name.contains(letter)), "{letter} {names:?}");
    }

    // What the button saves, and what a shell takes out, is the report.
    let mut json = Vec::new();
    netpath::render::json::write_line(&report, &mut json).unwrap();
    let save = "(async () => { const made = URL.createObjectURL; \
                const blob = new Promise((done) => { URL.createObjectURL = (blob) => { done(blob); return made(blob); }; }); \
                document.getElementById('save').click(); return (await blob).text(); })()";
    assert_eq!(browser.value(save).as_str().unwrap().as_bytes(), json);
    let line = browser.value("document.querySelector('#json code').textContent");
    let line = line.as_str().unwrap().replace("PAGE", &format!("'{}'", file.display()));
    assert!(Command::new("sh").args(["-c", &line]).output().unwrap().stdout == json);
}

/// Some flows through the program, and what it refuses.
#[test]
fn the_program_writes_it() {
    usable(4_096);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("reports.json");
    let mut reports = Vec::new();
    for window in 0..2 {
        netpath::render::json::write_line(&path::report(&snapshot(3, window)), &mut reports).unwrap();
    }
    fs::write(&file, reports).unwrap();
    let file = file.to_str().unwrap();
    for (arguments, status, part) in [
        (&["report", "--interval", "1s"][..], 2, "netpath record FILE, then netpath replay FILE --format html"),
        (&["replay", "--each", file], 2, "leave out --each"),
        (&["report", "--from", file], 1, "choose one, as in: sed -n 1p FILE | netpath report --from -"),
    ] {
        let mut command = Command::new(lab::netpath_binary().unwrap());
        let output = command.args(arguments).args(["--format", "html"]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{error}");
        assert!(output.stdout.is_empty() && error.lines().count() == 1 && error.contains(part), "{error}");
    }
}

/// As many flows as the flow table has room for by default.
#[test]
#[ignore = "takes a minute without optimisation"]
fn a_large_one_is_usable() {
    usable(65_536);
}

/// A page of so many flows is not too large, and sorts and filters. How long that takes is printed.
fn usable(flows: u32) {
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (folder.path().join("report.json"), folder.path().join("page.html"));
    let report = path::report(&snapshot(flows, 1));
    netpath::render::json::write_line(&report, &mut File::create(&json).unwrap()).unwrap();
    let written = Command::new(lab::netpath_binary().unwrap())
        .args(["report", "--flows", "--format", "html", "--from"])
        .args([json.as_os_str(), "--output".as_ref(), html.as_os_str()])
        .status();
    assert!(written.unwrap().success());
    let size = fs::metadata(&html).unwrap().len();
    assert!(size < 60_000_000, "{size}");
    let mut browser = Browser::start();
    let start = std::time::Instant::now();
    browser.open(&html, [1280, 900], "light");
    let opened = start.elapsed();
    let times = browser.value(
        "(() => { const sort = document.querySelectorAll('#conversations thead button'); \
         return [2, 0].map((at) => { const start = performance.now(); sort[at].click(); return performance.now() - start; }); })()",
    );
    type_filter(&mut browser, "alert(7)");
    assert_eq!(column(&mut browser, 0).len(), 300);
    println!("{size} bytes; opened in {opened:?}; sorted by number and by name in {times} ms");
    assert_eq!(browser.told().len(), 1);
}
