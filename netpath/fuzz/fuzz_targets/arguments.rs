//! Any words that say which flows, devices or packets are meant: what is shown of them must mean the same when it is read again,
//! and what is said against them must be fit to print. The chain of a filter must end.
//!
//! In: a word a line; all of them are a filter, too.
#![no_main]

mod printed;

use std::net::IpAddr;
use std::slice;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use netpath::node::devices::EniChoice;
use netpath::path::select::Condition;
use netpath::pattern::Pattern;
use netpath::render::explain::{self, Selection};
use netpath::render::units::{Scale, Units};
use netpath::report::Report;
use netpath::trace::filter::{self, Named, Names};

/// A report to look into.
static REPORT: LazyLock<Report> =
    LazyLock::new(|| serde_json::from_slice(include_bytes!("../seeds/report/pod_to_internet")).expect("a report"));

type Read = fn(&str) -> Result<Condition, String>;

const OPTIONS: [(&str, Read); 7] = [
    ("--pod ", Condition::pod),
    ("--namespace ", Condition::namespace),
    ("--service ", Condition::service),
    ("--device ", Condition::device),
    ("--ip ", Condition::net),
    ("--port ", Condition::port),
    ("--proto ", Condition::proto),
];

/// A node on which every name means something, but for those that begin with x.
struct Node;

impl Node {
    fn addresses(name: &str) -> Vec<IpAddr> {
        let known = !name.starts_with('x');
        (0..name.len()).filter(|_| known).map(|at| IpAddr::from([10, 0, (at >> 8) as u8, at as u8])).collect()
    }
}

impl Names for Node {
    fn pod(&self, name: &str) -> Vec<IpAddr> {
        Self::addresses(name)
    }
    fn namespace(&self, name: &str) -> Vec<IpAddr> {
        Self::addresses(name)
    }
    fn service(&self, name: &str) -> Vec<(u8, IpAddr, u16)> {
        Self::addresses(name).into_iter().map(|address| (6, address, 80)).collect()
    }
    fn device(&self, name: &str) -> Option<u32> {
        u32::try_from(Self::addresses(name).len()).ok()
    }
    fn port(&self, name: &str) -> Option<u16> {
        u16::try_from(Self::addresses(name).len()).ok()
    }
    fn known(&self, _: Named) -> Vec<String> {
        vec!["default/web".to_owned(), "\u{1b}[2J".to_owned()]
    }
}

/// A chain leads forward only; from 254 on it ends.
fn check_filter(text: &str) {
    match filter::parse(text).and_then(|expression| expression.compile(&Node)) {
        Ok(filter) => {
            for (at, test) in filter.tests.iter().enumerate() {
                for next in [test.then, test.otherwise].map(usize::from) {
                    assert!(next > at && (next < filter.tests.len() || next >= 254));
                }
            }
            assert!(filter.members.is_sorted());
        }
        Err(why) => printed::check(&why.to_string()),
    }
}

fuzz_target!(|text: &str| {
    check_filter(text);
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    for word in &words {
        for (option, read) in OPTIONS {
            match read(word) {
                Ok(condition) => {
                    let shown = condition.to_string();
                    let again = read(shown.strip_prefix(option).expect("its option")).expect("it was read before");
                    assert_eq!(again.to_string(), shown);
                    assert!(REPORT.flows.iter().all(|flow| condition.matches(flow) == again.matches(flow)));
                }
                Err(why) => printed::check(&why),
            }
        }
        if word.bytes().all(|byte| byte.is_ascii_alphanumeric()) && word.len() <= 1024 {
            let plain = Pattern::new(word).expect("without wildcards");
            assert!(plain.is_match(word) && !plain.is_match(&format!("{word}x")));
        }
        if let Err(error) = EniChoice::new(slice::from_ref(word)) {
            printed::check(&format!("{error:#}"));
        }
    }
    let explained =
        Selection::flows(&words).and_then(|selection| explain::text(&REPORT, &selection, 2, Scale::sums(Units::Si)));
    printed::check(&explained.unwrap_or_else(|error| error.to_string()));
});
