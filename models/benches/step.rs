//! One training step and one inference of a BERT of MiniLM-L6's shape (or that of the folder in LACUNA_BENCH_MODEL) on 16 rows of 128
//! tokens.

use divan::{Bencher, counter::ItemsCount};
use lacuna_models::{Classifier, Device, PackedBatch, TrainConfig, Trainer};
use safetensors::tensor::{Dtype, TensorView};
use std::path::{Path, PathBuf};

const ROWS: u32 = 16;
const TOKENS: u32 = 128;

fn main() {
    divan::main();
}

/// Name and shape of every tensor of MiniLM-L6's encoder.
fn tensors() -> Vec<(String, Vec<usize>)> {
    let (hidden, intermediate) = (384, 1536);
    let mut tensors: Vec<(String, Vec<usize>)> = [("word", 30_522), ("position", 512), ("token_type", 2)]
        .map(|(table, rows)| (format!("embeddings.{table}_embeddings.weight"), vec![rows, hidden]))
        .into();
    let mut affine = |name: String, shape: &[usize]| {
        tensors.push((format!("{name}.weight"), shape.to_vec()));
        tensors.push((format!("{name}.bias"), shape[..1].to_vec()));
    };
    affine("embeddings.LayerNorm".into(), &[hidden]);
    for i in 0..6 {
        let name = |part: &str| format!("encoder.layer.{i}.{part}");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            affine(name(part), &[hidden, hidden]);
        }
        affine(name("attention.output.LayerNorm"), &[hidden]);
        affine(name("intermediate.dense"), &[intermediate, hidden]);
        affine(name("output.dense"), &[hidden, intermediate]);
        affine(name("output.LayerNorm"), &[hidden]);
    }
    tensors
}

/// Writes a checkpoint of small numbers; the time of a step does not depend on them.
fn write_model(folder: &Path) {
    let data = |n: usize| (0..n as u32).flat_map(|i| ((i.wrapping_mul(2_654_435_761) >> 16) as f32 / 1e6 - 0.03).to_le_bytes()).collect();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> =
        tensors().into_iter().map(|(name, shape)| (name, shape.clone(), data(shape.iter().product()))).collect();
    let views = tensors.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    std::fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}

fn model() -> Classifier {
    let labels = ["negative".to_string(), "positive".to_string()];
    let load = |folder: &Path| Classifier::load(folder, &labels, 1).unwrap();
    if let Some(folder) = std::env::var_os("LACUNA_BENCH_MODEL") {
        return load(&PathBuf::from(folder));
    }
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    load(folder.path())
}

fn batch() -> PackedBatch {
    let tokens = ROWS * TOKENS;
    PackedBatch {
        input_ids: (0..tokens).map(|i| 1000 + i * 7919 % 20_000).collect(),
        token_type_ids: vec![0; tokens as usize],
        cu_seqlens: (0..=ROWS).map(|row| row * TOKENS).collect(),
    }
}

#[divan::bench(args = [1, 2], sample_count = 5, sample_size = 1)]
fn training_step(bencher: Bencher, threads: usize) {
    bench_step(bencher, Device::Cpu, threads);
}

/// What a GPU would be given, on all cores (RAYON_NUM_THREADS for fewer).
#[cfg(feature = "candle")]
#[divan::bench(sample_count = 5, sample_size = 1)]
fn training_step_of_candle(bencher: Bencher) {
    bench_step(bencher, Device::CandleCpu, 1);
}

fn bench_step(bencher: Bencher, device: Device, threads: usize) {
    let (mut model, batch) = (model(), batch());
    model.set_device(device).unwrap();
    let mut trainer = Trainer::new(&model, TrainConfig { threads, ..TrainConfig::default() });
    let targets = [0.1, 0.9].repeat(ROWS as usize);
    let mut step = || trainer.step(&mut model, &batch, &targets, &[1.0; ROWS as usize]).unwrap();
    step();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(step);
}

#[divan::bench(args = [1, 2], sample_count = 5, sample_size = 1)]
fn inference(bencher: Bencher, threads: usize) {
    let (model, batch) = (model(), batch());
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| model.logits(&batch, threads).unwrap());
}
