//! What a netpath that was killed leaves behind, and who removes it.

use super::foreign::{Foreign, agent, others};
use super::*;

/// Runs `netpath cleanup` in the node.
fn cleanup(lab: &Lab, arguments: &[&str]) -> String {
    let output = lab.netpath(&["cleanup"]).unwrap().args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_kill_leaves_packets_flowing_and_the_next_start_cleans_up() {
    each_way(|way| {
        let lab = lab();
        let window = open_window(&lab, way, 6);
        let agent = agent(&lab, &lab.pod("client").veth, TcAttachType::Ingress, Answer::Pass);
        window.kill().unwrap();
        assert!(passes(&lab));
        let left = if way.name == "tcx" { 0 } else { 6 };
        wait_for_hooks(&lab, left);
        agent.leave();
        reconciled(&lab, way, &[], || {
            assert_eq!(attached(&lab.node.namespace), 6, "only those of the netpath that runs");
            assert!(passes(&lab));
            Ok(())
        });
        assert_eq!(attached(&lab.node.namespace), 0);
    });
}

/// While it starts, attaches and measures.
#[test]
fn killed_at_any_moment_it_leaves_what_cleanup_finds() {
    const MOMENTS: u32 = 8;
    each_way(|way| {
        let lab = lab();
        let began = Instant::now();
        open_window(&lab, way, 6).report().unwrap();
        let whole = began.elapsed();
        for moment in 1..=MOMENTS {
            let mut command = lab.netpath(&["report", "--duration", "1h", "--eni", "eth*"]).unwrap();
            let mut netpath = command.args(way.arguments).stderr(Stdio::null()).spawn().unwrap();
            thread::sleep(whole * moment / MOMENTS);
            netpath.kill().unwrap();
            netpath.wait().unwrap();
            assert!(passes(&lab), "killed at {moment} of {MOMENTS}");
        }
        if way.name == "tcx" {
            wait_for_hooks(&lab, 0);
        }
        cleanup(&lab, &[]);
        assert_eq!((attached(&lab.node.namespace), passes(&lab)), (0, true));
    });
}

#[test]
fn cleanup_removes_leftovers_and_nothing_else() {
    each_way(|way| {
        let lab = lab();
        let node = &lab.node.namespace;
        open_window(&lab, way, 6).kill().unwrap();
        let left = if way.name == "tcx" { 0 } else { 6 };
        wait_for_hooks(&lab, left);
        agent(&lab, &lab.pod("client").veth, TcAttachType::Ingress, Answer::Pass);
        // The name alone is no proof.
        let (device, hook) = ("eth0".to_owned(), TcAttachType::Ingress);
        let namesake = Foreign { lab: &lab, device, hook, priority: 9, handle: TcHandle::new(0, 9) };
        namesake.attach(Answer::Next, "netpath_rx");
        let (others_before, before) = (others(node), tc_filters(node).unwrap());

        let would = cleanup(&lab, &["--dry-run"]);
        assert_eq!(would.matches("would remove: netpath_").count(), left, "{would}");
        assert_eq!(tc_filters(node).unwrap(), before, "a dry run changes nothing");
        let removed = cleanup(&lab, &[]);
        assert_eq!(removed.matches("removed: netpath_").count(), left, "{removed}");
        assert_eq!(others(node), others_before);
        assert_eq!(attached(node), 1, "the namesake stays");
        assert!(passes(&lab));

        let window = open_window(&lab, way, 6);
        let text = cleanup(&lab, &[]);
        assert!(text.contains("nothing to remove"), "{text}");
        assert_eq!(text.contains("kept: 6 filters"), way.name == "clsact", "{text}");
        assert_eq!(attached(node), 7, "a netpath that runs keeps its programs");
        window.report().unwrap();
        assert_eq!((others(node), attached(node)), (others_before, 1));
    });
}
