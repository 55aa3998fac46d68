//! What a class is filled with: its colour, and lines or dots that tell it from the others on grey paper, too.

use maud::{Markup, html};

/// A class, what is drawn over its colour in a square of `SIZE`, and by how many degrees that is turned.
const PATTERNS: [(&str, &str, u16); 6] = [
    ("again", "M2 0V8M6 0V8", 45),
    ("local", "M4 0V8", 135),
    ("host", "M1 2h2M5 6h2", 0),
    ("transit", "M0 2H8M0 6H8", 0),
    ("bad", "M4 0V8M0 4H8", 45),
    ("warn", "M2 0V8M6 0V8", 0),
];
const SIZE: u8 = 8;

/// The patterns, for every picture of the page; style.css names them.
pub fn patterns() -> Markup {
    html! {
        svg class="patterns" width="0" height="0" aria-hidden="true" {
            defs {
                @for (class, lines, degrees) in PATTERNS {
                    pattern id={ "fill-" (class) } class=(if class == "again" { "eni" } else { class }) width=(SIZE) height=(SIZE)
                        patternUnits="userSpaceOnUse" patternTransform={ "rotate(" (degrees) ")" } {
                        path fill="currentColor" d={ "M0 0H" (SIZE) "V" (SIZE) "H0Z" } {}
                        path class="lines" d=(lines) {}
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::html::timeline::class;
    use crate::report::PathClass;

    /// No two paths have one class, and all but one have a pattern, which the style uses.
    #[test]
    fn paths_differ() {
        const STYLE: &str = include_str!("style.css");
        let classes: std::collections::BTreeSet<_> = PathClass::ALL.map(class).into();
        assert_eq!(classes.len(), PathClass::ALL.len());
        for class in classes.into_iter().filter(|class| *class != "eni").chain(["again"]) {
            assert!(PATTERNS.iter().any(|(known, ..)| *known == class), "{class}");
            assert!(STYLE.contains(&format!("fill:url(#fill-{class})")), "{class}");
        }
        let drawn: std::collections::BTreeSet<_> =
            PATTERNS.iter().map(|(_, lines, degrees)| (lines, degrees)).collect();
        assert_eq!(drawn.len(), PATTERNS.len());
    }
}
