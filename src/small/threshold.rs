//! From which probability on a text has a label, where it may have several.

/// No threshold is lower than this, or higher than 1 less this: beyond, it would follow from a row or two.
const LEAST: f64 = 0.05;

/// The probability from which on rows are said to have a label, for the best F1, from each held-out row's probability and whether it has
/// the label; 0.5 without rows.
///
/// A few rows that have the label would ask for wild thresholds. So each row counts half as what it is, and half as its probability says:
/// of a calibrated model that is the expected F1 (Lipton et al. 2014, arXiv 1402.1892).
pub fn of_best_f1(mut rows: Vec<(f64, bool)>) -> f64 {
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let truth = |(p, has): &(f64, bool)| 0.5 * (p + f64::from(u8::from(*has)));
    let all: f64 = rows.iter().map(truth).sum();
    let (mut right, mut best) = (0.0, (0.0, 0.5));
    for (place, row) in rows.iter().enumerate() {
        right += truth(row);
        let next = rows.get(place + 1).map_or(0.0, |row| row.0);
        let f1 = 2.0 * right / ((place + 1) as f64 + all);
        if next < row.0 && f1 > best.0 {
            best = (f1, 0.5 * (row.0 + next));
        }
    }
    best.1.clamp(LEAST, 1.0 - LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_of_the_best_f1() {
        // A calibrated label: the best threshold is half of the best F1.
        let rows: Vec<(f64, bool)> = (0..4000).map(|i| ((f64::from(i % 10) + 0.5) / 10.0, (i / 10) % 20 < 2 * (i % 10) + 1)).collect();
        let found = of_best_f1(rows.clone());
        let f1 = |threshold: f64| {
            let right = rows.iter().filter(|row| row.1 && row.0 > threshold).count() as f64;
            let (predicted, gold) = (rows.iter().filter(|row| row.0 > threshold).count(), rows.iter().filter(|row| row.1).count());
            2.0 * right / (predicted + gold) as f64
        };
        assert!((1..10).all(|tenth| f1(f64::from(tenth) / 10.0) <= f1(found)), "{found}");
        assert!(found < 0.5, "{found}");
        assert_eq!((of_best_f1(vec![]), of_best_f1(vec![(0.001, false); 50])), (0.5, 0.05));
        // One row of a hundred that has the label, where the model saw none, moves it little.
        let mut few: Vec<(f64, bool)> = (0..100).map(|i| (f64::from(i) / 100.0, i > 60)).collect();
        let before = of_best_f1(few.clone());
        few[3].1 = true;
        assert!((of_best_f1(few) - before).abs() < 0.1);
    }
}
