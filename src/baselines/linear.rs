//! Logistic regressions on fixed features: the pretrained small model's embeddings, or words and characters.

use super::bench::{Bench, Predicted, log_probabilities};
use crate::data::example::Input;
use crate::error::Result;
use crate::math::random;
use crate::measure::logistic::{Chosen, Logistic, choose_c};
use crate::measure::rows::{Row, Sparse};
use crate::measure::scale::Scale;
use crate::measure::tfidf::{Tfidf, Unit};
use crate::small::folds::Folds;

/// The strengths of the penalty to choose from, from strong to weak.
pub(super) const GRID: [f64; 9] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
const FOLDS: usize = 5;
/// n-grams to choose from, the plainest first: of equally good ones the first is taken. Characters are for texts without spaces.
const GRAMS: [(Unit, usize); 3] = [(Unit::Words, 1), (Unit::Words, 2), (Unit::Characters, 4)];
/// The blocks of a pair's features: u, v, |u − v| and u · v.
const PARTS_OF_PAIR: usize = 4;

/// Means of the pretrained model's last hidden states, scaled to length 1; of pairs, their two features, difference and product. The
/// scale of the blocks is that of the gold rows.
///
/// # Errors
/// A text that cannot be encoded.
pub fn embeddings(bench: &Bench) -> Result<Predicted> {
    let max_tokens = bench.task.train.max_tokens;
    let features = |inputs: &[Input]| bench.small.input_features(inputs, max_tokens);
    let (gold, test) = (features(&bench.gold_inputs())?, features(&bench.test_inputs())?);
    let scale = Scale::fit(&gold, if bench.small.head.pairs { PARTS_OF_PAIR } else { 1 });
    let on_scale = |rows: Vec<Vec<f64>>| rows.iter().map(|row| scale.apply(row)).collect::<Vec<_>>();
    let (gold, test) = (on_scale(gold), on_scale(test));
    let width = gold[0].len();
    let Chosen { c, .. } = choose(bench, &gold, width);
    Ok(bench.without_steps(classify(bench, &gold, &test, width, c)))
}

/// TF-IDF of words, of words and their pairs, or of characters. What n-grams there are and how rare they are is learnt from the texts
/// of all gold rows; the kind of n-grams and C are chosen together.
pub fn tfidf(bench: &Bench) -> Predicted {
    let (gold, test) = (bench.gold_inputs(), bench.test_inputs());
    let (mut least, mut logits) = (f64::INFINITY, Vec::new());
    for (unit, ngrams) in GRAMS {
        let vectoriser = Vectoriser::fit(&gold, unit, ngrams);
        let rows = vectoriser.rows(&gold);
        let Chosen { c, log_loss } = choose(bench, &rows, vectoriser.width());
        if logits.is_empty() || log_loss < least {
            least = log_loss;
            logits = classify(bench, &rows, &vectoriser.rows(&test), vectoriser.width(), c);
        }
    }
    bench.without_steps(logits)
}

fn choose<R: Row>(bench: &Bench, gold: &[R], width: usize) -> Chosen {
    let mut fold = bench.small.head.held_out(bench.gold, FOLDS, random::derive(bench.seed, "choice of C", 0));
    keep_labels(&mut fold, &bench.gold_labels());
    choose_c(gold, &bench.gold_labels(), bench.shape(width), &GRID, &fold)
}

/// Holds no label out as a whole: its rows would not be learnt from. (Those of a pair's label may share one first text.)
fn keep_labels(fold: &mut [Option<usize>], labels: &[usize]) {
    for row in 0..fold.len() {
        let elsewhere = |other: usize| labels[other] == labels[row] && fold[other] != fold[row];
        if !(0..fold.len()).any(elsewhere) {
            (0..fold.len()).filter(|&other| labels[other] == labels[row]).for_each(|other| fold[other] = None);
        }
    }
}

/// Learns from gold rows; returns ln p of the labels of test rows.
pub(super) fn classify<R: Row>(bench: &Bench, gold: &[R], test: &[R], width: usize, c: f64) -> Vec<Vec<f32>> {
    let fitted = Logistic::fit(gold, &bench.gold_labels(), bench.shape(width), c);
    test.iter().map(|row| log_probabilities(&fitted.probabilities(row))).collect()
}

/// TF-IDF for each text of an input.
struct Vectoriser {
    text: Tfidf,
    /// Of pairs alone.
    text_pair: Option<Tfidf>,
}

impl Vectoriser {
    fn fit(inputs: &[Input], unit: Unit, ngrams: usize) -> Self {
        let texts: Vec<&str> = inputs.iter().map(|input| input.text).collect();
        let seconds: Vec<&str> = inputs.iter().filter_map(|input| input.text_pair).collect();
        let text_pair = (!seconds.is_empty()).then(|| Tfidf::fit(&seconds, unit, ngrams));
        Vectoriser { text: Tfidf::fit(&texts, unit, ngrams), text_pair }
    }

    fn width(&self) -> usize {
        self.text.width() + self.text_pair.as_ref().map_or(0, Tfidf::width)
    }

    /// Features of the first texts, then those of the second.
    fn rows(&self, inputs: &[Input]) -> Vec<Sparse> {
        let row = |input: &Input| {
            let mut row = self.text.row(input.text);
            if let (Some(fitted), Some(text)) = (&self.text_pair, input.text_pair) {
                let second = fitted.row(text);
                row.index.extend(second.index.iter().map(|i| i + self.text.width() as u32));
                row.value.extend(second.value);
            }
            row
        };
        inputs.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_is_held_out_as_a_whole() {
        let mut fold = [Some(0), Some(0), Some(1), Some(0), Some(1)];
        keep_labels(&mut fold, &[0, 0, 1, 1, 1]);
        assert_eq!(fold, [None, None, Some(1), Some(0), Some(1)]);
    }

    #[test]
    fn the_second_text_of_a_pair_has_features_of_its_own() {
        let pair = |text, text_pair| Input { text, text_pair: Some(text_pair) };
        let vectoriser = Vectoriser::fit(&[pair("warm film", "cold plot"), pair("warm", "warm")], Unit::Words, 1);
        assert_eq!(vectoriser.width(), 2 + 3);
        let rows = vectoriser.rows(&[pair("warm", "warm"), pair("warm", "unknown")]);
        assert_eq!([rows[0].index.as_slice(), rows[1].index.as_slice()], [&[1, 2 + 2][..], &[1]]);
    }
}
