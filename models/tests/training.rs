//! Training: the effect of threads, seeds and steps, and invalid input.

mod common;

use common::{batch, copy, golden, load};
use lacuna_models::{
    Classifier, MicroBatch, ModelError, PackedBatch, Precision, Span, SpanExtractor, Targets, TextEncoder, TrainConfig, Trainer,
};
use proptest::prelude::*;
use rayon::prelude::*;

const LENGTHS: [u32; 6] = [5, 1, 9, 3, 12, 2];

fn targets(rows: usize) -> Vec<f32> {
    (0..rows).flat_map(|i| (0..3).map(move |l| if i % 3 == l { 0.8 } else { 0.1 })).collect()
}

fn gradients(model: &Classifier, config: TrainConfig) -> (f32, Vec<f32>) {
    let mut trainer = Trainer::new(model, config);
    let (loss, gradients) = trainer.gradients(model, &batch(&LENGTHS), &targets(6), &[1.0; 6]).unwrap();
    (loss, gradients.to_vec())
}

/// Dropout on, two threads and more: the same masks and so the same gradients as one thread.
#[test]
fn threads_change_nothing() {
    for architecture in ["bert", "distilbert"] {
        let model = load(&golden(architecture));
        let config = |threads| TrainConfig { threads, seed: 3, precision: Precision::F32, ..TrainConfig::default() };
        let (loss, one) = gradients(&model, config(1));
        for threads in [2, 4, 20] {
            let (other_loss, many) = gradients(&model, config(threads));
            assert!((loss - other_loss).abs() < 1e-6);
            let largest = one.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            assert!(one.iter().zip(&many).all(|(a, b)| (a - b).abs() < 1e-5 * largest), "{threads} threads");
        }
    }
}

/// Whatever the precision: the same seed and number of threads give the same bits after some steps.
#[test]
fn training_repeats() {
    for precision in [Precision::F32, Precision::Bf16, Precision::Int16] {
        let trained = |threads| {
            let mut model = load(&golden("bert"));
            let config = TrainConfig { threads, precision, seed: 9, lr: 1e-2, ..TrainConfig::default() };
            let mut trainer = Trainer::new(&model, config);
            for _ in 0..4 {
                trainer.step(&mut model, &batch(&LENGTHS), &targets(6), &[1.0; 6]).unwrap();
            }
            model.flat().unwrap().to_vec()
        };
        assert_eq!(trained(1), trained(1));
        assert_eq!(trained(3), trained(3));
    }
}

/// Stopped after any number of steps and resumed from its checkpoint, training ends with the same bits.
#[test]
fn resumes_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let config = TrainConfig { threads: 2, lr: 1e-2, total_steps: 6, ..TrainConfig::default() };
    let batches = [batch(&LENGTHS), batch(&[2, 7, 4, 4, 1, 11])];
    let run = |model: &mut Classifier, trainer: &mut Trainer, steps: std::ops::Range<usize>| {
        for step in steps {
            trainer.step(model, &batches[step % 2], &targets(6), &[1.0; 6]).unwrap();
        }
    };
    let mut whole = load(&golden("bert"));
    let mut trainer = Trainer::new(&whole, config.clone());
    run(&mut whole, &mut trainer, 0..6);
    for stop in [0, 1, 4] {
        let mut model = load(&golden("bert"));
        let mut trainer = Trainer::new(&model, config.clone());
        run(&mut model, &mut trainer, 0..stop);
        std::fs::write(&path, trainer.checkpoint(&model).unwrap()).unwrap();
        let mut model = load(&golden("bert"));
        let mut trainer = Trainer::resume(&mut model, config.clone(), &path).unwrap();
        assert_eq!(trainer.steps(), stop);
        run(&mut model, &mut trainer, stop..6);
        assert!(
            model.flat().unwrap().iter().zip(whole.flat().unwrap()).all(|(a, b)| a.to_bits() == b.to_bits()),
            "stopped after {stop} steps"
        );
    }
    let mut model = load(&golden("bert"));
    let other = TrainConfig { lr: 2e-2, ..config.clone() };
    let error = Trainer::resume(&mut model, other, &path).err().unwrap().to_string();
    assert!(error.contains("another model or training configuration"), "{error}");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = Trainer::resume(&mut model, config, &path).err().unwrap().to_string();
    assert!(error.contains("not a whole training checkpoint"), "{error}");
}

fn micro_batch<'a>(batch: &'a PackedBatch, probabilities: &'a [f32], weights: &'a [f32]) -> MicroBatch<'a> {
    MicroBatch { batch, targets: Targets::Labels { probabilities, weights } }
}

/// A batch in parts is the batch: the same dropout masks, the same loss and gradients, whatever its threads.
#[test]
fn parts_are_the_batch() {
    let model = load(&golden("bert"));
    let (all, targets, weights) = (batch(&LENGTHS), targets(6), [1.0, 2.0, 0.5, 0.0, 1.0, 3.0]);
    let part = |rows: std::ops::Range<usize>| {
        let tokens = all.cu_seqlens[rows.start] as usize..all.cu_seqlens[rows.end] as usize;
        PackedBatch {
            input_ids: all.input_ids[tokens.clone()].to_vec(),
            token_type_ids: all.token_type_ids[tokens.clone()].to_vec(),
            cu_seqlens: all.cu_seqlens[rows.start..=rows.end].iter().map(|&end| end - tokens.start as u32).collect(),
        }
    };
    for threads in [1, 3] {
        let config = TrainConfig { threads, lr: 1e-3, precision: Precision::F32, ..TrainConfig::default() };
        let step = |parts: &[MicroBatch]| {
            let mut model = model.clone();
            let outcome = Trainer::new(&model, config.clone()).step_micro_batches(&mut model, parts).unwrap();
            (outcome.loss, outcome.grad_norm)
        };
        let whole = step(&[micro_batch(&all, &targets, &weights)]);
        let pieces = [part(0..2), part(2..3), part(3..6)];
        let rows = [0..2, 2..3, 3..6];
        let parts: Vec<MicroBatch> =
            pieces.iter().zip(rows).map(|(batch, r)| micro_batch(batch, &targets[r.start * 3..r.end * 3], &weights[r])).collect();
        let parted = step(&parts);
        assert!((whole.0 - parted.0).abs() < 1e-6 && (whole.1 - parted.1).abs() < 1e-5 * whole.1, "{whole:?} {parted:?}");
    }
    let mut model = model.clone();
    let error = Trainer::new(&model, TrainConfig::default()).step_micro_batches(&mut model, &[]).unwrap_err();
    assert!(error.to_string().contains("no parts"), "{error}");
}

/// Inference uses the weights of the last step, not earlier ones.
#[test]
fn a_step_renews_the_rounded_weights() {
    let mut model = load(&golden("bert"));
    model.set_precision(Precision::Int16);
    let before = model.logits(&batch(&[4]), 1).unwrap();
    let mut trainer = Trainer::new(&model, TrainConfig { lr: 0.1, warmup_ratio: 0.0, ..TrainConfig::default() });
    trainer.step(&mut model, &batch(&LENGTHS), &targets(6), &[1.0; 6]).unwrap();
    let after = model.logits(&batch(&[4]), 1).unwrap();
    model.set_precision(Precision::F32);
    let exact = model.logits(&batch(&[4]), 1).unwrap();
    let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far(&after, &exact) < 0.01 * far(&before, &exact));
}

/// A worker that waits for its jobs runs other jobs of the pool, which may need the weights that it is rounding. This is rare, so it is
/// tried many times.
#[test]
fn many_jobs_share_a_model() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
    let mut model = load(&golden("bert"));
    model.set_precision(Precision::Int16);
    let expected = model.clone().logits(&batch(&LENGTHS), 3).unwrap();
    for _ in 0..4000 {
        let fresh = model.clone();
        let logits: Vec<_> = pool.install(|| (0..5).into_par_iter().map(|_| fresh.logits(&batch(&LENGTHS), 3).unwrap()).collect());
        assert!(logits.iter().all(|logits| *logits == expected));
    }
}

#[test]
fn dropout_follows_the_seed() {
    let model = load(&golden("bert"));
    let at = |seed, rate| {
        let config =
            TrainConfig { seed, hidden_dropout: rate, attention_dropout: rate, classifier_dropout: rate, ..TrainConfig::default() };
        gradients(&model, config)
    };
    assert_eq!(at(1, 0.3), at(1, 0.3));
    assert_ne!(at(1, 0.3).0, at(2, 0.3).0);
    assert_eq!(at(1, 0.0), at(2, 0.0));
}

/// With the masks held fixed (same seed, same step), the gradients are those of the loss: central differences along each parameter.
#[test]
fn gradients_through_dropout() {
    for architecture in ["bert", "distilbert"] {
        let folder = copy(architecture);
        let config = TrainConfig {
            hidden_dropout: 0.2,
            attention_dropout: 0.3,
            classifier_dropout: 0.4,
            seed: 5,
            precision: Precision::F32,
            ..TrainConfig::default()
        };
        let model = load(folder.path());
        let (_, exact) = gradients(&model, config.clone());
        for (wanted, range, _) in model.parameters().filter(|(_, _, shape)| shape.len() == 2) {
            // Along the gradient of this tensor, the loss changes by the gradient's squared norm.
            let squared: f32 = exact[range].iter().map(|g| g * g).sum();
            let step = 2e-3 / squared.sqrt();
            let loss = |sign: f32| {
                let moved = tempfile::tempdir().unwrap();
                common::copy_moved(folder.path(), moved.path(), &wanted, &exact, sign * step);
                gradients(&load(moved.path()), config.clone()).0
            };
            let measured = (loss(1.0) - loss(-1.0)) / (2.0 * step);
            assert!((measured - squared).abs() < 0.03 * squared, "{wanted}: {measured}, expected {squared}");
        }
    }
}

#[test]
fn overfits_a_few_texts() {
    for (architecture, threads) in [("bert", 1), ("distilbert", 2)] {
        let folder = copy(architecture);
        let encoder = TextEncoder::load(folder.path()).unwrap();
        let mut model = load(folder.path());
        let texts = ["good film", "bad film", "a film", "good good", "bad ab", "word20 a word21"];
        let rows: Vec<_> = texts.iter().map(|text| encoder.encode(text, None, 12).unwrap()).collect();
        let batch = PackedBatch::from_rows(&rows.iter().collect::<Vec<_>>());
        let hard: Vec<f32> = [0, 1, 2, 0, 1, 2].iter().flat_map(|&y| (0..3).map(move |l| (l == y) as u8 as f32)).collect();
        let config = TrainConfig { lr: 3e-3, total_steps: 120, threads, ..TrainConfig::default() };
        let mut trainer = Trainer::new(&model, config);
        let first = trainer.step(&mut model, &batch, &hard, &[1.0; 6]).unwrap();
        assert_eq!(first.lr, 0.0);
        let mut last = first;
        for _ in 1..120 {
            last = trainer.step(&mut model, &batch, &hard, &[1.0; 6]).unwrap();
        }
        assert!(last.loss < first.loss / 5.0, "from {first:?} to {last:?}");
        let logits = model.logits(&batch, threads).unwrap();
        for (row, logits) in logits.chunks(3).enumerate() {
            let best = (0..3).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            assert_eq!(best, row % 3, "{}", texts[row]);
        }
        assert_eq!(trainer.steps(), 120);
        assert_eq!(trainer.step(&mut model, &batch, &hard, &[1.0; 6]).unwrap().lr, 0.0);
    }
}

#[test]
fn a_row_of_weight_zero_does_not_count() {
    let model = load(&golden("bert"));
    let precision = Precision::F32;
    let config = TrainConfig { hidden_dropout: 0.0, attention_dropout: 0.0, classifier_dropout: 0.0, precision, ..TrainConfig::default() };
    let mut trainer = Trainer::new(&model, config);
    let (both, gradients) = trainer.gradients(&model, &batch(&[4, 6]), &targets(2), &[1.0, 0.0]).unwrap();
    let gradients = gradients.to_vec();
    let (alone, expected) = trainer.gradients(&model, &batch(&[4]), &targets(1), &[0.5]).unwrap();
    assert!((both - alone).abs() < 1e-6);
    assert!(gradients.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5));
}

/// From texts to answers: an extractor learns to find a word of the context, and gives the same answers after saving and loading.
#[test]
fn an_extractor_learns_to_find_words() {
    for architecture in ["bert", "distilbert"] {
        let folder = copy(architecture);
        let encoder = TextEncoder::load(folder.path()).unwrap();
        let mut model = SpanExtractor::load(folder.path(), 3).unwrap();
        let rows: Vec<_> = [("a film", 2..6), ("a bad film", 2..5), ("good a a", 0..4), ("a a a bad", 6..9)]
            .map(|(context, answer)| (encoder.encode_question("good", context, 12, 0).unwrap().remove(0), answer, context))
            .into();
        let batch = PackedBatch::from_rows(&rows.iter().map(|(row, ..)| &row.encoded).collect::<Vec<_>>());
        let spans: Vec<Span> = rows.iter().map(|(row, answer, _)| row.span_of(answer.clone())).collect();
        let mut trainer = Trainer::new(&model, TrainConfig { lr: 3e-3, total_steps: 150, ..TrainConfig::default() });
        let losses: Vec<f32> = (0..150).map(|_| trainer.step_spans(&mut model, &batch, &spans).unwrap().loss).collect();
        assert!(losses[149] < losses[0] / 5.0, "from {} to {}", losses[0], losses[149]);
        let candidates: Vec<_> = rows.iter().map(|(row, ..)| row.context.clone()).collect();
        let answers = model.answers(&batch, &candidates, 4, 1).unwrap();
        for ((row, answer, context), found) in rows.iter().zip(&answers) {
            assert_eq!(row.bytes_of(found.unwrap()), Some(answer.clone()), "{context}");
        }
        let saved = folder.path().join("saved");
        model.save(&saved, &encoder).unwrap();
        let again = SpanExtractor::load(&saved, 9).unwrap();
        assert_eq!(again.logits(&batch, 1).unwrap(), model.logits(&batch, 1).unwrap());
    }
}

#[test]
fn invalid_input_is_refused() {
    let mut model = load(&golden("bert"));
    let mut trainer = Trainer::new(&model, TrainConfig::default());
    let good = batch(&[3, 4]);
    let broken = |change: fn(&mut PackedBatch)| {
        let mut batch = good.clone();
        change(&mut batch);
        batch
    };
    for (broken, words) in [
        (PackedBatch::default(), "no rows"),
        (PackedBatch { cu_seqlens: vec![0], ..PackedBatch::default() }, "no rows"),
        (batch(&[3, 0, 2]), "row 1 has no tokens"),
        (batch(&[2, 13]), "row 1 has 13 tokens; the model takes at most 12"),
        (broken(|b| b.input_ids[2] = 40), "token id 40"),
        (broken(|b| b.token_type_ids[6] = 2), "token type 2"),
        (broken(|b| b.token_type_ids.truncate(6)), "7 input_ids, but 6 token_type_ids"),
        (broken(|b| b.cu_seqlens = vec![0, 3, 8]), "cu_seqlens"),
        (broken(|b| b.cu_seqlens = vec![1, 3, 7]), "cu_seqlens"),
        (broken(|b| b.cu_seqlens = vec![0, 5, 4, 7]), "row 1 has no tokens"),
    ] {
        let rows = broken.rows();
        for error in
            [model.logits(&broken, 2).unwrap_err(), trainer.step(&mut model, &broken, &targets(rows), &vec![1.0; rows]).unwrap_err()]
        {
            assert!(matches!(error, ModelError::Batch(_)) && error.to_string().contains(words), "{error}");
        }
    }
    let mut step = |targets: &[f32], weights: &[f32]| trainer.step(&mut model, &good, targets, weights).unwrap_err().to_string();
    assert!(step(&targets(3), &[1.0; 2]).contains("9 targets and 2 weights"));
    assert!(step(&[0.5; 6], &[1.0; 2]).contains("targets of row 0"));
    assert!(step(&[1.0, 0.0, 0.0, f32::NAN, 0.0, 1.0], &[1.0; 2]).contains("targets of row 1"));
    assert!(step(&targets(2), &[1.0, -1.0]).contains("weight of row 1"));
}

#[test]
fn configurations_out_of_range_are_refused() {
    let mut model = load(&golden("bert"));
    for config in [
        TrainConfig { lr: f32::NAN, ..TrainConfig::default() },
        TrainConfig { hidden_dropout: 1.0, ..TrainConfig::default() },
        TrainConfig { beta2: 1.0, ..TrainConfig::default() },
        TrainConfig { max_grad_norm: Some(0.0), ..TrainConfig::default() },
    ] {
        let error = Trainer::new(&model, config).step(&mut model, &batch(&[3]), &targets(1), &[1.0]).unwrap_err();
        assert!(matches!(error, ModelError::Train(_)), "{error}");
    }
    let mut trainer = Trainer::new(&load(&golden("distilbert")), TrainConfig::default());
    let error = trainer.step(&mut model, &batch(&[3]), &targets(1), &[1.0]).unwrap_err();
    assert!(error.to_string().contains("another shape"), "{error}");
}

#[test]
fn a_diverged_loss_leaves_the_model_unchanged() {
    let folder = copy("bert");
    common::rewrite(folder.path(), |name, shape, mut data| {
        if name == "classifier.bias" {
            data[1] = f32::NAN;
        }
        Some((name.into(), shape.to_vec(), data))
    });
    let mut model = load(folder.path());
    let before = model.clone();
    let mut trainer = Trainer::new(&model, TrainConfig::default());
    let error = trainer.step(&mut model, &batch(&[3]), &targets(1), &[1.0]).unwrap_err();
    assert!(matches!(error, ModelError::NotFinite { step: 0, .. }), "{error}");
    assert!(model.flat().unwrap().iter().zip(before.flat().unwrap()).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_eq!(trainer.steps(), 0);
}

#[test]
fn schedule() {
    let config = TrainConfig { lr: 1.0, warmup_ratio: 0.1, total_steps: 20, ..TrainConfig::default() };
    let expected = [(0, 0.0), (1, 0.5), (2, 1.0), (11, 0.5), (20, 0.0), (50, 0.0)];
    expected.iter().for_each(|&(step, lr)| assert!((config.lr_at(step) - lr).abs() < 1e-6, "step {step}: {}", config.lr_at(step)));
    assert_eq!(TrainConfig { warmup_ratio: 0.0, total_steps: 1, lr: 2.0, ..config }.lr_at(0), 2.0);
}

proptest! {
    /// Rows are independent: packed with others, on any number of threads, each has the same logits as alone.
    #[test]
    fn rows_do_not_see_each_other(lengths in prop::collection::vec(1u32..13, 1..9), threads in 1usize..6) {
        let model = load(&golden("bert"));
        let packed = batch(&lengths);
        let logits = model.logits(&packed, threads).unwrap();
        for (row, ends) in packed.cu_seqlens.windows(2).enumerate() {
            let ids = packed.input_ids[ends[0] as usize..ends[1] as usize].to_vec();
            let alone = PackedBatch { token_type_ids: vec![0; ids.len()], cu_seqlens: vec![0, ids.len() as u32], input_ids: ids };
            let expected = model.logits(&alone, 1).unwrap();
            for (a, b) in logits[row * 3..][..3].iter().zip(&expected) {
                prop_assert!((a - b).abs() < 1e-5 * b.abs().max(1.0));
            }
        }
    }
}
