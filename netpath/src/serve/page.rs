//! The page at `/`: what there is to ask for.

use maud::{DOCTYPE, html};

use super::state::{Last, State};

const PATHS: [(&str, &str); 4] = [
    ("/metrics", "for Prometheus: sums of all windows since netpath started"),
    ("/report", "the report of the last window, JSON (schema netpath.report/1)"),
    ("/healthz", "whether windows end when they should"),
    ("/readyz", "whether netpath is attached and counts"),
];

/// The page.
#[must_use]
pub fn page(state: &State) -> String {
    let last = state.windows().last.clone();
    html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "netpath" } }
            body {
                h1 { "netpath " (env!("CARGO_PKG_VERSION")) }
                @if let Some(Last { hostname, flows, ended: Some(ended) }) = last {
                    p { (hostname) ": the last window ended at " (format!("{ended:.0}")) " and had " (flows) " flows." }
                } @else {
                    p { "The first window has not ended yet." }
                }
                dl {
                    @for (path, about) in PATHS {
                        dt { a href=(path) { (path) } }
                        dd { (about) }
                    }
                }
            }
        }
    }
    .into_string()
}
