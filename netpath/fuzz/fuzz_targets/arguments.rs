//! Any words that say which flows or devices are meant: what is shown of them must mean the same when it is read again, and
//! what is said against them must be fit to print.
//!
//! In: a word a line.
#![no_main]

mod printed;

use std::slice;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use netpath::node::devices::EniChoice;
use netpath::path::select::Condition;
use netpath::pattern::Pattern;
use netpath::render::explain::{self, Selection};
use netpath::render::units::{Scale, Units};
use netpath::report::Report;

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

fuzz_target!(|text: &str| {
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
