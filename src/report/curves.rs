//! The curves of a sweep: a panel per axis, a line per method, bars for the intervals; as a page, and as an SVG file for a paper.

use std::path::Path;

use minijinja::context;
use minijinja::value::Serde;

use super::area::{Anchor, Area, WIDTH, dot, escaped, percent, rounded, svg, text, ticks};
use super::made::Made;
use super::page::{Page, drawn};
use super::sweep_line::SweepLine;
use super::words::{share, share_of_rows};
use crate::error::Result;
use crate::files::whole::write;
use crate::run::summary::Method;

/// What kind of curves: its name, and those of its files.
pub struct Kind {
    name: &'static str,
    pub page: &'static str,
    svg: &'static str,
}

pub const SWEEP: Kind = Kind { name: "sweep", page: "sweep.html", svg: "sweep.svg" };
pub const LEARNING_CURVE: Kind = Kind { name: "learning curve", page: "curve.html", svg: "curve.svg" };

/// What the page is about.
pub struct Curves<'a> {
    pub kind: Kind,
    pub task: &'a str,
    pub about: Option<&'a str>,
    pub made: &'a Made,
    pub lines: &'a [SweepLine],
    pub test_rows: usize,
}

/// Height of a panel.
const HEIGHT: f64 = 330.0;

/// The colours of a file that stands alone: those of Okabe and Ito, which the colour-blind tell apart.
const STYLE: &str = "text{font:13px sans-serif}.tick{font-size:11.5px;fill:#555}.grid{stroke:#ddd;fill:none}polyline,.bar{fill:none;\
    stroke-width:2}.c-0{stroke:#0072b2}.c-1{stroke:#d55e00}.c-2{stroke:#009e73}.c-3{stroke:#cc79a7}.point{fill:#fff;stroke-width:2}text.c-0{fill:#0072b2}\
    text.c-1{fill:#d55e00}text.c-2{fill:#009e73}text.c-3{fill:#cc79a7}text{stroke:none!important}";

/// Writes the page and the SVG file into a folder.
///
/// # Errors
/// A file that cannot be written.
pub fn write_curves(folder: &Path, curves: &Curves) -> Result<()> {
    let Curves { ref kind, task, about, made, lines, test_rows } = *curves;
    write(&folder.join(kind.svg), alone(lines).as_bytes())?;
    let measure = lines.first().map_or("accuracy", SweepLine::measure);
    let axes = axes(lines);
    let panels = axes.iter().map(|&axis| (axis.to_string(), drawn(svg(HEIGHT, &title(axis, lines), &panel(axis, lines)))));
    let context = context! {
        task, about, test_rows,
        kind => kind.name,
        note => note(lines),
        made => minijinja::Value::from(Serde(made)),
        verdict => axes.iter().filter_map(|axis| verdict(axis, lines)).collect::<Vec<_>>(),
        draws => lines.first().map_or(0, |line| line.draws.len()),
        measure,
        share_of_rows => share_of_rows(measure),
        panels => panels.collect::<Vec<_>>(),
        lines => lines.iter().map(|line| (line.method.name(), minijinja::Value::from(Serde(line)))).collect::<Vec<_>>(),
    };
    Page { file: kind.page, template: include_str!("curves.html") }.write(folder, context).map(drop)
}

/// What holds for all points.
fn note(lines: &[SweepLine]) -> &'static str {
    match lines.iter().all(|line| line.steps == lines[0].steps) {
        true => "All else is the same at each point, the number of steps too.",
        false => "More rows are trained for more steps; all else is the same.",
    }
}

/// What occurs, each once, in the order in which it does.
fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    all.for_each(|one| {
        if !distinct.contains(&one) {
            distinct.push(one)
        }
    });
    distinct
}

fn axes(lines: &[SweepLine]) -> Vec<&str> {
    distinct(lines.iter().map(|line| line.axis.as_str()))
}

/// The methods of all panels, in the order of their colours.
fn methods(lines: &[SweepLine]) -> Vec<Method> {
    distinct(lines.iter().map(|line| line.method))
}

fn title(axis: &str, lines: &[SweepLine]) -> String {
    let measure = if lines.iter().any(|line| line.f1.is_some()) { "exact match" } else { "accuracy" };
    format!("{measure} by {axis}, with 95 % intervals")
}

/// Accuracy (for questions, exact match) against the axis's values, evenly spaced in their order.
fn panel(axis: &str, lines: &[SweepLine]) -> String {
    let of_all = methods(lines);
    let lines: Vec<&SweepLine> = lines.iter().filter(|line| line.axis == axis).collect();
    let mut values: Vec<usize> = lines.iter().map(|line| line.value).collect();
    values.sort_unstable();
    values.dedup();
    let low = lines.iter().map(|line| line.accuracy.low).fold(1.0, f64::min);
    let high = lines.iter().map(|line| line.accuracy.high).fold(0.0, f64::max);
    let y = rounded(low, high);
    let area = Area { left: 60.0, right: WIDTH - 20.0, top: 40.0, bottom: 270.0, x: [-0.5, values.len() as f64 - 0.5], y };
    let place = |value: usize| values.iter().position(|&own| own == value).unwrap_or(0) as f64;
    let mut body = area.lines(&ticks(y), percent);
    for &value in &values {
        body += &text("tick", area.x(place(value)), area.bottom + 18.0, Anchor::Middle, &value.to_string());
    }
    body += &text("", (area.left + area.right) / 2.0, area.bottom + 42.0, Anchor::Middle, axis);
    let mut shown = 0.0;
    for (i, method) in of_all.iter().enumerate() {
        let mut own: Vec<&&SweepLine> = lines.iter().filter(|line| line.method == *method).collect();
        if own.is_empty() {
            continue;
        }
        own.sort_by_key(|line| line.value);
        let class = format!("c-{}", i % 4);
        // Beside each other, so that no bar hides another: four units, or what many values leave.
        let aside = (i as f64 - (of_all.len() as f64 - 1.0) / 2.0) * (0.0075 * values.len() as f64).min(0.2);
        body += &area.polyline(&class, own.iter().map(|line| (place(line.value) + aside, line.accuracy.mean)));
        for line in own {
            let (x, low, high) = (area.x(place(line.value) + aside), area.y(line.accuracy.low), area.y(line.accuracy.high));
            body += &format!("<path class=\"{class} bar\" d=\"M{x:.1} {low:.1}V{high:.1}\"/>");
            body += &dot(&format!("{class} point"), x, area.y(line.accuracy.mean), 3.5);
        }
        body += &text(&class, area.left + 130.0 * shown, 20.0, Anchor::Start, method.name());
        shown += 1.0;
    }
    body
}

/// All panels side by side, in colours of their own on white.
fn alone(lines: &[SweepLine]) -> String {
    let axes = axes(lines);
    let width = WIDTH * axes.len().max(1) as f64;
    let side_by_side = axes.iter().enumerate().map(|(i, axis)| {
        let left = WIDTH * i as f64;
        format!("<g transform=\"translate({left},0)\">{}</g>\n", panel(axis, lines))
    });
    let panels: String = side_by_side.collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{HEIGHT}\" viewBox=\"0 0 {width} {HEIGHT}\"><title>{}</title><style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{panels}</svg>\n",
        escaped(&axes.iter().map(|axis| title(axis, lines)).collect::<Vec<_>>().join("; "))
    )
}

/// From where to where the last method goes, by its means.
fn verdict(axis: &str, lines: &[SweepLine]) -> Option<String> {
    let method = *methods(lines).last()?;
    let own = || lines.iter().filter(|line| line.axis == axis && line.method == method);
    let (first, last) = (own().min_by_key(|line| line.value)?, own().max_by_key(|line| line.value)?);
    let axis = axis.replace('-', " ");
    let sets = first.measure() == "F1 of rows";
    if first.value == last.value {
        let (value, name, found) = (first.value, method.name(), share(first.accuracy));
        return Some(match sets {
            true => format!("With {value} {axis}, {name} has a mean F1 of {found}."),
            false => format!("With {value} {axis}, {name} is right on {found} of the test rows."),
        });
    }
    let (from, to, name) = (first.value, last.value, method.name());
    let of = if sets { "of F1" } else { "of the test rows" };
    Some(format!("From {from} to {to} {axis}, {name} goes from {} to {} {of}.", share(first.accuracy), share(last.accuracy)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::interval::Interval;
    use crate::run::cost::Cost;

    fn line(axis: &str, value: usize, method: Method, mean: f64) -> SweepLine {
        SweepLine {
            axis: axis.into(),
            value,
            method,
            synthetic_rows: 10.0,
            cost: Cost::default(),
            measure: String::new(),
            steps: 150,
            accuracy: Interval { mean, low: mean - 0.1, high: mean + 0.1 },
            draws: vec![mean],
            f1: None,
        }
    }

    fn lines() -> [SweepLine; 4] {
        [
            line("rounds", 2, Method::S3, 0.8),
            line("rounds", 0, Method::S3, 0.6),
            line("rounds", 0, Method::Seed, 0.5),
            line("gold-rows", 50, Method::S3, 0.7),
        ]
    }

    #[test]
    fn draws_a_panel_per_axis_and_a_line_per_method() {
        let svg = alone(&lines());
        assert_eq!((svg.matches("<g ").count(), svg.matches("<polyline").count(), svg.matches(" bar\"").count()), (2, 3, 4));
        let rounds = panel("rounds", &lines());
        let points = rounds.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let points: Vec<Vec<f64>> = points.split(' ').map(|point| point.split(',').map(|x| x.parse().unwrap()).collect()).collect();
        assert!(points[0][0] < points[1][0] && points[0][1] > points[1][1], "to the right and up: {points:?}");
    }

    #[test]
    fn a_page_says_from_where_to_where() {
        assert_eq!(
            verdict("rounds", &[line("rounds", 2, Method::S3, 0.8), line("rounds", 0, Method::S3, 0.6)]).unwrap(),
            "From 0 to 2 rounds, S3 goes from 60.0 % [50.0, 70.0] to 80.0 % [70.0, 90.0] of the test rows."
        );
        let folder = tempfile::tempdir().unwrap();
        let made = Made { command: "lacuna sweep task.toml".into(), facts: vec!["lacuna 0".into()] };
        let curves = Curves { kind: SWEEP, task: "movies", about: None, made: &made, lines: &lines(), test_rows: 1000 };
        write_curves(folder.path(), &curves).unwrap();
        let page = std::fs::read_to_string(folder.path().join(SWEEP.page)).unwrap();
        assert!(folder.path().join("sweep.svg").exists());
        assert_eq!((page.matches("<svg").count(), page.matches("<table>").count(), page.matches("<tr>").count()), (2, 2, 2 + 4));
        assert!(page.contains("lacuna sweep task.toml") && !page.contains("://"));
    }
}
