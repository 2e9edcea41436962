//! The table at the end of a run: each method's results on the test rows.

use std::path::Path;

use crate::measure::interval::{self, Interval};
use crate::measure::metrics::Counts;
use crate::run::summary::{Candidate, Delivery, Measures, Method, Scaled};

/// The results of a finished run as a table, and the paths of its files.
pub fn of_run(delivery: &Delivery, folder: &Path) -> String {
    let rows: Vec<Vec<String>> = delivery
        .results
        .iter()
        .map(|result| {
            let measured = &result.measured;
            let delivered = if result.method == delivery.delivered { "  ← model/" } else { "" };
            let mut row = vec![
                result.method.name().to_string(),
                measured.synthetic_rows.to_string(),
                measured.gold_rows.to_string(),
                measured.steps.to_string(),
            ];
            if measured.needs_more_than_accuracy() {
                row.extend(measured.details().iter().map(|(_, x)| format!("{x:.3}")));
            }
            row.extend(measured.answer_f1().map(|f1| percent(&interval::share(&[f1.to_vec()]))));
            row.push(format!("{}{delivered}", percent(&measured.accuracy())));
            row
        })
        .collect();
    let mut text = String::new();
    if let Some(first) = delivery.results.first().map(|result| &result.measured) {
        let accuracy = format!("{} on {} test rows [95 %, over these rows]", first.measure(), first.correct.len());
        let mut header = vec!["trained on", "synthetic", "gold", "steps"];
        let details = if first.needs_more_than_accuracy() { first.details() } else { Vec::new() };
        header.extend(details.iter().map(|(name, _)| *name));
        header.extend(first.answer_f1().map(|_| "F1 [95 %]"));
        header.push(&accuracy);
        text += &table(&header, &rows);
        text.push('\n');
    }
    text += &by_label(delivery);
    let folder = folder.display();
    text += &format!("best round   {}\n", delivery.best_round);
    text += &format!("dataset      {folder}/dataset.jsonl ({} rows)\n", delivery.dataset_rows);
    let alone = delivery.delivered == Method::GoldOnly && delivery.candidates.len() < 2;
    let why = if alone { ": the generator's judgement is not told from chance" } else { "" };
    text += &format!("model        {folder}/model ({}{why})\n", delivery.delivered.name());
    if delivery.candidates.len() > 1 {
        let said = |one: &Candidate| format!("{} {:.3}", one.method.name(), one.out_of_fold.log_loss);
        let said: Vec<String> = delivery.candidates.iter().map(said).collect();
        text += &format!("chosen by    log loss on gold rows out of fold: {}\n", said.join(", "));
    }
    text += &delivery.scaled.as_ref().map(in_words).unwrap_or_default();
    text += &by_thresholds(delivery);
    if delivery.results.first().is_none_or(|first| first.measured.of_labels().is_some()) {
        text += &format!("rationales   {folder}/rationales.json\n");
    }
    text += &format!("manifest     {folder}/manifest.json\n");
    text
}

/// Labels that the table by label has at most: those that the model knows worst.
const MOST_LABELS: usize = 30;

/// The delivered model's results by label, the worst first, where accuracy says too little.
fn by_label(delivery: &Delivery) -> String {
    let delivered = delivery.results.iter().find(|result| result.method == delivery.delivered);
    let Some(measured) = delivered.map(|result| &result.measured).filter(|measured| measured.needs_more_than_accuracy()) else {
        return String::new();
    };
    let Some(of) = delivery.as_delivered.as_ref().unwrap_or(&measured.measures).labels() else { return String::new() };
    let mut labels: Vec<(&String, &Counts)> = of.iter().collect();
    labels.sort_by(|(_, a), (_, b)| a.f1().total_cmp(&b.f1()));
    let share = |right: usize, of: usize| if of == 0 { "–".to_string() } else { format!("{:.1} %", 100.0 * right as f64 / of as f64) };
    let row = |(name, counts): &(&String, &Counts)| {
        let Counts { gold, predicted, right } = **counts;
        vec![
            name.to_string(),
            gold.to_string(),
            predicted.to_string(),
            share(right, predicted),
            share(right, gold),
            format!("{:.3}", counts.f1()),
        ]
    };
    let rows: Vec<Vec<String>> = labels.iter().take(MOST_LABELS).map(row).collect();
    let more = labels.len().saturating_sub(MOST_LABELS);
    let rest = if more > 0 { format!("{more} labels with a higher F1 are in summary.json\n") } else { String::new() };
    format!("{}{rest}\n", table(&["label (model/)", "test rows", "predicted", "precision", "recall", "F1"], &rows))
}

/// What thresholds change on the test rows, where a text may have several labels: the table has 0.5 for all.
fn by_thresholds(delivery: &Delivery) -> String {
    let before = delivery.results.iter().find(|result| result.method == delivery.delivered).and_then(|r| r.measured.of_label_sets());
    match (before, &delivery.as_delivered) {
        (Some(before), Some(Measures::LabelSets(after))) if !delivery.thresholds.is_empty() => format!(
            "thresholds   by label, for the best F1 on gold rows out of fold; on the test rows micro-F1 {:.3} → {:.3}, macro-F1 {:.3} → {:.3}\n",
            before.micro_f1, after.micro_f1, before.macro_f1, after.macro_f1
        ),
        _ => String::new(),
    }
}

/// The temperature of the delivered model and what it changed.
fn in_words(scaled: &Scaled) -> String {
    let change = |name: &str, [before, after]: [f64; 2]| format!(", {name} {before:.3} → {after:.3}");
    let test = scaled.calibration_error.map(|both| change("on the test rows calibration error", both)).unwrap_or_default();
    let brier = scaled.brier.map(|both| change("Brier score", both)).unwrap_or_default();
    let loss = change("log loss on gold rows out of fold", scaled.log_loss);
    format!(
        "temperature  {:.2}{loss}{test}{brier}
",
        scaled.temperature
    )
}

/// The title of a column with intervals: over draws and test rows, or over these rows alone.
pub fn interval_title(measure: &str, draws: usize) -> String {
    format!("{measure} [95 %{}]", if draws == 1 { ", over test rows only" } else { "" })
}

/// `74.1 % [72.5, 75.6]`
pub fn percent(interval: &Interval) -> String {
    format!("{:.1} % [{:.1}, {:.1}]", interval.mean * 100.0, interval.low * 100.0, interval.high * 100.0)
}

/// A Markdown table with aligned columns: first and last left-aligned, the others right-aligned.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let left = |column: usize| column == 0 || column + 1 == header.len();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().enumerate().map(|(i, cell)| {
            let space = " ".repeat(widths[i] - cell.chars().count());
            if left(i) { format!("{cell}{space}") } else { format!("{space}{cell}") }
        });
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths.iter().enumerate().map(|(i, &w)| if left(i) { "-".repeat(w) } else { format!("{}:", "-".repeat(w - 1)) });
    let mut text = line(header.to_vec());
    text += &format!("| {} |\n", rule.collect::<Vec<_>>().join(" | "));
    rows.iter().for_each(|row| text += &line(row.iter().map(String::as_str).collect()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::summary::{Measured, MethodResult, OfLabels};
    use crate::small::evaluation::{Evaluation, Right};

    #[test]
    fn a_run_in_a_table() {
        let result = |method, synthetic_rows, gold_rows, right: usize| {
            let (correct, measures) = ((0..1000).map(|i| i < right).collect(), Measures::Labels(OfLabels::default()));
            MethodResult { method, measured: Measured { synthetic_rows, gold_rows, steps: 150, correct, measures } }
        };
        let both = Some([0.061, 0.024]);
        let candidate =
            |(method, log_loss)| Candidate { method, out_of_fold: Evaluation { log_loss, right: Right::Labels { accuracy: 0.7 } } };
        let delivery = Delivery {
            best_round: 1,
            dataset_rows: 900,
            rounds: vec![600, 300],
            delivered: Method::S3Gold,
            candidates: [(Method::GoldOnly, 0.61), (Method::S3Gold, 0.49)].map(candidate).into(),
            scaled: Some(Scaled { temperature: 1.31, log_loss: [0.52, 0.49], calibration_error: both, brier: Some([0.35, 0.34]) }),
            thresholds: Default::default(),
            as_delivered: None,
            results: vec![result(Method::GoldOnly, 0, 100, 720), result(Method::S3Gold, 900, 100, 765)],
        };
        insta::assert_snapshot!(of_run(&delivery, Path::new("runs/movies")));
    }

    /// What a run delivers that measured the model of S3 alone.
    fn of_s3(measured: Measured) -> Delivery {
        let rows = measured.synthetic_rows;
        Delivery {
            best_round: 0,
            dataset_rows: rows,
            rounds: vec![rows],
            delivered: Method::S3,
            candidates: vec![],
            scaled: None,
            thresholds: Default::default(),
            as_delivered: None,
            results: vec![MethodResult { method: Method::S3, measured }],
        }
    }

    #[test]
    fn many_labels_stand_in_a_table_of_their_own_worst_first() {
        let names: Vec<String> = ["rare", "usual", "odd"].map(String::from).into();
        let (gold, logits) =
            ([0, 1, 1, 1, 2], [1, 1, 1, 1, 2].map(|label| (0..3).map(|own| f32::from(u8::from(own == label))).collect::<Vec<_>>()));
        let measures = Measures::Labels(OfLabels::new(&names, &gold, &logits));
        let measured = Measured { synthetic_rows: 9, gold_rows: 9, steps: 9, correct: vec![false, true, true, true, true], measures };
        let table = by_label(&of_s3(measured));
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[2].starts_with("| rare ") && lines[2].ends_with("|         1 |         0 |         – |   0.0 % | 0.000 |"),
            "{table}"
        );
        assert!(lines[3].contains("|    75.0 % | 100.0 % | 0.857 |") && lines[4].starts_with("| odd "), "{table}");
    }

    #[test]
    fn questions_have_exact_match_and_f1() {
        let measures = Measures::Answers { f1: vec![1.0, 0.5, 0.5, 0.0] };
        let measured = Measured { synthetic_rows: 40, gold_rows: 0, steps: 9, correct: vec![true, false, false, false], measures };
        let table = of_run(&of_s3(measured), Path::new("runs/questions"));
        assert!(table.contains("F1 [95 %]") && table.contains("EM on 4 test rows [95 %, over these rows]"), "{table}");
        assert!(table.contains("50.0 % [") && table.contains("25.0 % [") && !table.contains("rationales"), "{table}");
    }
}
