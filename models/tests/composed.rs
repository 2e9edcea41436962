//! The network of candle's operations against our kernels: logits, losses, every gradient, and steps of training.
#![cfg(feature = "candle")]

mod common;

use common::{golden, labelled, load, micro_batch, parts, rates, spans};
use lacuna_models::{Classifier, Device, MicroBatch, ModelError, Network, Pair, Precision, SpanExtractor, TrainConfig, Trainer};

/// Rows of one token and of the most the model takes among others; and rows of one length.
const LENGTHS: [&[u32]; 3] = [&[5, 1, 9, 3, 12, 2], &[1, 1], &[7, 7, 7]];

fn on_candle<M: std::ops::DerefMut<Target = Network> + Clone>(model: &M) -> M {
    let mut model = model.clone();
    model.set_device(Device::CandleCpu).unwrap();
    model
}

fn classifier(architecture: &str) -> Classifier {
    let mut model = load(&golden(architecture));
    model.set_precision(Precision::F32);
    model
}

fn extractor(architecture: &str) -> SpanExtractor {
    let mut model = SpanExtractor::load(&golden(&format!("{architecture}_span")), 1).unwrap();
    model.set_precision(Precision::F32);
    model
}

/// The largest difference, relative to the largest expected number.
fn distance(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    assert!(actual.iter().all(|x| x.is_finite()));
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    actual.iter().zip(expected).fold(0.0f32, |m, (a, e)| m.max((a - e).abs())) / largest.max(f32::MIN_POSITIVE)
}

/// A softmax is invariant to a constant added to all its logits: the true gradients of key biases and of a span head's biases are 0.
/// Without a dropout before the span head, as in BERT, so is that of the last LayerNorm's bias.
fn has_no_gradient(model: &Network, name: &str) -> bool {
    let spans = model.parameters().any(|(name, ..)| name == "qa_outputs.weight");
    let last = spans && name == "bert.encoder.layer.1.output.LayerNorm.bias";
    last || ["key.bias", "k_lin.bias", "attn.k.bias", "qa_outputs.bias"].iter().any(|end| name.ends_with(end))
}

fn is_zero(gradient: &[f32]) -> bool {
    gradient.iter().all(|g| g.abs() < 1e-6)
}

/// The gradient of every tensor is the expected one. Among rows of one token, queries and keys have none.
#[track_caller]
fn gradients_agree(model: &Network, found: &[f32], expected: &[f32]) {
    for (name, range, _) in model.parameters() {
        let (found, expected) = (&found[range.clone()], &expected[range]);
        if is_zero(expected) {
            assert!(is_zero(found), "{name}");
        } else {
            let difference = distance(found, expected);
            assert!(difference < 1e-4, "{name}: {difference}");
        }
    }
}

/// candle silently cuts the graph at some operations; then only the layers after them would be trained.
#[test]
fn every_tensor_has_a_gradient() {
    for architecture in ["bert", "distilbert"] {
        let (batch, targets, weights) = labelled(LENGTHS[0]);
        let check = |model: &Network, gradients: &[f32]| {
            for (name, range, _) in model.parameters().filter(|(name, ..)| !has_no_gradient(model, name)) {
                assert!(!is_zero(&gradients[range]), "{name} has no gradient");
            }
        };
        let model = on_candle(&classifier(architecture));
        check(&model, Trainer::new(&model, rates(0.2)).gradients(&model, &batch, &targets, &weights).unwrap().1);
        let model = on_candle(&extractor(architecture));
        check(&model, Trainer::new(&model, rates(0.2)).span_gradients(&model, &batch, &spans(LENGTHS[0])).unwrap().1);
    }
}

/// RoBERTa and MPNet have one type of tokens.
fn one_type(batch: &mut lacuna_models::PackedBatch, architecture: &str) {
    if ["roberta", "mpnet"].contains(&architecture) {
        batch.token_type_ids.fill(0);
    }
}

/// A loss with dropout is the same only if all masks are.
#[test]
fn classifiers_have_the_same_gradients() {
    let modern = ["modernbert", "modernbert_means", "modernbert_local"];
    let others = ["bert", "bert_several", "distilbert", "roberta", "mpnet", "electra", "electra_several", "deberta"];
    for architecture in modern.into_iter().chain(others) {
        let model = classifier(architecture);
        let composed = on_candle(&model);
        for (lengths, rate) in LENGTHS.into_iter().flat_map(|lengths| [(lengths, 0.0), (lengths, 0.2)]) {
            let (mut batch, targets, mut weights) = labelled(lengths);
            weights[0] = 1.0;
            one_type(&mut batch, architecture);
            assert!(distance(&composed.logits(&batch, 1).unwrap(), &model.logits(&batch, 1).unwrap()) < 1e-5);
            let mut expected = Trainer::new(&model, rates(rate));
            let (expected_loss, expected) = expected.gradients(&model, &batch, &targets, &weights).unwrap();
            let mut trainer = Trainer::new(&composed, rates(rate));
            let (loss, found) = trainer.gradients(&composed, &batch, &targets, &weights).unwrap();
            assert!((loss - expected_loss).abs() < 1e-5 * expected_loss, "{loss}, expected {expected_loss}");
            gradients_agree(&model, found, expected);
        }
    }
}

#[test]
fn span_extractors_have_the_same_gradients() {
    for architecture in ["bert", "distilbert", "roberta", "mpnet", "electra", "modernbert", "deberta"] {
        let model = extractor(architecture);
        let composed = on_candle(&model);
        for (lengths, rate) in [(LENGTHS[0], 0.0), (LENGTHS[0], 0.2), (LENGTHS[2], 0.2)] {
            let (mut batch, ..) = labelled(lengths);
            one_type(&mut batch, architecture);
            let spans = spans(lengths);
            assert!(distance(&composed.logits(&batch, 1).unwrap(), &model.logits(&batch, 1).unwrap()) < 1e-5);
            let mut expected = Trainer::new(&model, rates(rate));
            let (expected_loss, expected) = expected.span_gradients(&model, &batch, &spans).unwrap();
            let mut trainer = Trainer::new(&composed, rates(rate));
            let (loss, found) = trainer.span_gradients(&composed, &batch, &spans).unwrap();
            assert!((loss - expected_loss).abs() < 1e-5 * expected_loss, "{loss}, expected {expected_loss}");
            gradients_agree(&model, found, expected);
        }
    }
}

/// After steps of both, the parameters agree. AdamW makes a whole step of whatever rounding leaves of a gradient of 0, so that biases
/// without one are left out.
#[track_caller]
fn parameters_agree(model: &Network, composed: &Network, before: &[f32]) {
    for (name, range, _) in model.parameters().filter(|(name, ..)| !has_no_gradient(model, name)) {
        let moved = |x: &[f32]| -> Vec<f32> { x[range.clone()].iter().zip(&before[range.clone()]).map(|(x, b)| x - b).collect() };
        let (found, expected) = (moved(composed.flat().unwrap()), moved(model.flat().unwrap()));
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
        let apart = norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied());
        assert!(apart < 2e-3, "{name} moved otherwise: {apart}");
    }
}

#[test]
fn five_steps_lead_to_the_same_parameters() {
    for (architecture, rate) in [("bert", 0.0), ("bert", 0.2), ("distilbert", 0.0), ("distilbert", 0.2)] {
        let mut model = classifier(architecture);
        let (mut composed, before) = (on_candle(&model), model.flat().unwrap().to_vec());
        let [mut trainer, mut other] = [&model, &composed].map(|model| Trainer::new(model, rates(rate)));
        for step in 0..5 {
            let (batch, targets, weights) = labelled(LENGTHS[step % 2 * 2]);
            let expected = trainer.step(&mut model, &batch, &targets, &weights).unwrap();
            let found = other.step(&mut composed, &batch, &targets, &weights).unwrap();
            assert!((found.loss - expected.loss).abs() < 1e-3 * expected.loss, "{found:?}, expected {expected:?}");
            assert!((found.grad_norm - expected.grad_norm).abs() < 1e-2 * expected.grad_norm, "{found:?}, expected {expected:?}");
            assert_eq!(found.lr, expected.lr);
        }
        assert_eq!(other.steps(), 5);
        parameters_agree(&model, &composed, &before);
        // The copy on the host agrees with the device.
        let (batch, ..) = labelled(LENGTHS[0]);
        let there = composed.logits(&batch, 1).unwrap();
        composed.set_device(Device::Cpu).unwrap();
        assert!(distance(&composed.logits(&batch, 1).unwrap(), &there) < 1e-5);
    }
}

#[test]
fn five_span_steps_lead_to_the_same_parameters() {
    for architecture in ["bert", "distilbert"] {
        let mut model = extractor(architecture);
        let (mut composed, before) = (on_candle(&model), model.flat().unwrap().to_vec());
        let [mut trainer, mut other] = [&*model, &*composed].map(|model| Trainer::new(model, rates(0.2)));
        for _ in 0..5 {
            let (batch, ..) = labelled(LENGTHS[0]);
            let expected = trainer.step_spans(&mut model, &batch, &spans(LENGTHS[0])).unwrap();
            let found = other.step_spans(&mut composed, &batch, &spans(LENGTHS[0])).unwrap();
            assert!((found.loss - expected.loss).abs() < 1e-3 * expected.loss, "{found:?}, expected {expected:?}");
        }
        parameters_agree(&model, &composed, &before);
    }
}

/// A batch in parts is the batch, also on a device.
#[test]
fn parts_are_the_batch() {
    let (all, targets, weights) = labelled(&[4, 2, 6]);
    let [first, second] = parts(&all);
    let step = |parts: &[MicroBatch]| {
        let mut model = on_candle(&classifier("bert"));
        let outcome = Trainer::new(&model, rates(0.2)).step_micro_batches(&mut model, parts).unwrap();
        (outcome.loss, outcome.grad_norm)
    };
    let whole = step(&[micro_batch(&all, &targets, &weights)]);
    let parted = step(&[micro_batch(&first, &targets[..3], &weights[..1]), micro_batch(&second, &targets[3..], &weights[1..])]);
    assert!((whole.0 - parted.0).abs() < 1e-6 && (whole.1 - parted.1).abs() < 1e-5 * whole.1, "{whole:?} {parted:?}");
}

/// Clones are independent, and changes of the host's parameters reach the device.
#[test]
fn clones_and_offsets() {
    let mut model = on_candle(&classifier("bert"));
    let (batch, targets, weights) = labelled(LENGTHS[0]);
    let mut trainer = Trainer::new(&model, TrainConfig { warmup_ratio: 0.0, ..rates(0.0) });
    trainer.step(&mut model, &batch, &targets, &weights).unwrap();
    let (kept, before) = (model.clone(), model.logits(&batch, 1).unwrap());
    trainer.step(&mut model, &batch, &targets, &weights).unwrap();
    assert_eq!(kept.logits(&batch, 1).unwrap(), before);
    assert_ne!(model.logits(&batch, 1).unwrap(), before);

    let before = model.logits(&batch, 1).unwrap();
    model.add_offsets(&[1.0, 0.0, -1.0]);
    let mut forward = Default::default();
    let after = model.logits_with(&mut forward, &batch).unwrap();
    let offsets = [1.0, 0.0, -1.0].repeat(LENGTHS[0].len());
    assert!(after.iter().zip(&before).zip(&offsets).all(|((after, before), offset)| (after - before - offset).abs() < 1e-5));
}

/// A checkpoint brings the moments back from the device and there again.
#[test]
fn resumes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let (batch, targets, weights) = labelled(LENGTHS[0]);
    let mut whole = on_candle(&classifier("bert"));
    let mut trainer = Trainer::new(&whole, rates(0.2));
    for step in 0..4 {
        if step == 2 {
            std::fs::write(&path, trainer.checkpoint(&whole).unwrap()).unwrap();
        }
        trainer.step(&mut whole, &batch, &targets, &weights).unwrap();
    }
    let mut model = on_candle(&classifier("bert"));
    let mut trainer = Trainer::resume(&mut model, rates(0.2), &path).unwrap();
    assert_eq!(trainer.steps(), 2);
    for _ in 2..4 {
        trainer.step(&mut model, &batch, &targets, &weights).unwrap();
    }
    assert!(distance(model.flat().unwrap(), whole.flat().unwrap()) < 1e-6);
    let error = Trainer::resume(&mut classifier("bert"), rates(0.2), &path).err().unwrap().to_string();
    assert!(error.contains("another model or training configuration"), "{error}");
}

#[test]
fn what_is_refused() {
    let mut model = classifier("bert");
    let (batch, targets, weights) = labelled(LENGTHS[0]);
    let mut trainer = Trainer::new(&model, rates(0.0));
    model.set_device(Device::CandleCpu).unwrap();
    let error = trainer.step(&mut model, &batch, &targets, &weights).unwrap_err().to_string();
    assert!(error.contains("another device"), "{error}");

    let mut trainer = Trainer::new(&model, rates(0.0));
    let error = trainer.step(&mut model, &batch, &targets[1..], &weights).unwrap_err();
    assert!(matches!(error, ModelError::Batch(_)), "{error}");

    let pair = Pair { first: 0, second: 1, similarity: 1.0 };
    let error = trainer.step_pairs(&mut model, &batch, &[pair]).unwrap_err();
    assert!(matches!(error, ModelError::Device(_)) && error.to_string().contains("on the CPU only"), "{error}");

    let far = Device::Cuda(97);
    let error = model.set_device(far).unwrap_err();
    assert!(matches!(error, ModelError::Device(_)) && error.to_string().contains("cuda:97 cannot be used"), "{error}");
    assert_eq!(model.device(), Device::CandleCpu);
}

/// A loss that is not finite is an error and leaves the model unchanged.
#[test]
fn a_diverged_loss_leaves_the_model_as_it_was() {
    let folder = common::copy("bert");
    common::rewrite(folder.path(), |name, shape, mut data| {
        if name == "classifier.bias" {
            data[1] = f32::NAN;
        }
        Some((name.into(), shape.to_vec(), data))
    });
    let mut model = on_candle(&load(folder.path()));
    let before = model.flat().unwrap().to_vec();
    let (batch, targets, weights) = labelled(LENGTHS[0]);
    let mut trainer = Trainer::new(&model, rates(0.0));
    let error = trainer.step(&mut model, &batch, &targets, &weights).unwrap_err();
    assert!(matches!(error, ModelError::NotFinite { step: 0, .. }), "{error}");
    assert!(model.flat().unwrap().iter().zip(&before).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_eq!(trainer.steps(), 0);
}
