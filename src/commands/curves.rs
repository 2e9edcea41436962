//! The curves of a sweep as one self-contained SVG file: a panel per axis, a line per method, error bars for the intervals.

use super::sweep_line::SweepLine;
use crate::run::summary::Method;

/// Size of a panel, in pixels.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 50.0;
/// The colour-blind-safe palette of Okabe and Ito.
const COLOURS: [&str; 6] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000"];

/// A panel: accuracy (for questions, exact match) against the axis's values, evenly spaced in their order.
struct Panel<'l> {
    lines: Vec<&'l SweepLine>,
    values: Vec<usize>,
    low: f64,
    high: f64,
}

impl<'l> Panel<'l> {
    fn of(lines: &'l [SweepLine], axis: &str) -> Self {
        let lines: Vec<&SweepLine> = lines.iter().filter(|line| line.axis == axis).collect();
        let mut values: Vec<usize> = lines.iter().map(|line| line.value).collect();
        values.sort_unstable();
        values.dedup();
        let low = lines.iter().map(|line| line.accuracy.low).fold(1.0, f64::min);
        let high = lines.iter().map(|line| line.accuracy.high).fold(0.0, f64::max).max(low + 0.01);
        Panel { lines, values, low, high }
    }

    fn x(&self, value: usize) -> f64 {
        let at = self.values.iter().position(|&v| v == value).unwrap_or(0) as f64;
        MARGIN + (WIDTH - 2.0 * MARGIN) * (at + 0.5) / self.values.len() as f64
    }

    fn y(&self, accuracy: f64) -> f64 {
        HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * (accuracy - self.low) / (self.high - self.low)
    }

    fn draw(&self, axis: &str, methods: &[Method]) -> String {
        let (left, bottom) = (MARGIN, HEIGHT - MARGIN);
        let mut svg = format!("<path d=\"M{left} {MARGIN}V{bottom}H{}\" fill=\"none\" stroke=\"#888\"/>\n", WIDTH - MARGIN);
        svg += &format!("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{axis}</text>\n", WIDTH / 2.0, HEIGHT - 12.0);
        for &value in &self.values {
            svg += &format!("<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>\n", self.x(value), bottom + 16.0);
        }
        for accuracy in [self.low, (self.low + self.high) / 2.0, self.high] {
            let y = self.y(accuracy) + 4.0;
            svg += &format!("<text x=\"{}\" y=\"{y:.1}\" text-anchor=\"end\">{:.1}</text>\n", left - 6.0, accuracy * 100.0);
        }
        for (&method, colour) in methods.iter().zip(COLOURS.iter().cycle()) {
            svg += &self.curve(method, colour);
        }
        svg
    }

    fn curve(&self, method: Method, colour: &str) -> String {
        let mut own: Vec<&&SweepLine> = self.lines.iter().filter(|line| line.method == method).collect();
        own.sort_by_key(|line| line.value);
        let points: Vec<String> = own.iter().map(|line| format!("{:.1},{:.1}", self.x(line.value), self.y(line.accuracy.mean))).collect();
        let mut svg = format!("<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n", points.join(" "));
        for line in own {
            let (x, low, high) = (self.x(line.value), self.y(line.accuracy.low), self.y(line.accuracy.high));
            svg += &format!("<path d=\"M{x:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\"/>\n");
        }
        svg
    }
}

/// Draws the panels side by side, with a legend above them.
pub fn draw(lines: &[SweepLine]) -> String {
    let (mut axes, mut methods) = (Vec::new(), Vec::new());
    for line in lines {
        if !axes.contains(&line.axis.as_str()) {
            axes.push(line.axis.as_str());
        }
        if !methods.contains(&line.method) {
            methods.push(line.method);
        }
    }
    let width = WIDTH * axes.len().max(1) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    svg += "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";
    for (i, (method, colour)) in methods.iter().zip(COLOURS.iter().cycle()).enumerate() {
        svg += &format!("<text x=\"{}\" y=\"20\" fill=\"{colour}\">{}</text>\n", MARGIN + 90.0 * i as f64, method.name());
    }
    for (i, axis) in axes.iter().enumerate() {
        let panel = Panel::of(lines, axis).draw(axis, &methods);
        svg += &format!("<g transform=\"translate({},0)\">\n{panel}</g>\n", WIDTH * i as f64);
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::interval::Interval;
    use crate::run::cost::Cost;

    #[test]
    fn draws_a_panel_per_axis_and_a_line_per_method() {
        let line = |axis: &str, value, method, mean: f64| SweepLine {
            axis: axis.into(),
            value,
            method,
            synthetic_rows: 10.0,
            cost: Cost::default(),
            steps: 150,
            accuracy: Interval { mean, low: mean - 0.1, high: mean + 0.1 },
            draws: vec![mean],
            f1: None,
        };
        let lines = [
            line("rounds", 2, Method::S3, 0.8),
            line("rounds", 0, Method::S3, 0.6),
            line("rounds", 0, Method::Seed, 0.5),
            line("gold-rows", 50, Method::S3, 0.7),
        ];
        let svg = draw(&lines);
        assert_eq!((svg.matches("<g ").count(), svg.matches("<polyline").count(), svg.matches("stroke=\"#").count()), (2, 4, 2 + 4 + 4));
        let panel = Panel::of(&lines, "rounds");
        assert!(panel.x(0) < panel.x(2) && panel.y(0.8) < panel.y(0.6), "to the right and up");
        assert_eq!((panel.y(0.4), panel.y(0.9)), (HEIGHT - MARGIN, MARGIN), "the lowest and the highest end of a bar");
    }
}
