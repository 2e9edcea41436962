//! Logits, loss, every gradient and three training steps against PyTorch and transformers (see golden/make_golden.py).

mod common;

use common::{Golden, distance};
use lacuna_models::{Precision, Span, SpanExtractor, TrainConfig, Trainer};

fn config(threads: usize) -> TrainConfig {
    TrainConfig {
        lr: 1e-2,
        weight_decay: 0.1,
        warmup_ratio: 0.2,
        max_grad_norm: Some(0.5),
        hidden_dropout: 0.0,
        attention_dropout: 0.0,
        classifier_dropout: 0.0,
        total_steps: 5,
        threads,
        precision: Precision::F32,
        ..TrainConfig::default()
    }
}

/// Adding a constant to all keys changes all scores of a query by the same amount: the true gradient of a key bias is 0, and the computed
/// one is rounding error.
fn is_key_bias(name: &str) -> bool {
    ["key.bias", "k_lin.bias", "attn.k.bias"].iter().any(|end| name.ends_with(end))
}

fn gradients_agree(architecture: &str) {
    let golden = Golden::open(architecture);
    let (model, batch) = (golden.model(), golden.batch());
    for threads in [1, 2, 3, 9] {
        let logits = model.logits(&batch, threads).unwrap();
        assert!(distance(&logits, &golden.floats("logits")) < 1e-5, "logits {logits:?} with {threads} threads");
        let mut trainer = Trainer::new(&model, config(threads));
        let (targets, weights) = (golden.floats("targets"), golden.floats("weights"));
        // Twice: the second time, buffers and gradients are those of a step before.
        for _ in 0..2 {
            let (loss, gradients) = trainer.gradients(&model, &batch, &targets, &weights).unwrap();
            let expected = golden.floats("loss")[0];
            assert!((loss - expected).abs() < 1e-5 * expected, "loss {loss}, expected {expected}");
            for (name, range, _) in model.parameters() {
                let (found, expected) = (&gradients[range], golden.floats(&format!("gradient.{name}")));
                if is_key_bias(&name) {
                    assert!(found.iter().all(|g| g.abs() < 1e-5), "{name}");
                    continue;
                }
                let difference = distance(found, &expected);
                assert!(difference < 1e-4, "{name}: {difference} with {threads} threads");
                assert!(found.iter().any(|&g| g.abs() > 1e-4), "{name} has no gradient");
            }
        }
    }
}

fn steps_agree(architecture: &str) {
    let golden = Golden::open(architecture);
    let (mut model, batch) = (golden.model(), golden.batch());
    let (targets, weights) = (golden.floats("targets"), golden.floats("weights"));
    let mut trainer = Trainer::new(&model, config(2));
    let (losses, norms) = (golden.floats("step.losses"), golden.floats("step.norms"));
    for step in 0..3 {
        let outcome = trainer.step(&mut model, &batch, &targets, &weights).unwrap();
        assert!((outcome.loss - losses[step]).abs() < 1e-4 * losses[step], "{outcome:?}, expected {losses:?}");
        assert!((outcome.grad_norm - norms[step]).abs() < 1e-4 * norms[step], "{outcome:?}, expected {norms:?}");
    }
    let logits = model.logits(&batch, 1).unwrap();
    assert!(distance(&logits, &golden.floats("step.logits")) < 1e-3, "{logits:?}, expected {:?}", golden.floats("step.logits"));
    let mut compared = 0;
    for (name, range, _) in model.parameters().filter(|(name, ..)| golden.has(&format!("after.{name}")) && !is_key_bias(name)) {
        let difference = distance(&model.flat().unwrap()[range], &golden.floats(&format!("after.{name}")));
        assert!(difference < 1e-3, "{name}: {difference}");
        compared += 1;
    }
    assert!(compared > 10);
}

/// Products of 16-bit numbers: logits, loss and every gradient near those of f32, also in plain Rust where the CPU lacks the instructions.
fn rounded_gradients_agree(architecture: &str) {
    let golden = Golden::open(architecture);
    let (mut model, batch) = (golden.model(), golden.batch());
    let (targets, weights) = (golden.floats("targets"), golden.floats("weights"));
    for (precision, bound) in [(Precision::Int16, 5e-3), (Precision::Bf16, 3e-2)] {
        model.set_precision(precision);
        let found = model.logits(&batch, 2).unwrap();
        assert!(distance(&found, &golden.floats("logits")) < bound, "{precision:?}");
        assert_ne!(found, golden.floats("logits"));
        let mut trainer = Trainer::new(&model, TrainConfig { precision, ..config(2) });
        let (loss, gradients) = trainer.gradients(&model, &batch, &targets, &weights).unwrap();
        assert!((loss - golden.floats("loss")[0]).abs() < bound * loss);
        for (name, range, _) in model.parameters().filter(|(name, ..)| !is_key_bias(name)) {
            let expected = golden.floats(&format!("gradient.{name}"));
            let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
            let error = norm(&mut gradients[range].iter().zip(&expected).map(|(a, b)| a - b));
            let relative = error / norm(&mut expected.iter().copied());
            // A bias of attention has the sum of many small gradients of either sign; ModernBERT's golden model has twice the layers.
            let wider = name.contains("relative_attention_bias") || architecture == "modernbert";
            let bound = if wider { 2.0 * bound } else { bound };
            assert!(relative < bound, "{name}: {relative} with {precision:?}");
        }
    }
}

#[test]
fn bert_rounded_gradients() {
    rounded_gradients_agree("bert");
}

#[test]
fn distilbert_rounded_gradients() {
    rounded_gradients_agree("distilbert");
}

/// A span head: logits of every token, the loss and every gradient; and a saved extractor is the same again.
fn span_gradients_agree(architecture: &str, class: &str) {
    let golden = Golden::open(architecture);
    let batch = golden.batch();
    let mut model = SpanExtractor::load(&golden.folder, 1).unwrap();
    model.set_precision(Precision::F32);
    let spans: Vec<Span> = golden.integers("spans").chunks(2).map(|s| Span { start: s[0] as usize, end: s[1] as usize }).collect();
    for threads in [1, 3] {
        assert!(distance(&model.logits(&batch, threads).unwrap(), &golden.floats("logits")) < 1e-5);
        let mut trainer = Trainer::new(&model, config(threads));
        let (loss, gradients) = trainer.span_gradients(&model, &batch, &spans).unwrap();
        let expected = golden.floats("loss")[0];
        assert!((loss - expected).abs() < 1e-5 * expected, "loss {loss}, expected {expected}");
        for (name, range, _) in model.parameters() {
            let (found, expected) = (&gradients[range], golden.floats(&format!("gradient.{name}")));
            // A softmax over tokens is invariant to a constant: the gradients of key biases and of the last biases are 0.
            if expected.iter().all(|g| g.abs() < 1e-6) {
                assert!(found.iter().all(|g| g.abs() < 1e-5), "{name}");
                continue;
            }
            let difference = distance(found, &expected);
            assert!(difference < 1e-4, "{name}: {difference} with {threads} threads");
        }
        let before = trainer.step_spans(&mut model.clone(), &batch, &spans).unwrap();
        assert!((before.loss - expected).abs() < 1e-5 * expected);
    }
    assert!(model.config_json().contains(class));
    let wrong = [Span { start: 3, end: 1 }, spans[1], spans[2], spans[3]];
    for (spans, words) in [(&spans[..3], "4 rows, but 3 spans"), (&wrong, "the answer of row 0")] {
        let error = Trainer::new(&model, config(1)).step_spans(&mut model, &batch, spans).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn bert_spans() {
    span_gradients_agree("bert_span", "\"BertForQuestionAnswering");
}

#[test]
fn distilbert_spans() {
    span_gradients_agree("distilbert_span", "\"DistilBertForQuestionAnswering");
}

#[test]
fn roberta_spans() {
    span_gradients_agree("roberta_span", "\"RobertaForQuestionAnswering");
}

#[test]
fn roberta_gradients() {
    gradients_agree("roberta");
}

#[test]
fn roberta_steps() {
    steps_agree("roberta");
}

#[test]
fn bert_gradients() {
    gradients_agree("bert");
}

#[test]
fn distilbert_gradients() {
    gradients_agree("distilbert");
}

#[test]
fn several_labels_a_text() {
    gradients_agree("bert_several");
    gradients_agree("electra_several");
    steps_agree("bert_several");
    steps_agree("electra_several");
}

#[test]
fn bert_steps() {
    steps_agree("bert");
}

#[test]
fn distilbert_steps() {
    steps_agree("distilbert");
}

#[test]
fn mpnet_gradients() {
    gradients_agree("mpnet");
}

#[test]
fn mpnet_steps() {
    steps_agree("mpnet");
}

#[test]
fn mpnet_rounded_gradients() {
    rounded_gradients_agree("mpnet");
}

#[test]
fn mpnet_spans() {
    span_gradients_agree("mpnet_span", "\"MPNetForQuestionAnswering");
}

#[test]
fn electra_gradients() {
    gradients_agree("electra");
}

#[test]
fn electra_steps() {
    steps_agree("electra");
}

#[test]
fn electra_rounded_gradients() {
    rounded_gradients_agree("electra");
}

#[test]
fn electra_spans() {
    span_gradients_agree("electra_span", "\"ElectraForQuestionAnswering");
}

#[test]
fn modernbert_gradients() {
    gradients_agree("modernbert");
    gradients_agree("modernbert_means");
    gradients_agree("modernbert_local");
}

#[test]
fn modernbert_steps() {
    steps_agree("modernbert");
    steps_agree("modernbert_means");
}

#[test]
fn modernbert_rounded_gradients() {
    rounded_gradients_agree("modernbert");
}

#[test]
fn modernbert_spans() {
    span_gradients_agree("modernbert_span", "\"ModernBertForQuestionAnswering");
}

#[test]
fn deberta_gradients() {
    gradients_agree("deberta");
}

#[test]
fn deberta_steps() {
    steps_agree("deberta");
}

#[test]
fn deberta_rounded_gradients() {
    rounded_gradients_agree("deberta");
}

#[test]
fn deberta_spans() {
    span_gradients_agree("deberta_span", "\"DebertaV2ForQuestionAnswering");
}
