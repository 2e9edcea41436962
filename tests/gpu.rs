//! The generator on a GPU against the CPU. `LACUNA_TEST_GPU_GGUF` names a small model, `LACUNA_TEST_GPUS` the number of GPUs (default: 1);
//! scripts/test-vulkan.sh runs this on GPUs in software.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lacuna::generator::llama::{ALL_LAYERS, KvFormat, Llama, LlamaConfig, Settings};
use lacuna::generator::{CompletionRequest, Generate, PosteriorRequest, Prompt, Sampling};

fn load(model: &PathBuf, gpu_layers: u32) -> Llama {
    let settings = Settings { slots: 4, kv: KvFormat::F16, unified: true, n_batch: 128 };
    Llama::load(LlamaConfig { threads: 1, gpu_layers, settings, n_ctx: 512, ..LlamaConfig::new(model) }).unwrap()
}

fn prompt(number: u64) -> Prompt {
    let words = ["yes", "no", "positive", "negative"];
    let user = format!("A list of words that all prompts begin with: yes no no yes positive no. {} {number}", words[number as usize % 4]);
    Prompt { system: None, user, answer_start: "It is".into(), plain: false }
}

fn posteriors(llama: &mut Llama) -> BTreeMap<u64, Vec<f32>> {
    let words = vec![" positive".to_string(), " negative".to_string()];
    let requests: Vec<_> = (0..8).map(|id| PosteriorRequest { id, prompt: prompt(id), words: words.clone() }).collect();
    let mut found = BTreeMap::new();
    llama
        .posteriors(&requests, &[], &mut |posterior| {
            found.insert(posterior.id, posterior.log_probs);
            Ok(())
        })
        .unwrap();
    found
}

/// The texts of eight requests with each sampling, by id.
fn texts(llama: &mut Llama, samplings: &[Sampling]) -> BTreeMap<u64, String> {
    let of = |id: u64| CompletionRequest {
        id,
        prompt: prompt(id / samplings.len() as u64),
        sampling: samplings[id as usize % samplings.len()],
        seed: id,
        max_tokens: 4 + id as u32 % 5,
        stop: Vec::new(),
        form: None,
    };
    let requests: Vec<_> = (0..8 * samplings.len() as u64).map(of).collect();
    let mut written = BTreeMap::new();
    llama
        .complete(&requests, &mut |text| {
            written.insert(text.id, text.text);
            Ok(())
        })
        .unwrap();
    written
}

#[test]
fn a_gpu_answers_and_writes_like_the_cpu() {
    let Some(model) = std::env::var_os("LACUNA_TEST_GPU_GGUF").map(PathBuf::from) else {
        eprintln!("SKIPPED: LACUNA_TEST_GPU_GGUF is not set; scripts/test-vulkan.sh sets it");
        return;
    };
    let (mut cpu, mut gpu) = (load(&model, 0), load(&model, ALL_LAYERS));
    let record = gpu.record();
    let gpus: usize = std::env::var("LACUNA_TEST_GPUS").map_or(1, |gpus| gpus.parse().unwrap());
    assert_eq!(record["gpus"].as_array().map(Vec::len), Some(gpus), "{record}");
    assert_eq!(cpu.record()["gpus"], serde_json::json!([]));
    let answers = posteriors(&mut cpu);
    for (id, found) in posteriors(&mut gpu) {
        let furthest = found.iter().zip(&answers[&id]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest < 0.05, "question {id}: {found:?} {:?}", answers[&id]);
    }
    let greedy = Sampling { temperature: 0.0, ..Sampling::PLAIN };
    let samplings = [
        greedy,
        Sampling { top_k: 20, ..Sampling::PLAIN },
        Sampling { min_p: 0.1, ..Sampling::PLAIN },
        Sampling::default(),
        Sampling::PLAIN,
    ];
    let written = texts(&mut cpu, &samplings);
    for unified in [true, false] {
        gpu.set(Settings { slots: 5, kv: KvFormat::F16, unified, n_batch: 128 }).unwrap();
        let found = texts(&mut gpu, &samplings);
        assert_eq!(found.len(), written.len());
        // A greedy text goes its own way once two tokens are as likely.
        let same = (0..8).filter(|i| found[&(i * 5)] == written[&(i * 5)]).count();
        assert!(same >= 6, "unified {unified}: {same} of 8 greedy texts are the same: {found:?} {written:?}");
    }
}
