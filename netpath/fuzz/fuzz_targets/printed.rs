//! In: text that netpath prints. Out: a panic if a terminal would obey something in it, or hide what is written.

use netpath::sanitise::sanitise;

pub fn check(text: &str) {
    for line in text.split('\n') {
        assert_eq!(sanitise(line), line);
    }
}
