//! The kernels of NVIDIA GPUs, emulated on the host, against those of the CPU: logits, losses, every gradient, and steps of training.
#![cfg(feature = "emulated")]

mod common;

use common::shapes::tensors;
use common::{distance, labelled, micro_batch, parts, rates, spans};
use lacuna_models::{
    Classifier, Device, MicroBatch, ModelError, Network, Pair, Precision, SpanExtractor, StepOutcome, TrainConfig, Trainer,
};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;
use std::ops::DerefMut;
use std::path::Path;

const HIDDEN: usize = 64;
const VOCABULARY: usize = 48;
const POSITIONS: usize = 80;
/// Rows of one token, of a tile of attention, and of more than one; and rows of one length.
const LENGTHS: [&[u32]; 3] = [&[5, 1, 70, 33, 64, 2], &[1, 1], &[17, 17, 17]];

/// Numbers from -1 to 1 that depend on the name.
fn numbers(name: &str, n: usize) -> impl Iterator<Item = f32> {
    let mut state = name.bytes().fold(1u64, |h, b| (h ^ b as u64).wrapping_mul(0x100_0000_01b3));
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
    .take(n)
}

/// Width of the embeddings of an ELECTRA.
const NARROW: usize = 24;

/// A tensor of BERT as another architecture has it.
fn as_in(architecture: &str, (name, shape): (String, Vec<usize>)) -> Option<(String, Vec<usize>)> {
    match architecture {
        "mpnet" if name.contains("token_type") => None,
        "mpnet" => {
            let renamed = [("self.query", "attn.q"), ("self.key", "attn.k"), ("self.value", "attn.v")];
            let renamed = renamed
                .into_iter()
                .chain([("attention.output.dense", "attention.attn.o"), ("attention.output.LayerNorm", "attention.LayerNorm")]);
            Some((renamed.fold(name, |name, (from, to)| name.replace(from, to)), shape))
        }
        "electra" if name.starts_with("embeddings.") => Some((name, [&shape[..shape.len() - 1], &[NARROW]].concat())),
        _ => Some((name, shape)),
    }
}

/// Tensors that BERT does not have.
fn beside_berts(architecture: &str, hidden: usize, heads: usize) -> Vec<(String, Vec<usize>)> {
    match architecture {
        "mpnet" => vec![("encoder.relative_attention_bias.weight".into(), vec![32, heads])],
        "electra" => vec![("embeddings_project.weight".into(), vec![hidden, NARROW]), ("embeddings_project.bias".into(), vec![hidden])],
        _ => vec![],
    }
}

fn write(folder: &Path, architecture: &str, hidden: usize, positions: usize, heads: usize) {
    let size = 1.6 / (hidden as f32).sqrt();
    let data = |name: &str, n: usize| -> Vec<u8> {
        let norm = name.contains("LayerNorm.weight") || name.contains("layer_norm.weight");
        numbers(name, n).flat_map(|x| (if norm { 1.0 + 0.3 * x } else { size * x }).to_le_bytes()).collect()
    };
    // RoBERTa and MPNet have positions that begin behind the padding's.
    let skipped = if ["roberta", "mpnet"].contains(&architecture) { 2 } else { 0 };
    let tensors: Vec<_> = tensors(architecture != "distilbert", 2, hidden, VOCABULARY, positions + skipped)
        .into_iter()
        .filter_map(|tensor| as_in(architecture, tensor))
        .chain(beside_berts(architecture, hidden, heads))
        .map(|(name, shape)| {
            let data = data(&name, shape.iter().product());
            (name, shape, data)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    std::fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let config = if architecture != "distilbert" {
        json!({
            "model_type": architecture, "pad_token_id": 1, "hidden_act": "gelu", "vocab_size": VOCABULARY, "hidden_size": hidden, "num_hidden_layers": 2,
            "num_attention_heads": heads, "intermediate_size": 4 * hidden, "max_position_embeddings": positions + skipped, "type_vocab_size": 2,
            "embedding_size": NARROW,
        })
    } else {
        json!({
            "model_type": "distilbert", "activation": "gelu", "vocab_size": VOCABULARY, "dim": hidden, "n_layers": 2, "n_heads": heads,
            "hidden_dim": 4 * hidden, "max_position_embeddings": positions, "sinusoidal_pos_embds": false,
        })
    };
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn classifier(architecture: &str, heads: usize) -> Classifier {
    wide_classifier(architecture, HIDDEN, heads)
}

fn wide_classifier(architecture: &str, hidden: usize, heads: usize) -> Classifier {
    let folder = tempfile::tempdir().unwrap();
    let problem = common::problem(architecture);
    write(folder.path(), architecture.trim_end_matches("_several"), hidden, POSITIONS, heads);
    let mut model = Classifier::load_for(problem, folder.path(), &common::labels(&["a", "b", "c"]), 1).unwrap();
    model.set_precision(Precision::F32);
    // A drawn head has small weights: gradients through it would be small too.
    model.scale_logits(20.0);
    model
}

fn extractor(architecture: &str, heads: usize) -> SpanExtractor {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), architecture, HIDDEN, POSITIONS, heads);
    let mut model = SpanExtractor::load(folder.path(), 1).unwrap();
    model.set_precision(Precision::F32);
    model
}

fn emulated<M: DerefMut<Target = Network> + Clone>(model: &M) -> M {
    let mut model = model.clone();
    model.set_device(Device::Emulated).unwrap();
    model
}

fn norm(x: impl Iterator<Item = f32>) -> f32 {
    x.map(|x| x * x).sum::<f32>().sqrt()
}

/// The gradient of every tensor is the expected one: apart by less than `most` of its norm, or of a hundredth of the norm of all (the true
/// gradient of key biases is 0).
#[track_caller]
fn gradients_agree(model: &Network, found: &[f32], expected: &[f32], most: f32) {
    let least = 1e-2 * norm(expected.iter().copied());
    let mut worst = (0.0, String::new());
    for (name, range, _) in model.parameters() {
        let (found, expected) = (&found[range.clone()], &expected[range]);
        assert!(found.iter().all(|x| x.is_finite()), "{name} is not finite");
        let apart = norm(found.iter().zip(expected).map(|(a, e)| a - e)) / norm(expected.iter().copied()).max(least);
        if apart > worst.0 {
            worst = (apart, name);
        }
    }
    assert!(worst.0 < most, "{}: {}", worst.1, worst.0);
    let all = norm(found.iter().zip(expected).map(|(a, e)| a - e)) / norm(expected.iter().copied());
    println!("apart by {all}, {} by {}", worst.1, worst.0);
    assert!(all < most / 3.0, "all gradients: {all}");
}

#[test]
fn classifiers_have_the_same_gradients() {
    let others = [("roberta", 2), ("mpnet", 2), ("mpnet", 1), ("electra", 2), ("bert_several", 1)];
    for (architecture, heads) in [("bert", 2), ("bert", 1), ("distilbert", 2), ("distilbert", 1)].into_iter().chain(others) {
        let model = classifier(architecture, heads);
        let other = emulated(&model);
        for (lengths, rate) in LENGTHS.into_iter().flat_map(|lengths| [(lengths, 0.0), (lengths, 0.2)]) {
            let (batch, targets, mut weights) = labelled(lengths);
            weights[0] = 1.0;
            let apart = distance(&other.logits(&batch, 1).unwrap(), &model.logits(&batch, 1).unwrap());
            assert!(apart < 1e-5, "logits: {apart}");
            let mut expected = Trainer::new(&model, rates(rate));
            let (expected_loss, expected) = expected.gradients(&model, &batch, &targets, &weights).unwrap();
            let mut trainer = Trainer::new(&other, rates(rate));
            // The second time, words of another batch have gradients from before.
            let (before, targets_before, weights_before) = labelled(LENGTHS[2]);
            trainer.gradients(&other, &before, &targets_before, &weights_before).unwrap();
            let (loss, found) = trainer.gradients(&other, &batch, &targets, &weights).unwrap();
            assert!((loss - expected_loss).abs() < 1e-5 * expected_loss, "{loss}, expected {expected_loss}");
            gradients_agree(&model, found, expected, 2e-5);
        }
    }
}

/// The kernels for LayerNorm come in three widths.
#[test]
fn wide_models_have_the_same_gradients() {
    for (hidden, heads) in [(384, 12), (768, 12), (1024, 16)] {
        let model = wide_classifier("bert", hidden, heads);
        let other = emulated(&model);
        let (batch, targets, weights) = labelled(&[5, 1, 3]);
        let mut expected = Trainer::new(&model, rates(0.2));
        let (expected_loss, expected) = expected.gradients(&model, &batch, &targets, &weights).unwrap();
        for (precision, most) in [(Precision::F32, 3e-5), (Precision::Bf16, 0.15)] {
            let mut trainer = Trainer::new(&other, TrainConfig { precision, ..rates(0.2) });
            let (loss, found) = trainer.gradients(&other, &batch, &targets, &weights).unwrap();
            assert!((loss - expected_loss).abs() < most * expected_loss, "{loss}, expected {expected_loss}");
            gradients_agree(&model, found, expected, most);
        }
    }
}

#[test]
fn classifiers_have_about_the_same_gradients_in_bf16() {
    // DistilBERT's pooler has a ReLU: a number near 0 may fall on the other side.
    for (architecture, heads, most) in
        [("bert", 2, 6e-2), ("distilbert", 1, 0.15), ("mpnet", 2, 0.1), ("mpnet", 1, 0.1), ("electra", 1, 0.1), ("bert_several", 2, 6e-2)]
    {
        let model = classifier(architecture, heads);
        let mut other = emulated(&model);
        other.set_precision(Precision::Bf16);
        for (lengths, rate) in LENGTHS.into_iter().flat_map(|lengths| [(lengths, 0.0), (lengths, 0.2)]) {
            let (batch, targets, mut weights) = labelled(lengths);
            weights[0] = 1.0;
            let apart = distance(&other.logits(&batch, 1).unwrap(), &model.logits(&batch, 1).unwrap());
            assert!(apart < 3e-2, "logits: {apart}");
            let mut expected = Trainer::new(&model, rates(rate));
            let (expected_loss, expected) = expected.gradients(&model, &batch, &targets, &weights).unwrap();
            let mut trainer = Trainer::new(&other, TrainConfig { precision: Precision::Auto, ..rates(rate) });
            let (loss, found) = trainer.gradients(&other, &batch, &targets, &weights).unwrap();
            assert!((loss - expected_loss).abs() < 2e-2 * expected_loss, "{loss}, expected {expected_loss}");
            gradients_agree(&model, found, expected, most);
        }
    }
}

#[test]
fn span_extractors_have_the_same_gradients() {
    for (architecture, heads) in [("bert", 1), ("distilbert", 2), ("roberta", 1), ("mpnet", 2), ("electra", 1)] {
        let model = extractor(architecture, heads);
        let other = emulated(&model);
        for (lengths, rate) in [(LENGTHS[0], 0.0), (LENGTHS[0], 0.2), (LENGTHS[2], 0.2)] {
            let (batch, ..) = labelled(lengths);
            let spans = spans(lengths);
            let apart = distance(&other.logits(&batch, 1).unwrap(), &model.logits(&batch, 1).unwrap());
            assert!(apart < 1e-5, "logits: {apart}");
            let mut expected = Trainer::new(&model, rates(rate));
            let (expected_loss, expected) = expected.span_gradients(&model, &batch, &spans).unwrap();
            let mut trainer = Trainer::new(&other, rates(rate));
            let (loss, found) = trainer.span_gradients(&other, &batch, &spans).unwrap();
            assert!((loss - expected_loss).abs() < 1e-5 * expected_loss, "{loss}, expected {expected_loss}");
            gradients_agree(&model, found, expected, 2e-5);
        }
    }
}

#[track_caller]
fn outcomes_agree(found: StepOutcome, expected: StepOutcome) {
    assert!((found.loss - expected.loss).abs() < 1e-3 * expected.loss, "{found:?}, expected {expected:?}");
    assert!((found.grad_norm - expected.grad_norm).abs() < 1e-2 * expected.grad_norm, "{found:?}, expected {expected:?}");
    assert_eq!(found.lr, expected.lr);
}

/// After steps of both, the parameters have moved alike. AdamW makes a whole step of whatever rounding leaves of a gradient of 0, so that
/// biases without one are left out: those of keys and of a span head, and the last LayerNorm's before one without dropout.
#[track_caller]
fn parameters_agree(model: &Network, other: &Network, before: &[f32]) {
    let spans = model.parameters().any(|(name, ..)| name == "qa_outputs.weight");
    let without = |name: &str| {
        let last = spans && name == "bert.encoder.layer.1.output.LayerNorm.bias";
        last || ["key.bias", "k_lin.bias", "qa_outputs.bias"].iter().any(|end| name.ends_with(end))
    };
    for (name, range, _) in model.parameters().filter(|(name, ..)| !without(name)) {
        let moved = |x: &[f32]| -> Vec<f32> { x[range.clone()].iter().zip(&before[range.clone()]).map(|(x, b)| x - b).collect() };
        let (found, expected) = (moved(other.flat().unwrap()), moved(model.flat().unwrap()));
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
        let apart = norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied());
        assert!(apart < 2e-3, "{name} moved otherwise: {apart}");
    }
}

#[test]
fn five_steps_lead_to_the_same_parameters() {
    for (architecture, heads, rate) in [("bert", 2, 0.2), ("distilbert", 1, 0.0), ("distilbert", 1, 0.2)] {
        let mut model = classifier(architecture, heads);
        let (mut other, before) = (emulated(&model), model.flat().unwrap().to_vec());
        let [mut trainer, mut on_device] = [&model, &other].map(|model| Trainer::new(model, rates(rate)));
        for step in 0..5 {
            let (batch, targets, weights) = labelled(LENGTHS[step % 2 * 2]);
            let expected = trainer.step(&mut model, &batch, &targets, &weights).unwrap();
            outcomes_agree(on_device.step(&mut other, &batch, &targets, &weights).unwrap(), expected);
        }
        assert_eq!(on_device.steps(), 5);
        parameters_agree(&model, &other, &before);
        // The copy on the host agrees with the device.
        let (batch, ..) = labelled(LENGTHS[0]);
        let there = other.logits(&batch, 1).unwrap();
        other.set_device(Device::Cpu).unwrap();
        assert!(distance(&other.logits(&batch, 1).unwrap(), &there) < 1e-5);
    }
}

#[test]
fn five_span_steps_lead_to_the_same_parameters() {
    for (architecture, heads) in [("bert", 2), ("distilbert", 1)] {
        let mut model = extractor(architecture, heads);
        let (mut other, before) = (emulated(&model), model.flat().unwrap().to_vec());
        let [mut trainer, mut on_device] = [&*model, &*other].map(|model| Trainer::new(model, rates(0.2)));
        for _ in 0..5 {
            let (batch, ..) = labelled(LENGTHS[0]);
            let expected = trainer.step_spans(&mut model, &batch, &spans(LENGTHS[0])).unwrap();
            outcomes_agree(on_device.step_spans(&mut other, &batch, &spans(LENGTHS[0])).unwrap(), expected);
        }
        parameters_agree(&model, &other, &before);
    }
}

/// No result depends on which thread comes first: a barrier that is missing would show.
#[test]
fn threads_may_come_in_any_order() {
    for precision in [Precision::F32, Precision::Bf16] {
        for heads in [1, 2] {
            let (labels, answers) = (emulated(&classifier("bert", heads)), emulated(&extractor("distilbert", heads)));
            let (batch, targets, weights) = labelled(LENGTHS[0]);
            let config = TrainConfig { precision, ..rates(0.2) };
            let gradients = |reversed: bool| {
                lacuna_cuda::reverse_threads(reversed);
                let (mut of_labels, mut of_answers) = (Trainer::new(&labels, config.clone()), Trainer::new(&answers, config.clone()));
                let of_labels = of_labels.gradients(&labels, &batch, &targets, &weights).unwrap().1.to_vec();
                let of_answers = of_answers.span_gradients(&answers, &batch, &spans(LENGTHS[0])).unwrap().1.to_vec();
                let mut trained = labels.clone();
                Trainer::new(&trained, config.clone()).step(&mut trained, &batch, &targets, &weights).unwrap();
                [of_labels, of_answers, trained.flat().unwrap().to_vec()]
            };
            let (forwards, backwards) = (gradients(false), gradients(true));
            lacuna_cuda::reverse_threads(false);
            assert!(forwards == backwards, "heads of {} in {precision:?}", HIDDEN / heads);
        }
    }
}

/// A batch in parts is the batch.
#[test]
fn parts_are_the_batch() {
    let (all, targets, weights) = labelled(&[4, 2, 6]);
    let [first, second] = parts(&all);
    let step = |parts: &[MicroBatch]| {
        let mut model = emulated(&classifier("bert", 2));
        let outcome = Trainer::new(&model, TrainConfig { warmup_ratio: 0.0, ..rates(0.2) }).step_micro_batches(&mut model, parts).unwrap();
        (outcome, model.flat().unwrap().to_vec())
    };
    let (whole, of_whole) = step(&[micro_batch(&all, &targets, &weights)]);
    let (parted, of_parted) =
        step(&[micro_batch(&first, &targets[..3], &weights[..1]), micro_batch(&second, &targets[3..], &weights[1..])]);
    assert!((whole.loss - parted.loss).abs() < 1e-6 && (whole.grad_norm - parted.grad_norm).abs() < 1e-5 * whole.grad_norm);
    let apart = of_whole.iter().zip(&of_parted).filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
    assert!(apart < of_whole.len() / 100, "{apart} of {} parameters", of_whole.len());
}

/// Clones are independent, and changes of the host's parameters reach the device.
#[test]
fn clones_and_offsets() {
    let mut model = emulated(&classifier("bert", 1));
    let (batch, targets, weights) = labelled(LENGTHS[2]);
    let mut trainer = Trainer::new(&model, TrainConfig { warmup_ratio: 0.0, ..rates(0.0) });
    trainer.step(&mut model, &batch, &targets, &weights).unwrap();
    let (kept, before) = (model.clone(), model.logits(&batch, 1).unwrap());
    trainer.step(&mut model, &batch, &targets, &weights).unwrap();
    assert_eq!(kept.logits(&batch, 1).unwrap(), before);
    assert_ne!(model.logits(&batch, 1).unwrap(), before);
    assert_ne!(kept.flat().unwrap(), model.flat().unwrap());

    let before = model.logits(&batch, 1).unwrap();
    model.add_offsets(&[1.0, 0.0, -1.0]);
    let mut forward = Default::default();
    let after = model.logits_with(&mut forward, &batch).unwrap();
    let offsets = [1.0, 0.0, -1.0].repeat(LENGTHS[2].len());
    assert!(after.iter().zip(&before).zip(&offsets).all(|((after, before), offset)| (after - before - offset).abs() < 1e-5));
    // Features are those of the trained encoder.
    let features = model.features(&batch, 1).unwrap();
    model.set_device(Device::Cpu).unwrap();
    assert_eq!(features, model.features(&batch, 1).unwrap());
}

/// A checkpoint brings the moments back from the device and there again.
#[test]
fn resumes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let (batch, targets, weights) = labelled(LENGTHS[2]);
    let mut whole = emulated(&classifier("bert", 2));
    let mut trainer = Trainer::new(&whole, rates(0.2));
    for step in 0..4 {
        if step == 2 {
            std::fs::write(&path, trainer.checkpoint(&whole).unwrap()).unwrap();
        }
        trainer.step(&mut whole, &batch, &targets, &weights).unwrap();
    }
    let mut model = emulated(&classifier("bert", 2));
    let mut trainer = Trainer::resume(&mut model, rates(0.2), &path).unwrap();
    assert_eq!(trainer.steps(), 2);
    for _ in 2..4 {
        trainer.step(&mut model, &batch, &targets, &weights).unwrap();
    }
    assert!(model.flat().unwrap() == whole.flat().unwrap(), "a resumed run ends with other bits");
}

#[test]
fn what_is_refused() {
    let mut model = classifier("bert", 2);
    let (batch, targets, weights) = labelled(LENGTHS[0]);
    let mut trainer = Trainer::new(&model, rates(0.0));
    model.set_device(Device::Emulated).unwrap();
    let error = trainer.step(&mut model, &batch, &targets, &weights).unwrap_err().to_string();
    assert!(error.contains("another device"), "{error}");

    let mut trainer = Trainer::new(&model, rates(0.0));
    let pair = Pair { first: 0, second: 1, similarity: 1.0 };
    let error = trainer.step_pairs(&mut model, &batch, &[pair]).unwrap_err();
    assert!(matches!(error, ModelError::Device(_)) && error.to_string().contains("on the CPU only"), "{error}");

    let error = model.set_device(Device::Cuda(97)).unwrap_err();
    assert!(matches!(error, ModelError::Device(_)) && error.to_string().contains("cuda:97 cannot be used"), "{error}");
    assert_eq!(model.device(), Device::Emulated);

    let mut small_heads = common::load(&common::golden("bert"));
    let error = small_heads.set_device(Device::Emulated).unwrap_err().to_string();
    assert!(error.contains("heads of 8") && error.contains("use the CPU"), "{error}");
}

/// Before a run, not in its middle: rows may be as long as the model takes them.
#[test]
fn models_of_long_rows_are_refused() {
    for (positions, fits) in [(512, true), (513, false)] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "bert", HIDDEN, positions, 2);
        let mut model = Classifier::load(folder.path(), &common::labels(&["a", "b", "c"]), 1).unwrap();
        match model.set_device(Device::Emulated) {
            Ok(()) => assert!(fits),
            Err(error) => assert!(!fits && error.to_string().contains("may have 513: use the CPU"), "{error}"),
        }
    }
}

/// Moments belong to the place where the trainer's model was.
#[test]
fn a_model_that_was_moved_has_no_checkpoint() {
    let mut model = emulated(&classifier("bert", 2));
    let (batch, targets, weights) = labelled(LENGTHS[2]);
    let mut trainer = Trainer::new(&model, rates(0.0));
    trainer.step(&mut model, &batch, &targets, &weights).unwrap();
    let there = trainer.checkpoint(&model).unwrap();
    model.set_device(Device::Cpu).unwrap();
    let error = trainer.checkpoint(&model).unwrap_err().to_string();
    assert!(error.contains("another device"), "{error}");
    model.set_device(Device::Emulated).unwrap();
    let back = trainer.checkpoint(&model).unwrap();
    let [there, back] = [&there, &back].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    assert!(there.tensors().iter().all(|(name, tensor)| back.tensor(name).unwrap().data() == tensor.data()));
}

/// A loss that is not finite is an error and leaves the model unchanged.
#[test]
fn a_diverged_loss_leaves_the_model_as_it_was() {
    let mut model = classifier("bert", 2);
    model.add_offsets(&[0.0, f32::NAN, 0.0]);
    let mut model = emulated(&model);
    let before = model.flat().unwrap().to_vec();
    let (batch, targets, weights) = labelled(LENGTHS[2]);
    let mut trainer = Trainer::new(&model, rates(0.0));
    let error = trainer.step(&mut model, &batch, &targets, &weights).unwrap_err();
    assert!(matches!(error, ModelError::NotFinite { step: 0, .. }), "{error}");
    model.set_device(Device::Cpu).unwrap();
    assert!(model.flat().unwrap().iter().zip(&before).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_eq!(trainer.steps(), 0);
}
