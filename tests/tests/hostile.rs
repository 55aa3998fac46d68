//! Names that a terminal would obey: the kernel takes nearly any bytes for a device's. Whatever netpath prints, in any format
//! and in errors, has them written out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output};

use lab::Lab;

/// Red, by ESC and by the C1 control CSI; DEL; a byte that is no UTF-8; right to left.
const NAME: &[u8] = b"\x1b[31m\xc2\x9b1m\x7f\xff\xe2\x80\xae";

/// Without what a terminal obeys.
fn assert_clean(what: &str, output: &Output) {
    for bytes in [&output.stdout, &output.stderr] {
        let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(obeyed), "{what}: {text:?}");
    }
}

#[test]
fn a_device_named_by_an_attacker() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let node = &lab.node.namespace;
    let made = Command::new("ip")
        .args(["-n", node.name(), "link", "add"])
        .arg(OsStr::from_bytes(NAME))
        .args(["type", "veth", "peer", "name", "other"])
        .status()
        .unwrap();
    assert!(made.success());

    let name = OsStr::from_bytes(NAME);
    let lossy = String::from_utf8_lossy(NAME).into_owned();
    let run = |arguments: &[&OsStr]| lab.netpath(&[]).unwrap().args(arguments).output().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("report.json");
    let os = |text: &'static str| OsStr::new(text);
    let window = [os("--duration"), os("500ms"), os("--eni"), os("eth*")];

    let json =
        run(&[&[os("report"), os("--format"), os("json"), os("--output"), saved.as_os_str()], &window[..]].concat());
    assert!(json.status.success(), "{}", String::from_utf8_lossy(&json.stderr));
    let text = std::fs::read(&saved).unwrap();
    let report: lab::Report = lab::read(&text).unwrap();
    let devices = &report.devices;
    assert!(devices.iter().any(|device| device.name == lossy), "it reads as it is: {devices:?}");
    assert_clean("report as JSON", &Output { stdout: text, ..json });

    let ok: [(&str, Vec<&OsStr>); 5] = [
        // By clsact, netpath cannot attach to it, and the table says so; otherwise it is idle, and not in the table.
        ("report", [&[os("report"), os("--all"), os("--clsact")], &window[..]].concat()),
        ("devices", vec![os("devices"), os("--eni"), os("eth*")]),
        ("devices as JSON", vec![os("devices"), os("--format"), os("json")]),
        ("doctor as JSON", vec![os("doctor"), os("--eni"), os("eth*"), os("--format"), os("json")]),
        ("explain", vec![os("explain"), os("--from"), saved.as_os_str(), os("--device"), OsStr::new(&lossy)]),
    ];
    for (what, arguments) in ok {
        let output = run(&arguments);
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("u{1b}[31m") || what.ends_with("JSON"), "{what}");
        assert_clean(what, &output);
    }

    std::fs::copy(&saved, folder.path().join(name)).unwrap();
    let nowhere = folder.path().join("none").join(name);
    let no_report = folder.path().join(OsStr::from_bytes(b"\x1b[2J"));
    std::fs::write(&no_report, "{\"schema\": \"\u{1b}[31m\u{9b}\"}").unwrap();
    let failing: [(&str, Vec<&OsStr>); 6] = [
        ("no such device", vec![os("explain"), os("--from"), saved.as_os_str(), os("--device"), os("none")]),
        ("no such ENI", vec![os("report"), os("--eni"), OsStr::new(&lossy)]),
        ("no such ENIs", vec![os("devices"), os("--eni"), os("zz*")]),
        ("no such file", vec![os("explain"), os("--from"), nowhere.as_os_str(), os("--device"), os("eth0")]),
        ("no report", vec![os("explain"), os("--from"), no_report.as_os_str(), os("--device"), os("eth0")]),
        ("no such folder", vec![os("report"), os("--output"), nowhere.as_os_str()]),
    ];
    for (what, arguments) in failing {
        let output = run(&arguments);
        assert!(!output.status.success(), "{what}");
        assert_clean(what, &output);
    }
}
