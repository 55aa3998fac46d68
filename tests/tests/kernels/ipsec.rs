//! IPsec between the node and another: by policies, where the kernel shows packets to the ENI's hooks once more, and by an xfrm
//! interface, which shows them itself.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use lab::{Host, ip, ip_batch};

use super::seen::{BYTES, FRAMES_BYTES, converse, fetch, measure};
use super::{chosen_way, each_way, lab};

/// An address of the other node that is reached through IPsec alone.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 7);

/// What both ends must know to encrypt what passes between them; `extra` is the interface's number.
fn associations(ends: [&Host; 2], extra: &str) -> String {
    let mut batch = String::new();
    let (cipher, hash) = ("5a".repeat(16), "a5".repeat(32));
    for (spi, [from, to]) in [(1, ends), (2, [ends[1], ends[0]])] {
        writeln!(
            batch,
            "xfrm state add src {} dst {} proto esp spi {spi} reqid 7 mode tunnel enc cbc(aes) 0x{cipher} auth hmac(sha256) 0x{hash} {extra}",
            from.ipv4, to.ipv4
        )
        .unwrap();
    }
    batch
}

/// A policy for what goes from one network to another between these ends.
fn policy(direction: &str, networks: [&str; 2], ends: [&Host; 2], extra: &str) -> String {
    let ([src, dst], [from, to]) = (networks, ends.map(|end| end.ipv4));
    format!(
        "xfrm policy add src {src} dst {dst} dir {direction} tmpl src {from} dst {to} proto esp reqid 7 mode tunnel {extra}\n"
    )
}

#[test]
#[ignore = "needs the modules esp4 and xfrm_user, which `cargo xtask kernels` has"]
fn packets_that_a_policy_encrypts() {
    let lab = lab();
    let (client, node, remote) = (lab.pod("client"), &lab.node, &lab.remote);
    let (pod, far) = (format!("{}/32", client.ipv4), format!("{FAR}/32"));
    let (there, back) = ([pod.as_str(), &far], [far.as_str(), &pod]);
    let mut batch = associations([node, remote], "");
    batch += &policy("out", there, [node, remote], "");
    batch += &policy("fwd", back, [remote, node], "");
    batch += &policy("in", back, [remote, node], "");
    ip_batch(&node.namespace, &batch).unwrap();
    let mut batch = associations([node, remote], "");
    batch += &policy("out", back, [remote, node], "");
    batch += &policy("in", there, [node, remote], "");
    write!(batch, "addr add {far} dev lo").unwrap();
    ip_batch(&remote.namespace, &batch).unwrap();

    each_way(|way| {
        let seen = measure(&lab, way, &[], || {
            converse(&client.namespace, &remote.namespace, SocketAddr::from((FAR, 80)))?;
            fetch(&client.namespace, &remote.namespace, SocketAddr::from((FAR, 443)))
        });
        let mut inside = Vec::new();
        for (proto, port) in [("udp", 80), ("tcp", 443)] {
            let [out, back] = seen.conversation(proto, port);
            let veth = client.veth.as_str();
            assert_eq!((out.path.as_str(), out.hooks()), ("eni", vec![(veth, "rx")]), "{out}");
            assert_eq!((back.path.as_str(), back.hooks()), ("eni", vec![("eth0", "rx"), (veth, "tx")]), "{back}");
            inside.extend([out, back]);
        }
        assert_eq!((inside[0].bytes, inside[1].bytes), (FRAMES_BYTES, FRAMES_BYTES));
        assert!(inside[3].bytes > BYTES, "the download: {}", inside[3]);
        seen.assert_carried(&inside);
        // The device counts what came in encrypted, once; the hook sees it again.
        let again: u64 = [inside[1], inside[3]].iter().map(|flow| flow.hops[0].bytes).sum();
        let eth0 = seen.report.device("eth0");
        let shown = eth0.residual("rx").cause("shown_again").unwrap_or_else(|| panic!("{eth0}"));
        assert_eq!(shown.bytes, Some(-again.cast_signed()), "{eth0}");
    });
}

#[test]
#[ignore = "needs the modules esp4 and xfrm_interface, which `cargo xtask kernels` has"]
fn packets_of_an_xfrm_interface() {
    let lab = lab();
    let (client, node, remote) = (lab.pod("client"), &lab.node, &lab.remote);
    let any = ["0.0.0.0/0", "0.0.0.0/0"];
    for (here, other) in [(node, remote), (remote, node)] {
        let id = "if_id 42";
        let mut batch = format!("link add ipsec0 type xfrm dev eth0 {id}\n");
        batch += &associations([node, remote], id);
        batch += &policy("out", any, [here, other], id);
        batch += &policy("in", any, [other, here], id);
        batch += &policy("fwd", any, [other, here], id);
        here.namespace.write_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")]).unwrap();
        batch += "link set ipsec0 up mtu 1400\n";
        ip_batch(&here.namespace, &batch).unwrap();
    }
    ip(&node.namespace, &format!("route add {FAR}/32 dev ipsec0")).unwrap();
    ip(&remote.namespace, &format!("addr add {FAR}/32 dev lo")).unwrap();
    ip(&remote.namespace, &format!("route add {}/32 dev ipsec0", client.ipv4)).unwrap();

    let seen = measure(&lab, chosen_way(), &[], || {
        converse(&client.namespace, &remote.namespace, SocketAddr::from((FAR, 80)))?;
        fetch(&client.namespace, &remote.namespace, SocketAddr::from((FAR, 443)))
    });
    let hops = [(client.veth.as_str(), "rx"), ("ipsec0", "tx")];
    let ([out, back], [ask, answer]) =
        (seen.assert_way("udp", 80, "eni", &hops), seen.assert_way("tcp", 443, "eni", &hops));
    assert_eq!((out.packets, back.packets), (20, 20));
    seen.assert_carried(&[out, back, ask, answer]);
    let paths: Vec<_> = seen.flows().iter().map(|flow| flow.path.as_str()).collect();
    assert!(paths.len() == 6 && paths.iter().all(|path| *path == "eni"), "four inside, ESP each way: {paths:?}");
}
