//! Training steps on an NVIDIA GPU in the shapes of MiniLM-L6, DistilBERT and BERT-base with random weights, in milliseconds; and a
//! comparison of the gradients with those of the CPU. The executable needs neither cargo nor files:
//!
//!     step_cuda [--check] [--profile] [--model NAME] [--precision f32|bf16] [--steps N] [--device cuda|emulated|cpu]

#[path = "../tests/common/shapes.rs"]
mod shapes;

use lacuna_models::{Classifier, Device, PackedBatch, Precision, TrainConfig, Trainer};
use safetensors::tensor::{Dtype, TensorView};
use shapes::tensors;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// A model's dimensions.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    bert: bool,
    layers: usize,
    hidden: usize,
}

const VOCABULARY: usize = 30_522;
const SHAPES: [Shape; 3] = [
    Shape { name: "minilm-l6", bert: true, layers: 6, hidden: 384 },
    Shape { name: "distilbert", bert: false, layers: 6, hidden: 768 },
    Shape { name: "bert-base", bert: true, layers: 12, hidden: 768 },
];

struct Options {
    check: bool,
    profile: bool,
    model: Option<String>,
    precision: Precision,
    steps: usize,
    device: Device,
}

impl Options {
    fn read() -> Self {
        let mut options =
            Options { check: false, profile: false, model: None, precision: Precision::Bf16, steps: 50, device: Device::Cuda(0) };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--check" => options.check = true,
                "--profile" => options.profile = true,
                "--model" => options.model = words.next(),
                "--precision" => options.precision = if words.next().as_deref() == Some("f32") { Precision::F32 } else { Precision::Bf16 },
                "--steps" => options.steps = words.next().and_then(|n| n.parse().ok()).expect("--steps N"),
                "--device" => options.device = device(&words.next().unwrap_or_default()),
                "--bench" => {}
                other => panic!("unknown option {other}"),
            }
        }
        options
    }
}

fn device(name: &str) -> Device {
    match name {
        "cuda" => Device::Cuda(0),
        "cpu" => Device::Cpu,
        #[cfg(feature = "emulated")]
        "emulated" => Device::Emulated,
        other => panic!("unknown device {other}"),
    }
}

/// Writes a checkpoint of random numbers in the sizes of a trained model's.
fn write(folder: &Path, shape: Shape) {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut data = |name: &str, n: usize| -> Vec<u8> {
        let centre = if name.contains("Norm.weight") || name.contains("norm.weight") { 1.0 } else { 0.0 };
        (0..n).flat_map(|_| (centre + 0.07 * random()).to_le_bytes()).collect()
    };
    let tensors: Vec<_> = tensors(shape.bert, shape.layers, shape.hidden, VOCABULARY, 512)
        .into_iter()
        .map(|(name, shape)| {
            let data = data(&name, shape.iter().product());
            (name, shape, data)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    std::fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}

fn model(shape: Shape) -> Classifier {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), shape);
    Classifier::load(folder.path(), &["negative".to_string(), "positive".to_string()], 1).unwrap()
}

/// Rows of these lengths, with ids as rare as a text's: the first ones often, most of them never.
fn batch(lengths: &[u32]) -> PackedBatch {
    let tokens: u32 = lengths.iter().sum();
    let mut cu_seqlens = vec![0];
    lengths.iter().for_each(|n| cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + n));
    let id = |i: u32| {
        let x = (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32;
        1000 + (x.powi(4) * 29_000.0) as u32
    };
    PackedBatch { input_ids: (0..tokens).map(id).collect(), token_type_ids: (0..tokens).map(|i| i % 2).collect(), cu_seqlens }
}

fn targets(rows: usize) -> (Vec<f32>, Vec<f32>) {
    ([0.1, 0.9].repeat(rows), vec![1.0; rows])
}

/// Rows between 10 and 200 tokens, as in RTE.
fn mixed(rows: u32) -> Vec<u32> {
    (0..rows).map(|i| 10 + i.wrapping_mul(2_654_435_761) % 191).collect()
}

fn main() {
    let options = Options::read();
    for shape in SHAPES.into_iter().filter(|shape| options.model.as_ref().is_none_or(|name| name == shape.name)) {
        if options.check {
            check(&options, shape);
            if options.model.is_none() {
                return;
            }
        } else {
            bench(&options, shape);
        }
    }
}

fn bench(options: &Options, shape: Shape) {
    let mut model = model(shape);
    model.set_device(options.device).unwrap();
    model.set_precision(options.precision);
    for (name, lengths) in [("16x128", vec![128; 16]), ("64x128", vec![128; 64]), ("16 x 10..200", mixed(16))] {
        let (batch, (targets, weights)) = (batch(&lengths), targets(lengths.len()));
        let config = TrainConfig { precision: options.precision, total_steps: 1_000_000, ..TrainConfig::default() };
        let mut trainer = Trainer::new(&model, config);
        let mut step = || trainer.step(&mut model, &batch, &targets, &weights).unwrap();
        for _ in 0..5 {
            step();
        }
        if options.profile {
            lacuna_cuda::profile::start();
            for _ in 0..options.steps {
                step();
            }
            print_profile(options.steps);
        }
        let mut times: Vec<f64> = (0..options.steps).map(|_| timed(&mut step)).collect();
        let outcome = step();
        let mut inference: Vec<f64> = (0..options.steps).map(|_| timed(|| model.logits(&batch, 1).unwrap())).collect();
        println!(
            "{{\"model\": \"{}\", \"precision\": \"{:?}\", \"batch\": \"{name}\", \"tokens\": {}, \"step_ms\": {:.3}, \
             \"fastest_ms\": {:.3}, \"logits_ms\": {:.3}, \"loss\": {:.4}}}",
            shape.name,
            options.precision,
            batch.tokens(),
            median(&mut times),
            times[0],
            median(&mut inference),
            outcome.loss,
        );
    }
}

fn timed<R>(work: impl FnOnce() -> R) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}

/// The median; leaves the numbers sorted.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Milliseconds a step of every kernel and kind of product, the longest first. The sum is longer than an unmeasured step.
fn print_profile(steps: usize) {
    let mut sums: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for (name, ms) in lacuna_cuda::profile::stop() {
        let sum = sums.entry(name).or_default();
        *sum = (sum.0 + 1, sum.1 + ms);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (name, (calls, ms)) in sums {
        println!("    {:>8.4} ms in {:>4} calls: {name}", ms / steps as f64, calls / steps);
    }
}

/// Compares the gradients in f32 and bf16 with the CPU's in f32, group by group.
fn check(options: &Options, shape: Shape) {
    let here = {
        let mut model = model(shape);
        model.set_precision(Precision::F32);
        model
    };
    let mut there = here.clone();
    there.set_device(options.device).unwrap();
    for lengths in [vec![128; 16], vec![512, 1, 130, 64, 65, 200, 7, 33]] {
        let (batch, (targets, weights)) = (batch(&lengths), targets(lengths.len()));
        let config = TrainConfig { precision: Precision::F32, threads: 8, ..TrainConfig::default() };
        let mut trainer = Trainer::new(&here, config.clone());
        let (loss, expected) = trainer.gradients(&here, &batch, &targets, &weights).unwrap();
        for precision in [Precision::F32, Precision::Bf16] {
            let mut trainer = Trainer::new(&there, TrainConfig { precision, ..config.clone() });
            let (found_loss, found) = trainer.gradients(&there, &batch, &targets, &weights).unwrap();
            println!("{} {precision:?} {} tokens: loss {found_loss}, on the CPU {loss}", shape.name, batch.tokens());
            compare(&here, found, expected);
        }
    }
}

/// Prints the distance of the gradients of each kind of tensor, relative to their length.
fn compare(model: &Classifier, found: &[f32], expected: &[f32]) {
    let mut groups: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    for (name, range, _) in model.parameters() {
        let kind: String = name.split('.').filter(|part| part.parse::<usize>().is_err()).collect::<Vec<_>>().join(".");
        let group = groups.entry(kind).or_default();
        for (&a, &b) in found[range.clone()].iter().zip(&expected[range]) {
            group[0] += f64::from(a - b).powi(2);
            group[1] += f64::from(b).powi(2);
        }
    }
    let total: [f64; 2] = groups.values().fold([0.0; 2], |sum, group| [sum[0] + group[0], sum[1] + group[1]]);
    for (kind, [apart, length]) in groups.into_iter().chain([("all".to_string(), total)]) {
        println!("    {:.2e} of {:.2e}  {kind}", (apart / length).sqrt(), length.sqrt());
    }
}
