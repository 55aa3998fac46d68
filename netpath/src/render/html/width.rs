//! How wide a text may be in the page's font: whose letters are not known here, so it is more rather than less.

/// Of a text of 13 pixels.
pub fn pixels(text: &str) -> f64 {
    text.chars().map(letter).sum()
}

fn letter(c: char) -> f64 {
    match c {
        'W' | 'M' | '@' | '%' | 'm' | 'w' | '…' | '→' => 13.0,
        'f' | 'i' | 'j' | 'l' | 'r' | 't' | 'I' | ' ' | '!' | '\'' | '(' | ')' | ',' | '-' | '.' | '/' | ':' | ';'
        | '[' | ']' | '|' => 5.5,
        'A'..='Z' | '&' | '+' | '<' | '=' | '>' | '~' | '_' | '#' => 10.0,
        '\0'..='\u{7f}' => 7.8,
        _ => 14.0,
    }
}

/// The text without its middle, if it may be wider than so many pixels.
pub fn fit(text: &str, most: f64) -> String {
    if pixels(text) <= most {
        return text.to_owned();
    }
    let half = (most - letter('…')) / 2.0;
    let take = |letters: &mut dyn Iterator<Item = char>| -> Vec<char> {
        let fits = |sum: &mut f64, c: char| {
            *sum += letter(c);
            (*sum <= half).then_some(c)
        };
        letters.scan(0.0, fits).collect()
    };
    let (head, tail) = (take(&mut text.chars()), take(&mut text.chars().rev()));
    head.into_iter().chain(['…']).chain(tail.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_wide_is_shortened() {
        assert_eq!(fit("shop/web-5d4f8b7c9d-x2x9z", 200.0), "shop/web-5d4f8b7c9d-x2x9z");
        for text in [
            "WWWWWWWWWWWWWWWWWWWWWWWWWW",
            "網卡網卡網卡網卡網卡網卡網卡網卡網卡",
            "mmmmmmmmmmmmmm/mmmmmmmmmmmmmmmmmm",
            &"e\u{301}".repeat(99),
        ] {
            let fitting = fit(text, 200.0);
            assert!(pixels(&fitting) <= 200.0 && fitting.contains('…'), "{fitting}");
            assert!(pixels(&fitting) > 160.0, "{fitting}");
        }
    }
}
