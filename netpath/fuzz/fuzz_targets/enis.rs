//! Any answers of those who know of ENIs: each id of an ENI must be one that somebody told, nothing but names and addresses may
//! get into a question, and nothing that a terminal obeys into the list of devices.
//!
//! In: parts, with the byte 0x1e between them: devices (JSON), what ipamd says of ENIs, its metrics at two times, and IMDS's
//! answers in the order in which it is asked, an empty one for what it does not find.
#![no_main]

mod printed;

use libfuzzer_sys::fuzz_target;
use netpath::model::DeviceClass;
use netpath::model::Origin;
use netpath::node::devices::Link;
use netpath::node::enis::{Candidate, Known, imds, ipamd, join, metrics};
use netpath::render::block::Screen;
use netpath::render::devices;

/// More than one instance has; what is asked of each; and what is asked of the instance.
const QUESTIONS: usize = 256 * 6 + 3;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|byte| *byte == 0x1e);
    let mut part = || parts.next().unwrap_or_default();
    let links: Vec<Link> = serde_json::from_slice(part()).unwrap_or_default();
    let managed = ipamd::parse(part()).map(|(enis, _)| enis).unwrap_or_default();
    let [first, last] = [part(), part()].map(|body| metrics::parse(body).unwrap_or_default());

    let mut facts = imds::Facts::default();
    let mut interview = imds::Interview::new(&mut facts);
    let mut asked = 0;
    while let Some(key) = interview.key() {
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-/:".contains(&byte)), "{key:?}");
        let body = part();
        interview.take(if body.is_empty() { 404 } else { 200 }.try_into().expect("a status"), body);
        asked += 1;
    }
    assert!(asked <= QUESTIONS);

    let candidates: Vec<_> = links.iter().map(|link| Candidate { link, allowances: None }).collect();
    let enis = join::join(&candidates, Some(&facts), &managed);
    assert!(enis.len() <= links.len() + facts.interfaces.len() + managed.len());
    for eni in &enis {
        let plain = |byte: u8| byte.is_ascii_hexdigit() || b".:/".contains(&byte);
        assert!(eni.prefixes.iter().flat_map(|told| &told.value).all(|prefix| prefix.bytes().all(plain)), "{eni:?}");
        assert!(eni.id.is_none() || eni.disagreement.is_none());
        let Some(id) = &eni.id else { continue };
        let hex = |digits: &str| digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        assert!(id.value.strip_prefix("eni-").is_some_and(|digits| digits.len() >= 8 && hex(digits)), "{id:?}");
        let told = match id.origin {
            Origin::Altname => links.iter().any(|link| {
                link.class == DeviceClass::Eni && Some(link.ifindex) == eni.ifindex && link.altnames.contains(&id.value)
            }),
            Origin::Imds => facts
                .interfaces
                .iter()
                .any(|told| Some(&told.mac) == eni.mac.as_ref() && told.id.as_ref() == Some(&id.value)),
            Origin::Ipamd => managed.iter().any(|told| told.id == id.value),
            Origin::Vlan => false,
        };
        assert!(told, "{id:?}");
    }

    let ipam = metrics::ipam(&first, &last);
    assert_eq!(ipam.metrics.len(), last.len());
    assert!(ipam.metrics.iter().all(|metric| metric.in_window.is_none_or(|grown| grown <= metric.value)));

    let known = Known {
        vpc_cidr_blocks: facts.vpc_cidr_blocks(),
        instance_id: facts.instance_id,
        enis,
        ipam: Some(ipam),
        sources: Vec::new(),
    };
    let mut text = Vec::new();
    for width in [None, Some(0), Some(80)] {
        devices::table(&links, &known, &mut text, &Screen { width, ..Screen::default() }).expect("a list");
    }
    devices::json(&links, &known, &mut text).expect("a list");
    printed::check(std::str::from_utf8(&text).expect("text"));
});
