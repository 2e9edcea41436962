//! Training steps and forward passes on demand, for `scripts/bench_torch.py`, which runs PyTorch beside it.
//!
//! Arguments: a model folder, a precision (auto, f32, bf16, int16), a number of threads, a JSON file of batches
//! (`[{"input_ids": [[…]], "token_type_ids": [[…]], "labels": […]}]`) and, if it is about learning, the learning rate, the number of
//! steps and the seed of the dropout. Reads commands from standard input, answers each with a line of JSON: `train N` and `infer N` do
//! batch N and answer with seconds, `logits N` gives the logits, `memory` the process's peak resident memory in bytes.

use lacuna_models::{Classifier, Encoded, PackedBatch, Precision, TrainConfig, Trainer};
use serde::Deserialize;
use std::error::Error;
use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

#[derive(Deserialize)]
struct Rows {
    input_ids: Vec<Vec<u32>>,
    token_type_ids: Vec<Vec<u32>>,
    labels: Vec<usize>,
}

/// A batch and its one-hot targets.
struct Batch {
    packed: PackedBatch,
    targets: Vec<f32>,
    weights: Vec<f32>,
}

const LABELS: usize = 2;

impl From<Rows> for Batch {
    fn from(rows: Rows) -> Self {
        let encoded = rows.input_ids.into_iter().zip(rows.token_type_ids);
        let encoded: Vec<Encoded> = encoded.map(|(input_ids, token_type_ids)| Encoded { input_ids, token_type_ids }).collect();
        let targets = rows.labels.iter().flat_map(|&label| (0..LABELS).map(move |l| f32::from(u8::from(l == label)))).collect();
        let weights = vec![1.0; rows.labels.len()];
        Batch { packed: PackedBatch::from_rows(&encoded.iter().collect::<Vec<_>>()), targets, weights }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let [folder, precision, threads, batches, learning @ ..] = &arguments[..] else {
        eprintln!("step_server FOLDER PRECISION THREADS BATCHES [LR STEPS SEED]; started by scripts/bench_torch.py");
        return Ok(());
    };
    let (lr, total_steps, seed) = match learning {
        [lr, steps, seed] => (lr.parse()?, steps.parse()?, seed.parse()?),
        _ => (1e-5, usize::MAX >> 1, 0),
    };
    let precision = match precision.as_str() {
        "auto" => Precision::Auto,
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        "int16" => Precision::Int16,
        other => return Err(format!("no precision {other}").into()),
    };
    let labels: Vec<String> = (0..LABELS).map(|i| format!("LABEL_{i}")).collect();
    let mut model = Classifier::load(Path::new(folder), &labels, 1)?;
    model.set_precision(precision);
    let batches: Vec<Rows> = serde_json::from_slice(&std::fs::read(batches)?)?;
    let config = TrainConfig { precision, threads: threads.parse()?, lr, total_steps, seed, ..TrainConfig::default() };
    serve(model, config, batches.into_iter().map(Batch::from).collect())
}

fn serve(mut model: Classifier, config: TrainConfig, batches: Vec<Batch>) -> Result<(), Box<dyn Error>> {
    let threads = config.threads;
    let mut trainer = Trainer::new(&model, config);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (command, number) = line.split_once(' ').unwrap_or((&line, "0"));
        let batch = &batches[number.parse::<usize>()?];
        let start = Instant::now();
        match command {
            "infer" => drop(model.logits(&batch.packed, threads)?),
            "logits" => {
                println!("{}", serde_json::to_string(&model.logits(&batch.packed, threads)?)?);
                continue;
            }
            "memory" => {
                println!("{}", peak_memory()?);
                continue;
            }
            "train" => drop(trainer.step(&mut model, &batch.packed, &batch.targets, &batch.weights)?),
            other => return Err(format!("no command {other}").into()),
        }
        println!("{}", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// The most memory the process ever held, in bytes, as Linux counts it.
fn peak_memory() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<usize>()? * 1024)
}
