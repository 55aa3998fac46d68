//! A row of numbers as a picture of one line.

/// Heights of a bar, from nothing to all.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 9] = [' ', '.', ':', '-', '=', '+', '*', '%', '#'];

/// The last `width` numbers, one a column, the last one at the right; the highest of them is a whole bar.
#[must_use]
pub fn trend(numbers: &[i64], width: usize, unicode: bool) -> String {
    let shown = &numbers[numbers.len().saturating_sub(width)..];
    let bars = if unicode { BLOCKS } else { ASCII };
    let highest = shown.iter().copied().max().unwrap_or(0).max(1);
    let bar = |number: &i64| {
        // Whatever is not nothing can be seen.
        let eighths = (i128::from((*number).max(0)) * 8 + i128::from(highest) - 1) / i128::from(highest);
        bars[usize::try_from(eighths).unwrap_or(8)]
    };
    let mut line = " ".repeat(width - shown.len());
    line.extend(shown.iter().map(bar));
    line
}

/// A bar of `part` of `whole`.
#[must_use]
pub fn bar(part: u64, whole: u64, width: usize, unicode: bool) -> String {
    let halves = if whole == 0 { 0 } else { u128::from(part) * 2 * width as u128 / u128::from(whole) };
    let halves = usize::try_from(halves).unwrap_or(0).min(2 * width);
    let (full, half) = if unicode { ("█", "▌") } else { ("#", "-") };
    let half = if halves % 2 == 1 || halves == 0 && part > 0 && whole > 0 { half } else { "" };
    full.repeat(halves / 2) + half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trends() {
        assert_eq!(trend(&[0, 1, 50, 100, -3], 6, true), "  ▁▄█ ");
        assert_eq!(trend(&[0, 1, 50, 100], 3, false), ".=#");
        assert_eq!(trend(&[], 3, true), "   ");
        assert_eq!(trend(&[i64::MAX, i64::MIN], 2, true), "█ ");
    }

    #[test]
    fn bars() {
        assert_eq!((bar(50, 100, 4, true), bar(100, 100, 3, false)), ("██".into(), "###".into()));
        assert_eq!([bar(1, 1_000_000, 4, true), bar(0, 5, 4, true), bar(5, 0, 4, true)], ["▌", "", ""]);
        assert_eq!(bar(u64::MAX, u64::MAX, 3, true), "███");
    }
}
