//! The area of a chart: where values lie on it, the lines of its grid, and words. Its colours are those of the style sheet.

/// Width of a chart, in units of its view box.
pub(super) const WIDTH: f64 = 640.0;

/// A rectangle in a chart, and the values at its edges.
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    /// At the left and at the right.
    pub(super) x: [f64; 2],
    /// At the bottom and at the top.
    pub(super) y: [f64; 2],
}

impl Area {
    pub(super) fn x(&self, value: f64) -> f64 {
        self.left + (self.right - self.left) * (value - self.x[0]) / (self.x[1] - self.x[0])
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * (value - self.y[0]) / (self.y[1] - self.y[0])
    }

    /// A line across at each tick, with its name at the left.
    pub(super) fn lines(&self, ticks: &[f64], name: impl Fn(f64) -> String) -> String {
        let line = |&tick: &f64| {
            let y = self.y(tick);
            let across = format!("<path class=\"grid\" d=\"M{:.1} {y:.1}H{:.1}\"/>", self.left, self.right);
            across + &text("tick", self.left - 8.0, y + 4.0, Anchor::End, &name(tick))
        };
        ticks.iter().map(line).collect()
    }

    /// A line upwards at each tick, with its name below.
    pub(super) fn columns(&self, ticks: &[f64], name: impl Fn(f64) -> String) -> String {
        let line = |&tick: &f64| {
            let x = self.x(tick);
            let up = format!("<path class=\"grid\" d=\"M{x:.1} {:.1}V{:.1}\"/>", self.top, self.bottom);
            up + &text("tick", x, self.bottom + 17.0, Anchor::Middle, &name(tick))
        };
        ticks.iter().map(line).collect()
    }

    /// A line through points, given by their values.
    pub(super) fn polyline(&self, class: &str, points: impl Iterator<Item = (f64, f64)>) -> String {
        let points: Vec<String> = points.map(|(x, y)| format!("{:.1},{:.1}", self.x(x), self.y(y))).collect();
        format!("<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "))
    }
}

/// Where words stand of their point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

pub(super) fn text(class: &str, x: f64, y: f64, anchor: Anchor, words: &str) -> String {
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(words))
}

pub(super) fn dot(class: &str, x: f64, y: f64, radius: f64) -> String {
    format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>")
}

/// A chart of its height, with its title for those who do not see it.
pub(super) fn svg(height: f64, title: &str, body: &str) -> String {
    let title = escaped(title);
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>{body}</svg>")
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// The ends of a range of shares, as multiples of 5 %.
pub(super) fn rounded(low: f64, high: f64) -> [f64; 2] {
    let (low, high) = ((low * 20.0).floor() / 20.0, (high * 20.0).ceil() / 20.0);
    if high - low < 0.05 { [low, low + 0.05] } else { [low, high] }
}

/// At most eight steps of 1, 2, 5, 10, 20 or 50 % between the ends.
pub(super) fn ticks([low, high]: [f64; 2]) -> Vec<f64> {
    let step = [0.01, 0.02, 0.05, 0.1, 0.2].into_iter().find(|step| (high - low) / step <= 8.5).unwrap_or(0.5);
    let first = (low / step - 1e-9).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|tick| *tick <= high + 1e-9).collect()
}

/// `75 %`
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(rounded(0.737, 0.796), [0.7, 0.8]);
        assert_eq!(ticks([0.7, 0.8]).len(), 6, "70 to 80 by 2");
        assert_eq!(ticks([0.0, 1.0]).len(), 6, "0 to 100 by 20");
        assert_eq!(ticks([-1.0, 1.0]).len(), 5, "-100 to 100 by 50");
        assert_eq!(ticks([-0.05, 0.05]).len(), 5, "-4 to 4 by 2");
    }

    #[test]
    fn values_lie_between_the_edges() {
        let area = Area { left: 100.0, right: 300.0, top: 10.0, bottom: 110.0, x: [0.5, 1.0], y: [0.0, 2.0] };
        assert_eq!((area.x(0.5), area.x(1.0), area.y(0.0), area.y(2.0)), (100.0, 300.0, 110.0, 10.0));
        assert_eq!(area.columns(&[0.75], percent).matches("x=\"200.0\"").count(), 1);
        assert_eq!(text("", 1.0, 2.0, Anchor::End, "a < b"), "<text class=\"\" x=\"1.0\" y=\"2.0\" text-anchor=\"end\">a &lt; b</text>");
    }
}
