//! `netpath top` in a real terminal. The witnesses are those who send, the kernel's counters, and the terminal's own settings.

use lab::terminal::Terminal;
use lab::traffic::{UdpSink, send_datagrams};
use lab::{Lab, Report, netpath_binary, netpath_hooks, read, signal, wait_until};

const SIZE: (u16, u16) = (80, 24);
const TOP: &str = "top --interval 200ms --eni 'eth*'";

fn lab() -> Lab {
    Lab::builder().pod("client").pod("server").start().unwrap()
}

fn line(screen: &str, begin: &str) -> String {
    screen.lines().find(|line| line.starts_with(begin)).unwrap_or_default().to_owned()
}

/// What passes on a line of the head, as it is written.
fn amount(screen: &str, begin: &str) -> String {
    let line = line(screen, begin);
    line[begin.len()..].split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

const LOCAL: &str = "stayed on this node, pod to pod";

#[test]
fn totals_are_what_was_sent() {
    let (lab, folder) = (lab(), tempfile::tempdir().unwrap());
    let sink = UdpSink::start(&lab.pod("server").namespace, (lab.pod("server").ipv4, 0).into()).unwrap();
    let top = Terminal::start(&lab, folder.path(), SIZE, "", TOP).unwrap();
    top.wait_for("1 Pods");
    top.press(&["b", "2"]).unwrap();
    top.wait_for("all since");
    // 42 bytes of headers each.
    send_datagrams(&lab.pod("client").namespace, sink.address(), 958, 100).unwrap();
    let screen = top.wait_for("100.0 kB");
    assert_eq!(amount(&screen, LOCAL), "100.0 kB", "{screen}");
    send_datagrams(&lab.pod("client").namespace, sink.address(), 958, 300).unwrap();
    let screen = top.wait_for("400.0 kB");
    assert_eq!(amount(&screen, LOCAL), "400.0 kB", "{screen}");

    // What is opened, and what is written.
    top.press(&["Down", "Enter"]).unwrap();
    let screen = top.wait_for("last ");
    let address = lab.pod("server").ipv4.to_string();
    assert!(screen.contains(&address), "{screen}");
    top.press(&["Escape", "w"]).unwrap();
    let said = top.wait_for("has the report of this window");
    let name = said.split_whitespace().find(|word| word.starts_with("netpath-")).unwrap();
    let report: Report = read(&std::fs::read(folder.path().join(name)).unwrap()).unwrap();
    assert!(report.devices.iter().any(|device| device.name == lab.pod("client").veth));

    // A filter, one that is wrong, and none.
    top.type_text("/proto moon").unwrap();
    top.press(&["Enter"]).unwrap();
    top.wait_for("invalid value 'moon'");
    top.press(&["C-u"]).unwrap();
    top.type_text(&format!("ip {address} proto udp")).unwrap();
    top.press(&["Enter"]).unwrap();
    let screen = top.wait_for("only ip");
    assert_eq!(amount(&screen, LOCAL), "400.0 kB", "the node's, filter or not");
    top.press(&["q"]).unwrap();
    assert_eq!(top.ended(folder.path()).unwrap(), 0);
}

/// Whatever ends it, the terminal is as before, and nothing is attached any more.
#[test]
fn it_leaves_nothing_behind() {
    let lab = lab();
    let end = |how: &dyn Fn(&Terminal)| {
        let folder = tempfile::tempdir().unwrap();
        let top = Terminal::start(&lab, folder.path(), SIZE, "", TOP).unwrap();
        top.wait_for("1 Pods");
        assert!(netpath_hooks(&lab.node.namespace).unwrap() > 0);
        how(&top);
        let status = top.ended(folder.path()).unwrap();
        assert_eq!(netpath_hooks(&lab.node.namespace).unwrap(), 0);
        assert_eq!(std::fs::read_to_string(folder.path().join("errors")).unwrap(), "");
        status
    };
    assert_eq!(end(&|top| top.press(&["C-c"]).unwrap()), 0);
    for number in [libc::SIGTERM, libc::SIGHUP] {
        assert_eq!(end(&|top| signal(top.netpath().unwrap(), number)), 0, "signal {number}");
    }
    // The terminal goes away as a whole.
    let folder = tempfile::tempdir().unwrap();
    let top = Terminal::start(&lab, folder.path(), SIZE, "", TOP).unwrap();
    top.wait_for("1 Pods");
    drop(top);
    wait_until("the hooks are gone", || netpath_hooks(&lab.node.namespace).unwrap() == 0);
    // Its time is over.
    let folder = tempfile::tempdir().unwrap();
    let top = Terminal::start(&lab, folder.path(), SIZE, "", &format!("{TOP} --duration 1s")).unwrap();
    assert_eq!(top.ended(folder.path()).unwrap(), 0);
}

#[test]
fn every_terminal() {
    let (lab, folder) = (lab(), tempfile::tempdir().unwrap());
    let start = |environment| Terminal::start(&lab, folder.path(), SIZE, environment, TOP).unwrap();
    let colours = |screen: &str| screen.contains("38;5;") || screen.contains("\x1b[31m");
    let top = start("");
    top.wait_for("crossed an ENI");
    assert!(colours(&top.screen(true).unwrap()));
    for (columns, lines) in [(40, 12), (200, 50), (20, 5), (80, 24)] {
        top.resize(columns, lines).unwrap();
        top.wait_for(if columns < 40 { "is too small" } else { "1 Pods" });
        wait_until("no line is longer than the screen", || {
            let screen = top.screen(false).unwrap();
            screen.lines().count() == usize::from(lines)
                && screen.lines().all(|line| line.chars().count() <= usize::from(columns))
        });
    }
    drop(top);
    let top = start("NO_COLOR=1");
    top.wait_for("crossed an ENI");
    let screen = top.screen(true).unwrap();
    assert!(!screen.contains("38;5;") && !screen.contains("\x1b[31m"), "{screen:?}");
    drop(top);
    let top = start("LC_ALL=C");
    top.wait_for("crossed an ENI");
    top.press(&["2"]).unwrap();
    assert!(top.screen(false).unwrap().is_ascii());
}

#[test]
fn a_recording_is_played() {
    let (lab, folder) = (lab(), tempfile::tempdir().unwrap());
    let sink = UdpSink::start(&lab.pod("server").namespace, (lab.pod("server").ipv4, 0).into()).unwrap();
    let file = folder.path().join("node.rec");
    let name = file.to_str().unwrap();
    let recording = lab.open_recording(&[name, "--interval", "200ms"]).unwrap();
    for _ in 0..3 {
        send_datagrams(&lab.pod("client").namespace, sink.address(), 958, 100).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(400));
    }
    lab.wait_until_quiet().unwrap();
    recording.finish().unwrap();
    let top = Terminal::start(&lab, folder.path(), SIZE, "", &format!("top --replay {name}")).unwrap();
    top.wait_for("replay ");
    top.press(&["b"]).unwrap();
    top.wait_for(", the last");
    let screen = top.wait_for("300.0 kB");
    assert_eq!(amount(&screen, LOCAL), "300.0 kB", "{screen}");
    top.press(&["{"]).unwrap();
    let screen = top.wait_for("replay 1,");
    assert!(!screen.contains("300.0 kB"), "{screen}");
    top.press(&["p", "Right", "Right"]).unwrap();
    top.wait_for("replay 3,");
    top.press(&["}"]).unwrap();
    top.wait_for(", the last");
    top.press(&["q"]).unwrap();
    assert_eq!(top.ended(folder.path()).unwrap(), 0);
}

#[test]
fn what_is_no_terminal() {
    let output = std::process::Command::new(netpath_binary().unwrap()).arg("top").output().unwrap();
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && why.contains("netpath report --interval"), "{why}");
}
