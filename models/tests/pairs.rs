//! Contrastive training on pairs: PyTorch's values (see golden/make_pairs.py), finite differences, threads, the head, invalid input.

mod common;

use common::{Golden, batch, copy, distance, golden, load};
use lacuna_models::{Classifier, ModelError, Network, Pair, Precision, SpanExtractor, TrainConfig, Trainer};
use safetensors::SafeTensors;

const LENGTHS: [u32; 6] = [5, 1, 9, 3, 12, 2];

/// A row in several pairs, one in none (3), one with itself.
const PAIRS: [Pair; 5] = [pair(0, 5, 1.0), pair(4, 1, 0.0), pair(0, 2, 0.3), pair(2, 1, -1.0), pair(4, 4, 0.5)];

const fn pair(first: usize, second: usize, similarity: f32) -> Pair {
    Pair { first, second, similarity }
}

fn config(threads: usize, dropout: f32) -> TrainConfig {
    TrainConfig {
        lr: 1e-2,
        weight_decay: 0.1,
        warmup_ratio: 0.2,
        max_grad_norm: Some(0.5),
        hidden_dropout: dropout,
        attention_dropout: dropout,
        classifier_dropout: dropout,
        total_steps: 5,
        threads,
        precision: Precision::F32,
        seed: 5,
        ..TrainConfig::default()
    }
}

fn is_head(name: &str) -> bool {
    ["pooler", "pre_classifier", "classifier", "qa_outputs"].iter().any(|part| name.contains(part))
}

fn gradients(model: &Network, config: TrainConfig) -> (f32, Vec<f32>) {
    let mut trainer = Trainer::new(model, config);
    let (loss, gradients) = trainer.pair_gradients(model, &batch(&LENGTHS), &PAIRS).unwrap();
    (loss, gradients.to_vec())
}

fn golden_pairs(golden: &Golden) -> Vec<Pair> {
    let (rows, similarities) = (golden.integers("pairs"), golden.floats("similarities"));
    rows.chunks(2).zip(similarities).map(|(rows, similarity)| pair(rows[0] as usize, rows[1] as usize, similarity)).collect()
}

/// Loss and gradients, whatever pairs lie in different shards.
#[test]
fn gradients_are_those_of_pytorch() {
    for architecture in ["bert", "distilbert"] {
        let (inputs, golden) = (Golden::open(architecture), Golden::file(architecture, "pairs.safetensors"));
        let (model, pairs) = (inputs.model(), golden_pairs(&golden));
        for threads in [1, 2, 3, 9] {
            let mut trainer = Trainer::new(&model, config(threads, 0.0));
            let (loss, gradients) = trainer.pair_gradients(&model, &inputs.batch(), &pairs).unwrap();
            let expected = golden.floats("loss")[0];
            assert!((loss - expected).abs() < 1e-5 * expected, "loss {loss}, expected {expected}");
            let mut compared = 0;
            for (name, range, _) in model.parameters() {
                let found = &gradients[range];
                assert_eq!(is_head(&name), found.iter().all(|&g| g == 0.0), "{name}");
                if golden.has(&format!("gradient.{name}")) {
                    let difference = distance(found, &golden.floats(&format!("gradient.{name}")));
                    assert!(difference < 1e-4, "{name}: {difference} with {threads} threads");
                    compared += 1;
                }
            }
            assert!(compared > 10);
        }
    }
}

#[test]
fn steps_are_those_of_pytorch() {
    for architecture in ["bert", "distilbert"] {
        let (inputs, golden) = (Golden::open(architecture), Golden::file(architecture, "pairs.safetensors"));
        let (mut model, pairs) = (inputs.model(), golden_pairs(&golden));
        let mut trainer = Trainer::new(&model, config(2, 0.0));
        let (losses, norms) = (golden.floats("step.losses"), golden.floats("step.norms"));
        for step in 0..3 {
            let outcome = trainer.step_pairs(&mut model, &inputs.batch(), &pairs).unwrap();
            assert!((outcome.loss - losses[step]).abs() < 1e-4 * losses[step], "{outcome:?}, expected {losses:?}");
            assert!((outcome.grad_norm - norms[step]).abs() < 1e-4 * norms[step], "{outcome:?}, expected {norms:?}");
        }
        let expected = golden.floats("after");
        assert!(distance(&model.flat().unwrap()[..expected.len()], &expected) < 1e-3);
    }
}

/// Central differences of the loss along the gradient of a tensor, with the masks held fixed (same seed, same step).
#[test]
fn gradients_through_dropout() {
    for architecture in ["bert", "distilbert"] {
        let folder = copy(architecture);
        let model = load(folder.path());
        let (_, exact) = gradients(&model, config(2, 0.2));
        for (wanted, range, _) in model.parameters().filter(|(name, _, shape)| shape.len() == 2 && !is_head(name)) {
            let squared: f32 = exact[range].iter().map(|g| g * g).sum();
            let step = 2e-3 / squared.sqrt();
            let loss = |sign: f32| {
                let moved = tempfile::tempdir().unwrap();
                common::copy_moved(folder.path(), moved.path(), &wanted, &exact, sign * step);
                gradients(&load(moved.path()), config(2, 0.2)).0
            };
            let measured = (loss(1.0) - loss(-1.0)) / (2.0 * step);
            assert!((measured - squared).abs() < 0.03 * squared, "{wanted}: {measured}, expected {squared}");
        }
    }
}

#[test]
fn threads_change_nothing() {
    for architecture in ["bert", "distilbert"] {
        let model = load(&golden(architecture));
        let (loss, one) = gradients(&model, config(1, 0.1));
        for threads in [2, 4, 20] {
            let (other_loss, many) = gradients(&model, config(threads, 0.1));
            assert!((loss - other_loss).abs() < 1e-6);
            assert!(distance(&many, &one) < 1e-5, "{threads} threads");
        }
    }
}

/// A trainer may go from labels to pairs and back: nothing of another kind of step is left in its buffers.
#[test]
fn kinds_of_steps_do_not_mix() {
    let model = load(&golden("bert"));
    let (batch, targets, weights) = (batch(&LENGTHS), [0.2, 0.3, 0.5].repeat(6), [1.0; 6]);
    let mut trainer = Trainer::new(&model, config(2, 0.1));
    let labels = trainer.gradients(&model, &batch, &targets, &weights).unwrap().1.to_vec();
    assert_eq!(trainer.pair_gradients(&model, &batch, &PAIRS).unwrap().1, gradients(&model, config(2, 0.1)).1);
    assert_eq!(trainer.gradients(&model, &batch, &targets, &weights).unwrap().1, labels);
}

/// First and second moment of all parameters.
fn moments(trainer: &Trainer, model: &Network) -> [Vec<u8>; 2] {
    let bytes = trainer.checkpoint(model).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    ["exp_avg", "exp_avg_sq"].map(|name| file.tensor(name).unwrap().data().to_vec())
}

/// Neither weight decay nor the moments of steps before move the head; every tensor of the encoder moves.
#[track_caller]
fn head_stays(trainer: &mut Trainer, model: &mut Network) {
    let (before, moments_before) = (model.flat().unwrap().to_vec(), moments(trainer, model));
    for _ in 0..2 {
        trainer.step_pairs(model, &batch(&LENGTHS), &PAIRS).unwrap();
    }
    let moments_after = moments(trainer, model);
    for (name, range, _) in model.parameters() {
        assert_eq!(is_head(&name), model.flat().unwrap()[range.clone()] == before[range.clone()], "{name}");
        let bytes = 4 * range.start..4 * range.end;
        let same = |moment: usize| moments_before[moment][bytes.clone()] == moments_after[moment][bytes.clone()];
        assert_eq!([is_head(&name); 2], [same(0), same(1)], "{name}");
    }
}

#[test]
fn the_head_stays_as_it_is() {
    for architecture in ["bert", "distilbert"] {
        let mut model = load(&golden(architecture));
        let mut trainer = Trainer::new(&model, config(2, 0.1));
        for _ in 0..2 {
            trainer.step(&mut model, &batch(&LENGTHS), &[0.2, 0.3, 0.5].repeat(6), &[1.0; 6]).unwrap();
        }
        head_stays(&mut trainer, &mut model);
        let mut model = SpanExtractor::load(&golden(&format!("{architecture}_span")), 1).unwrap();
        let mut trainer = Trainer::new(&model, TrainConfig { warmup_ratio: 0.0, ..config(2, 0.1) });
        head_stays(&mut trainer, &mut model);
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Features of rows of one class become alike, those of two classes perpendicular; in 16 bits too.
#[test]
fn learns_what_is_alike() {
    for (architecture, precision) in [("bert", Precision::F32), ("distilbert", Precision::Int16)] {
        let mut model = load(&golden(architecture));
        let pairs: Vec<Pair> = (0..6).flat_map(|i| (0..i).map(move |j| pair(i, j, if i % 2 == j % 2 { 1.0 } else { 0.0 }))).collect();
        let config = TrainConfig { lr: 3e-3, total_steps: 100, threads: 2, precision, ..TrainConfig::default() };
        let mut trainer = Trainer::new(&model, config);
        let losses: Vec<f32> = (0..100).map(|_| trainer.step_pairs(&mut model, &batch(&LENGTHS), &pairs).unwrap().loss).collect();
        assert!(losses[99] < losses[0] / 5.0, "from {} to {}", losses[0], losses[99]);
        let features = model.features(&batch(&LENGTHS), 1).unwrap();
        for Pair { first, second, similarity } in pairs {
            let found = cosine(&features[first * 32..][..32], &features[second * 32..][..32]);
            assert!((found - similarity).abs() < 0.3, "rows {first} and {second}: {found}, not {similarity}");
        }
    }
}

#[test]
fn invalid_pairs_are_refused() {
    let mut model = load(&golden("bert"));
    let before = model.flat().unwrap().to_vec();
    let mut trainer = Trainer::new(&model, config(1, 0.0));
    let mut refused = |model: &mut Classifier, lengths: &[u32], pairs: &[Pair], words: &str| {
        let error = trainer.step_pairs(model, &batch(lengths), pairs).unwrap_err();
        assert!(matches!(error, ModelError::Batch(_)) && error.to_string().contains(words), "{error}");
        assert_eq!(trainer.steps(), 0);
    };
    refused(&mut model, &LENGTHS, &[], "no pairs");
    refused(&mut model, &LENGTHS, &[PAIRS[0], pair(6, 0, 1.0)], "pair 1 is of rows 6 and 0, but there are 6 rows");
    refused(&mut model, &LENGTHS, &[pair(0, 7, 1.0)], "pair 0 is of rows 0 and 7");
    for similarity in [f32::NAN, f32::INFINITY, 1.5, -1.01] {
        refused(&mut model, &LENGTHS, &[pair(0, 1, similarity)], "similarity of pair 0");
    }
    refused(&mut model, &[3, 0], &[pair(0, 1, 1.0)], "row 1 has no tokens");
    let mut other = load(&golden("distilbert"));
    let error = trainer.step_pairs(&mut other, &batch(&LENGTHS), &PAIRS).unwrap_err();
    assert!(matches!(error, ModelError::Train(_)), "{error}");
    assert_eq!(model.flat().unwrap(), before);
}

#[test]
fn a_diverged_loss_leaves_the_model_unchanged() {
    let folder = copy("bert");
    common::rewrite(folder.path(), |name, shape, mut data| {
        if name == "bert.embeddings.LayerNorm.bias" {
            data[1] = f32::NAN;
        }
        Some((name.into(), shape.to_vec(), data))
    });
    let mut model = load(folder.path());
    let before = model.clone();
    let error = Trainer::new(&model, config(1, 0.0)).step_pairs(&mut model, &batch(&LENGTHS), &PAIRS).unwrap_err();
    assert!(matches!(error, ModelError::NotFinite { step: 0, .. }), "{error}");
    assert!(model.flat().unwrap().iter().zip(before.flat().unwrap()).all(|(a, b)| a.to_bits() == b.to_bits()));
}
