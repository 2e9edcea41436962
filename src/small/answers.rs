//! The question answering model: training windows, and the best span over all windows of a context.

use std::path::Path;

use lacuna_models::{Encoded, EncodedQuestion, ModelError, PackedBatch, Reading, Span, SpanExtractor, TextEncoder, Trainer, best_span};
use rayon::prelude::*;

use super::evaluation::{Evaluation, Right, mean};
use super::head::{Lessons, SmallHead};
use super::reader::{LEAST_TEXTS, Reader};
use super::row::TrainRow;
use crate::data::answers::{AnswerGoal, Answers};
use crate::data::example::{Answer, GoldRow, Input, TaskKind};
use crate::error::{Error, Result};
use crate::math::vectors::log_sum_exp;

/// Window sizes where neither the task file nor the model gives them: the usual ones for SQuAD.
const QUESTIONS: Reading = Reading { max_tokens: 384, stride: Some(128) };
/// Most tokens in a predicted answer, as in the usual SQuAD scripts.
const LONGEST_ANSWER: usize = 30;
/// Windows per thread in one forward pass.
const WINDOWS: usize = 16;

/// A training window, and the answer's tokens in it; `[CLS]` if the answer is not in the window.
pub struct Lesson {
    encoded: Encoded,
    span: Span,
}

/// A predicted answer, and the model's logits for the context.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Empty if the context has no tokens.
    pub answer: Answer,
    /// p(first token) · p(last token), each among all tokens of the context, in [0, 1].
    pub probability: f64,
    windows: Vec<EncodedQuestion>,
    /// For each window, the start and end logits (tokens, 2).
    logits: Vec<Vec<f32>>,
    /// Log-sum-exp over the context's tokens in all windows, of the start and of the end logits.
    totals: [f64; 2],
}

impl Found {
    /// The best span over all windows: the largest sum of start and end logits, at most [`LONGEST_ANSWER`] tokens, all in the context.
    fn new(context: &str, windows: Vec<EncodedQuestion>, logits: Vec<Vec<f32>>) -> Self {
        let side = |side: usize| {
            let own = |(window, logits): (&EncodedQuestion, &Vec<f32>)| {
                window.context.clone().map(|token| f64::from(logits[2 * token + side])).collect::<Vec<_>>()
            };
            log_sum_exp(&windows.iter().zip(&logits).flat_map(own).collect::<Vec<_>>())
        };
        let totals = [side(0), side(1)];
        let mut best: Option<(f32, Answer)> = None;
        for (window, logits) in windows.iter().zip(&logits) {
            let Some((span, logit_sum)) = best_span(logits, &window.context, LONGEST_ANSWER) else { continue };
            let answer = window.bytes_of(span).and_then(|bytes| Answer::at(context, bytes));
            if let Some(answer) = answer.filter(|_| best.as_ref().is_none_or(|(so_far, _)| logit_sum > *so_far)) {
                best = Some((logit_sum, answer));
            }
        }
        let probability = best.as_ref().map_or(0.0, |(logit_sum, _)| (f64::from(*logit_sum) - totals[0] - totals[1]).exp());
        let answer = best.map_or(Answer { text: String::new(), start: 0 }, |(_, answer)| answer);
        Found { answer, probability, windows, logits, totals }
    }

    /// The mean of −ln p(first token) and −ln p(last token) of `answer`, each among all tokens of the context, in nats.
    pub fn log_loss(&self, context: &str, answer: &Answer) -> f64 {
        let Some(bytes) = answer.bytes_in(context) else { return f64::INFINITY };
        let mut likely = [0.0; 2];
        for (window, logits) in self.windows.iter().zip(&self.logits) {
            let span = window.span_of(bytes.clone());
            if span.start == 0 {
                continue;
            }
            for (side, token) in [span.start, span.end].into_iter().enumerate() {
                likely[side] += (f64::from(logits[2 * token + side]) - self.totals[side]).exp();
            }
        }
        likely.iter().map(|p| -p.max(1e-12).ln()).sum::<f64>() / 2.0
    }
}

impl SmallHead for Answers {
    type Model = SpanExtractor;
    /// The answer's position in the context.
    type Target = Answer;
    type Output = Found;
    type Lessons = Vec<Lesson>;

    fn kind(&self) -> TaskKind {
        TaskKind::ExtractiveQa
    }

    fn load(&self, folder: &Path, init_seed: u64) -> Result<SpanExtractor, ModelError> {
        SpanExtractor::load(folder, init_seed)
    }

    fn save(model: &SpanExtractor, folder: &Path, encoder: &TextEncoder) -> Result<(), ModelError> {
        model.save(folder, encoder)
    }

    fn reading(stated: Option<Reading>) -> Reading {
        stated.filter(|reading| reading.stride.is_some()).unwrap_or(QUESTIONS)
    }

    fn hard_target(&self, goal: &AnswerGoal) -> Answer {
        goal.answer.clone()
    }

    /// The answer to each question (`text_pair`) in its context (`text`); batches hold inputs of similar length.
    fn outputs(&self, reader: &Reader, model: &SpanExtractor, inputs: &[Input]) -> Result<Vec<Found>> {
        let windows = windows(reader, inputs)?;
        let mut logits: Vec<Vec<Vec<f32>>> = windows.iter().map(|own| vec![Vec::new(); own.len()]).collect();
        let mut order: Vec<(usize, usize)> = (0..windows.len()).flat_map(|row| (0..windows[row].len()).map(move |w| (row, w))).collect();
        order.sort_by_key(|&(row, window)| windows[row][window].encoded.input_ids.len());
        for chunk in order.chunks(WINDOWS * reader.threads()) {
            let rows: Vec<&Encoded> = chunk.iter().map(|&(row, window)| &windows[row][window].encoded).collect();
            let batch = PackedBatch::from_rows(&rows);
            let out = reader.pool.install(|| model.logits(&batch, reader.threads())).map_err(|e| Error::Failed(e.to_string()))?;
            for (&(row, window), ends) in chunk.iter().zip(batch.cu_seqlens.windows(2)) {
                logits[row][window] = out[2 * ends[0] as usize..2 * ends[1] as usize].to_vec();
            }
        }
        Ok(inputs.iter().zip(windows).zip(logits).map(|((input, windows), logits)| Found::new(input.text, windows, logits)).collect())
    }

    fn prediction(found: &Found) -> String {
        found.answer.text.clone()
    }

    fn evaluate(gold: &[GoldRow<Answers>], found: &[Found]) -> Evaluation {
        let over = |measure: &dyn Fn(&GoldRow<Answers>, &Found) -> f64| {
            mean(gold.iter().zip(found).map(|(row, found)| measure(row, found)), gold.len())
        };
        let exact_match = over(&|row, found| f64::from(u8::from(row.accepts(&found.answer.text))));
        let f1 = over(&|row, found| row.gold.f1(&found.answer.text));
        let log_loss = over(&|row, found| found.log_loss(&row.text, &row.gold.answer));
        Evaluation { log_loss, right: Right::Answers { exact_match, f1 } }
    }

    /// All training windows of the rows, kept in memory.
    fn lessons(&self, reader: &Reader, rows: &[TrainRow<Answer>]) -> Result<Vec<Lesson>> {
        let inputs: Vec<Input> = rows.iter().map(TrainRow::input).collect();
        let mut lessons = Vec::new();
        for (row, windows) in rows.iter().zip(windows(reader, &inputs)?) {
            let bytes = row.target.bytes_in(&row.text);
            let bytes = bytes.ok_or_else(|| Error::Failed("a training question has no answer in its context".to_string()))?;
            lessons.extend(windows.into_iter().map(|window| Lesson { span: window.span_of(bytes.clone()), encoded: window.encoded }));
        }
        Ok(lessons)
    }

    fn pooling(_: &SpanExtractor, _: bool, _: u64) -> Result<Option<SpanExtractor>, ModelError> {
        Ok(None)
    }

    fn start_linear(_: &Reader, _: &mut SpanExtractor, _: &[TrainRow<Answer>], _: u64) -> Result<f64> {
        Ok(0.0)
    }

    /// Spans have no offsets.
    fn offsets(_: &[&GoldRow<Answers>], _: &[&Self::Output]) -> Vec<f64> {
        Vec::new()
    }

    fn shift(_: &mut Self::Output, _: &[f64]) {}

    fn add_offsets(_: &mut SpanExtractor, _: &[f64]) {}

    fn cool_model(_: &mut SpanExtractor, _: f64) {}

    fn cool(_: &mut Found, _: f64) {}

    fn temperature(_: &[GoldRow<Answers>], _: &[Found]) -> f64 {
        1.0
    }
}

impl Lessons<SpanExtractor> for Vec<Lesson> {
    fn count(&self) -> usize {
        self.len()
    }

    fn tokens(&self) -> usize {
        self.iter().map(|lesson| lesson.encoded.input_ids.len()).sum()
    }

    fn step(&self, trainer: &mut Trainer, model: &mut SpanExtractor, chosen: &[usize]) -> Result<()> {
        let batch = PackedBatch::from_rows(&chosen.iter().map(|&i| &self[i].encoded).collect::<Vec<_>>());
        let spans: Vec<Span> = chosen.iter().map(|&i| self[i].span).collect();
        trainer.step_spans(model, &batch, &spans).map(drop).map_err(|e| Error::Failed(format!("training: {e}")))
    }
}

/// The windows of each question's context.
fn windows(reader: &Reader, inputs: &[Input]) -> Result<Vec<Vec<EncodedQuestion>>> {
    let reading = Answers::reading(reader.stated());
    let (max_tokens, stride) = (reader.max_tokens(reading.max_tokens), reading.stride.unwrap_or(0));
    let one = |input: &Input| {
        let question = input.text_pair.unwrap_or_default();
        reader.encoder.encode_question(question, input.text, max_tokens, stride).map_err(|e| Error::Failed(e.to_string()))
    };
    reader.pool.install(|| inputs.par_iter().with_min_len(LEAST_TEXTS / 2).map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window of one-token words, after a question of one token.
    fn window(words: std::ops::Range<usize>) -> EncodedQuestion {
        let tokens = words.len() + 4;
        EncodedQuestion {
            encoded: Encoded { input_ids: vec![0; tokens], token_type_ids: vec![0; tokens] },
            context: 3..3 + words.len(),
            offsets: words.map(|word| (3 * word, 3 * word + 2)).collect(),
        }
    }

    /// Start and end logits, 0 except at the given words of the window.
    fn logits(words: usize, at: &[(usize, f32, f32)]) -> Vec<f32> {
        let mut logits = vec![0.0; 2 * (words + 4)];
        for &(word, first, last) in at {
            (logits[2 * (word + 3)], logits[2 * (word + 3) + 1]) = (first, last);
        }
        logits
    }

    #[test]
    fn the_best_span_over_all_windows_is_the_answer() {
        let context = "w0 w1 w2 w3 w4 w5";
        let windows = vec![window(0..4), window(2..6)];
        let mut of = vec![logits(4, &[(1, 2.0, 0.0), (2, 0.0, 3.0)]), logits(4, &[(1, 4.0, 0.0), (2, 0.0, 5.0)])];
        // A high logit at [CLS] is ignored: every question has an answer.
        (of[0][0], of[0][1]) = (99.0, 99.0);
        let found = Found::new(context, windows, of);
        assert_eq!(found.answer, Answer { text: "w3 w4".into(), start: 9 });
        let e = f64::exp;
        let (first, last) = (e(4.0) / (e(2.0) + e(4.0) + 6.0), e(5.0) / (e(3.0) + e(5.0) + 6.0));
        assert!((found.probability - first * last).abs() < 1e-6);
        assert!((found.log_loss(context, &found.answer) + (first.ln() + last.ln()) / 2.0).abs() < 1e-6);
        // The probabilities of a word that is in both windows add up.
        let twice = Answer { text: "w2".into(), start: 6 };
        let (first, last) = (2.0 / (e(2.0) + e(4.0) + 6.0), (e(3.0) + 1.0) / (e(3.0) + e(5.0) + 6.0));
        assert!((found.log_loss(context, &twice) + (first.ln() + last.ln()) / 2.0).abs() < 1e-6);
        // An answer that no window contains has a probability close to 0.
        assert!(found.log_loss(context, &Answer { text: "w1 w2 w3 w4".into(), start: 3 }) > 25.0);
    }

    #[test]
    fn a_context_without_tokens_has_no_answer() {
        let found = Found::new(" ", vec![window(0..0)], vec![logits(0, &[])]);
        assert_eq!((found.answer.text.as_str(), found.probability), ("", 0.0));
    }
}
