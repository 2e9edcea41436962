//! A chart of estimates, one above the other: a dot for each with its 95 % interval, and what each draw gave.

use super::area::{Anchor, Area, WIDTH, dot, percent, rounded, svg, text, ticks};
use crate::measure::interval::Interval;

/// A share of the test rows, or a difference of two, as the chart shows it.
pub(super) struct Estimate {
    pub(super) name: String,
    pub(super) interval: Interval,
    /// Of each draw; empty where there is but one.
    pub(super) draws: Vec<f64>,
    /// The one that the page is about.
    pub(super) own: bool,
}

/// Height of an estimate; room for names at the left, by their length, and for numbers at the right.
const LINE: f64 = 30.0;
const NAMES: [f64; 2] = [136.0, 300.0];
const CHARACTER: f64 = 6.8;
const NUMBERS: f64 = 60.0;

/// Shares, from 0 to 1.
pub(super) fn shares(estimates: &[Estimate], title: &str) -> String {
    let ends = |low, high| rounded(f64::max(low, 0.0), f64::min(high, 1.0));
    draw(estimates, title, false, ends, &percent, &|mean| format!("{:.1} %", 100.0 * mean))
}

/// Differences of shares, around a line at 0.
pub(super) fn differences(estimates: &[Estimate], title: &str) -> String {
    let points = |mean: f64| format!("{:+.1}", 100.0 * mean);
    draw(
        estimates,
        title,
        true,
        |low, high| rounded(low.clamp(-1.0, 0.0), high.clamp(0.0, 1.0)),
        &|tick| format!("{:+.0}", 100.0 * tick),
        &points,
    )
}

fn draw(
    estimates: &[Estimate],
    title: &str,
    signed: bool,
    ends: impl Fn(f64, f64) -> [f64; 2],
    tick_name: &dyn Fn(f64) -> String,
    number: &dyn Fn(f64) -> String,
) -> String {
    let all = || estimates.iter().flat_map(|one| one.draws.iter().copied().chain([one.interval.low, one.interval.high]));
    if estimates.is_empty() || all().any(|value| !value.is_finite()) {
        return String::new();
    }
    let x = ends(all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let longest = estimates.iter().map(|one| one.name.chars().count()).max().unwrap_or(0) as f64;
    let names = (CHARACTER * longest).clamp(NAMES[0], NAMES[1]);
    let bottom = LINE * estimates.len() as f64 + 8.0;
    let at = |value: f64| value.clamp(x[0], x[1]);
    let area = Area { left: names + 14.0, right: WIDTH - NUMBERS, top: 4.0, bottom, x, y: [0.0, 1.0] };
    let mut body = area.columns(&ticks(x), tick_name);
    if signed {
        body += &format!("<path class=\"zero\" d=\"M{:.1} 4V{bottom:.1}\"/>", area.x(0.0));
    }
    for (i, one) in estimates.iter().enumerate() {
        let (y, Interval { mean, low, high }) = (LINE * i as f64 + LINE / 2.0 + 4.0, one.interval);
        let class = if one.own { "mark own" } else { "mark" };
        body += &text("", names, y + 4.5, Anchor::End, &one.name);
        body += &format!("<path class=\"{class} bar\" d=\"M{:.1} {y:.1}H{:.1}\"/>", area.x(at(low)), area.x(at(high)));
        body.extend(one.draws.iter().map(|&draw| dot("draw", area.x(draw), y, 3.0)));
        body += &dot(class, area.x(mean), y, 5.0);
        let right = one.draws.iter().copied().fold(high, f64::max);
        body += &text("value", area.x(at(right)) + 8.0, y + 4.5, Anchor::Start, &number(mean));
    }
    svg(bottom + 24.0, title, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(name: &str, mean: f64, draws: &[f64]) -> Estimate {
        Estimate { name: name.into(), interval: Interval { mean, low: mean - 0.02, high: mean + 0.02 }, draws: draws.into(), own: false }
    }

    #[test]
    fn each_estimate_has_a_dot_an_interval_and_its_draws() {
        let svg = shares(&[estimate("gold only", 0.7, &[0.69, 0.71]), estimate("a & b", 0.99, &[])], "t");
        assert_eq!((svg.matches("class=\"draw\"").count(), svg.matches("class=\"mark\"").count()), (2, 2));
        assert!(svg.contains("70.0 %") && svg.contains("a &amp; b") && svg.contains(">100 %<") && !svg.contains(">105 %<"), "{svg}");
    }

    #[test]
    fn differences_stand_around_zero() {
        let svg = differences(&[estimate("gold only", -0.031, &[]), estimate("S3", 0.004, &[])], "t");
        assert!(svg.contains("class=\"zero\"") && svg.contains("-3.1") && svg.contains("+0.4"), "{svg}");
        assert!(differences(&[estimate("S3", f64::NAN, &[])], "t").is_empty());
        for mean in [0.0, 0.05, 1.2] {
            let svg = differences(&[estimate("S3", mean, &[])], "t");
            assert!(svg.contains("class=\"zero\""), "{mean}: {svg}");
            let right = svg.split("class=\"mark bar\" d=\"M").nth(1).unwrap().split(['H', '"']).nth(1).unwrap();
            assert!(right.parse::<f64>().unwrap() <= WIDTH, "{mean}: {svg}");
        }
    }
}
