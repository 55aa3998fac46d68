//! What was measured, as rows of a table. It must not measure.

use std::fmt::Write as _;

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    /// The median at most this.
    AtMost(f64),
    /// The median at least this.
    AtLeast(f64),
    /// At most so many ns over the empty program, by the median of the rounds' differences.
    Over(f64),
}

/// A unit, with how many decimals are worth printing.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Milliseconds.
    Ms,
    /// Millions of bytes.
    Mb,
    /// Hundredths.
    Percent,
    /// A ratio.
    Ratio,
}

/// A number of measurements of one thing.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// Of all samples.
    pub unit: Unit,
    /// One a round.
    pub samples: Vec<f64>,
    /// Over the empty program: the difference of the minima, and the median of the rounds' differences; programs only.
    pub over_ns: Option<[f64; 2]>,
    /// As ratio to the empty program, of the minima and of the medians; programs only.
    pub ratio: Option<[f64; 2]>,
    /// What it should be.
    pub aim: Option<Aim>,
}

impl Figure {
    /// A figure that is not compared with the empty program.
    pub fn new(what: impl Into<String>, unit: Unit, samples: Vec<f64>, aim: Option<Aim>) -> Self {
        Self { what: what.into(), unit, samples, over_ns: None, ratio: None, aim }
    }

    /// The aim in words, and whether it is met.
    fn judged(&self) -> [String; 2] {
        let number = |value: f64| show(value, self.unit);
        let (words, met) = match self.aim {
            None => return [String::new(), String::new()],
            Some(Aim::AtMost(most)) => (format!("≤ {}", number(most)), median(&self.samples) <= most),
            Some(Aim::AtLeast(least)) => (format!("≥ {}", number(least)), median(&self.samples) >= least),
            Some(Aim::Over(most)) => {
                (format!("≤ {most} ns over"), self.over_ns.is_some_and(|[_, median]| median <= most))
            }
        };
        [words, if met { "met" } else { "MISSED" }.to_owned()]
    }

    fn cells(&self) -> Vec<String> {
        let both = |numbers: Option<[f64; 2]>, text: fn(f64) -> String| {
            numbers.map_or_else(|| [String::new(), String::new()], |numbers| numbers.map(text))
        };
        let mut cells = vec![self.what.clone()];
        cells.extend([least(&self.samples), median(&self.samples)].map(|value| show(value, self.unit)));
        cells.extend(both(self.ratio, |ratio| format!("{ratio:.2}")));
        cells.extend(both(self.over_ns, |over| format!("{over:+.1} ns")));
        cells.extend(self.judged());
        cells
    }
}

/// The table of figures.
pub fn table(figures: &[Figure]) -> String {
    let head = ["", "min", "median", "min ÷ empty", "median ÷ empty", "min over", "median over", "aim", ""];
    markdown(&head, &figures.iter().map(Figure::cells).collect::<Vec<_>>())
}

/// A table that reads well as it is, and as Markdown. The first column is to the left.
pub fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count(), 3]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        for (column, (cell, width)) in cells.zip(&widths).enumerate() {
            let _ = if column == 0 { write!(text, "| {cell:<width$} |") } else { write!(text, " {cell:>width$} |") };
        }
        text.push('\n');
    };
    line(&mut head.iter().copied());
    let rule: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(column, width)| if column == 0 { "-".repeat(*width) } else { "-".repeat(width - 1) + ":" })
        .collect();
    line(&mut rule.iter().map(String::as_str));
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// A value with its unit.
pub fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ns => format!("{value:.1} ns"),
        Unit::Ms => format!("{value:.1} ms"),
        Unit::Mb => format!("{value:.1} MB"),
        Unit::Percent => format!("{value:.2} %"),
        Unit::Ratio => format!("{value:.3}"),
    }
}

/// The least sample.
pub fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The median.
pub fn median(samples: &[f64]) -> f64 {
    let sorted = sorted(samples);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(sorted[half - 1], sorted[half]),
        _ => sorted[half],
    }
}

/// What the true median is between with a probability of 95 %, whatever the samples' distribution: the samples that are by
/// 1.96 standard deviations of the binomial distribution from the middle.
pub fn range_of_median(samples: &[f64]) -> [f64; 2] {
    let sorted = sorted(samples);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some hundred samples"
    )]
    let below = (sorted.len() as f64 / 2.0 - 0.98 * (sorted.len() as f64).sqrt()).max(0.0) as usize;
    match sorted.len() {
        0 => [f64::NAN; 2],
        len => [sorted[below], sorted[len - 1 - below]],
    }
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_the_median() {
        let samples: Vec<f64> = (0..100).map(f64::from).collect();
        // As in any table of the sign test: the 41st and the 60th of a hundred.
        let is = |samples: &[f64], low: f64, high: f64| {
            let range = range_of_median(samples);
            assert!((range[0] - low).abs() < 1e-9 && (range[1] - high).abs() < 1e-9, "{range:?}");
        };
        is(&samples, 40.0, 59.0);
        is(&[3.0, 1.0, 2.0], 1.0, 3.0);
    }

    #[test]
    fn the_median_is_between() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn a_missed_aim_is_said() {
        let judged = |aim, samples: &[f64]| Figure::new("", Unit::Ms, samples.to_vec(), Some(aim)).judged();
        assert_eq!(judged(Aim::AtMost(60.0), &[59.0, 61.0, 70.0]), ["≤ 60.0 ms", "MISSED"]);
        assert_eq!(judged(Aim::AtMost(60.0), &[59.0, 60.0, 70.0]), ["≤ 60.0 ms", "met"]);
        assert_eq!(judged(Aim::AtLeast(0.98), &[0.97]), ["≥ 1.0 ms", "MISSED"]);
        let over = Figure { over_ns: Some([7.0, 9.0]), ..Figure::new("", Unit::Ns, vec![40.0], Some(Aim::Over(8.0))) };
        assert_eq!(over.judged(), ["≤ 8 ns over", "MISSED"]);
        // Nothing measured is not good.
        assert_eq!(judged(Aim::AtMost(60.0), &[])[1], "MISSED");
    }
}
