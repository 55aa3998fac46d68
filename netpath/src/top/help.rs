//! What the keys do.

/// A key, and what it does.
const KEYS: [(&str, &str); 17] = [
    ("1 to 5, Tab", "views: pods, conversations, devices, services, CloudWatch"),
    ("Up, Down, j, k", "select a row; also Page Up, Page Down, Home, End"),
    ("Enter", "open the selected row: hops, NAT, last minutes"),
    ("Esc", "close it; then unselect; then remove the filter"),
    ("/", "filter by report's options: pod default/web-* path eni"),
    ("", "or as explain does: 10.0.0.21 :443 tcp; empty for all"),
    ("g", "group: pods, workloads, namespaces, peers, paths;"),
    ("", "conversations: merged, or each connection"),
    ("s, S", "sort by the next column, by the one before"),
    ("r", "reverse the order"),
    ("b", "bytes a second, or bytes since the beginning"),
    ("u", "units: kB or KiB"),
    ("p, Space", "pause the screen; counting goes on"),
    ("i", "notes on this report, and what to do"),
    ("w", "write this window's report to a JSON file here"),
    ("q, Ctrl-C", "quit; Ctrl-Z suspends, Ctrl-L redraws"),
    ("h, ?", "this help"),
];

/// Of a replay only.
const OF_REPLAY: [(&str, &str); 3] = [
    ("Left, Right", "one window back, one on"),
    ("[, ]", "ten back, ten on; { } to the beginning, to the end"),
    ("-, +", "slower, faster"),
];

/// The help, as lines of a key and what it does.
pub fn lines(is_replay: bool) -> Vec<String> {
    let keys = OF_REPLAY.iter().filter(|_| is_replay).chain(&KEYS);
    keys.map(|(key, what)| format!("{key:<15} {what}")).collect()
}
