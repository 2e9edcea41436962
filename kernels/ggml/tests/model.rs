//! Whole models on our kernels and on ggml's: `LACUNA_TEST_GGUF` names a GGUF; without it the tests are skipped with a
//! message.
//!
//! ggml's own code paths are the reference: its results for the same text depend on how many tokens go through at once, and on whether
//! the weights are repacked.

use lacuna_ggml_kernels::{install, set_enabled};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::num::NonZeroU32;

/// The model on our kernels and on ggml's.
struct Models {
    backend: LlamaBackend,
    ours: LlamaModel,
    ggml: LlamaModel,
}

fn load() -> Option<Models> {
    let Ok(path) = std::env::var("LACUNA_TEST_GGUF") else {
        eprintln!("SKIPPED: set LACUNA_TEST_GGUF to a GGUF model to run this test");
        return None;
    };
    if let Err(reason) = install() {
        eprintln!("SKIPPED: our kernels: {reason}");
        return None;
    }
    let mut backend = LlamaBackend::init().unwrap();
    backend.void_logs();
    let [ours, ggml] = [true, false].map(|ours| {
        set_enabled(ours);
        LlamaModel::load_from_file(&backend, &path, &LlamaModelParams::default()).unwrap()
    });
    Some(Models { backend, ours, ggml })
}

fn params(sequences: usize, threads: i32) -> LlamaContextParams {
    LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(4096))
        .with_n_batch(512)
        .with_n_ubatch(512)
        .with_n_seq_max(sequences as u32)
        .with_kv_unified(true)
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
}

impl Models {
    fn context(&self, ours: bool, sequences: usize, threads: i32) -> LlamaContext<'_> {
        set_enabled(ours);
        if ours { &self.ours } else { &self.ggml }.new_context(&self.backend, params(sequences, threads)).unwrap()
    }

    fn tokens(&self, text: &str) -> Vec<LlamaToken> {
        self.ggml.vocab().tokenize(text.as_bytes(), true, false)
    }
}

const PREFIX: &str = "You write short movie reviews for a data set used to train a sentiment classifier. Each review is one to three sentences \
    on a single line, natural, varied in topic, vocabulary, length and style. Do not mention the label. Here is an example of a positive \
    review: A warm, generous film that finds humour in small moments and never talks down to its audience. Now write one of your own:";
const TEXTS: [&str; 4] = [
    " This film is a wonderful surprise, with strong performances and a story that keeps you guessing until the very end of it all.",
    " Nothing works here, not the plot, not the jokes, not even the dog, and after two hours of it I wanted my evening back.",
    " Beautifully shot, patiently paced, and anchored by a lead performance that deserves every award it gets this year.",
    " The plot wanders for two hours and the jokes land with a thud; I checked my watch more than once before the credits.",
];

/// Logits of every position of `TEXTS` after the prefix, `at_once` positions of each text in one batch; (text, position, vocabulary).
fn logits(models: &Models, ours: bool, at_once: usize) -> Vec<Vec<Vec<f32>>> {
    read_texts(models, models.context(ours, TEXTS.len(), 1), at_once)
}

fn read_texts(models: &Models, mut context: LlamaContext, at_once: usize) -> Vec<Vec<Vec<f32>>> {
    let prefix = models.tokens(PREFIX);
    let mut batch = LlamaBatch::new(512, 1);
    prefix.iter().enumerate().for_each(|(i, &token)| batch.add(token, i as i32, &[0], false).unwrap());
    context.decode(&mut batch).unwrap();
    (1..TEXTS.len()).for_each(|text| context.kv_cache_seq_cp(0, text as i32, None, None).unwrap());
    let texts: Vec<_> = TEXTS.iter().map(|text| models.ggml.vocab().tokenize(text.as_bytes(), false, false)).collect();
    let length = texts.iter().map(Vec::len).min().unwrap();
    let mut read = vec![Vec::new(); TEXTS.len()];
    for begin in (0..length).step_by(at_once) {
        batch.clear();
        let places: Vec<_> = (0..TEXTS.len()).flat_map(|text| (begin..length.min(begin + at_once)).map(move |i| (text, i))).collect();
        places.iter().for_each(|&(text, i)| batch.add(texts[text][i], (prefix.len() + i) as i32, &[text as i32], true).unwrap());
        context.decode(&mut batch).unwrap();
        places.iter().enumerate().for_each(|(at, &(text, _))| read[text].push(context.get_logits_ith(at as i32).to_vec()));
    }
    read
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f32::MIN, |a, &b| a.max(b));
    let total: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
    logits.iter().map(|&x| f64::from(x - largest) - total.ln()).collect()
}

/// Kullback-Leibler divergence of the second distribution from the first.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let (p, q) = (log_softmax(p), log_softmax(q));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// Mean and largest divergence over all positions.
fn divergences(a: &[Vec<Vec<f32>>], b: &[Vec<Vec<f32>>]) -> (f64, f64) {
    let all: Vec<f64> = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| divergence(a, b)).collect();
    (all.iter().sum::<f64>() / all.len() as f64, all.iter().fold(0.0, |a, &b| a.max(b)))
}

#[test]
fn as_near_to_ggml_as_ggml_to_itself() {
    let Some(models) = load() else { return };
    let ggml = logits(&models, false, 16);
    let spread = divergences(&ggml, &logits(&models, false, 1)).0.max(divergences(&ggml, &logits(&models, false, 2)).0);
    for at_once in [1, 2, 16] {
        let (mean, most) = divergences(&ggml, &logits(&models, true, at_once));
        eprintln!("{at_once} at once: KL {mean:.2e}, at most {most:.2e}; ggml's own paths differ by {spread:.2e}");
        assert!(mean < 2.0 * spread + 1e-4, "KL {mean:.2e} against {spread:.2e} among ggml's paths");
    }
}

/// The same weights in F32, computed by ggml with keys and values in F32: without any rounding of activations.
fn exact_logits(models: &Models, path: &str) -> Vec<Vec<Vec<f32>>> {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("exact.gguf");
    let [from, to] = [path, copy.to_str().unwrap()].map(|path| CString::new(path).unwrap());
    // SAFETY: the backend is initialised; paths and parameters outlive the call.
    let status = unsafe {
        let mut params = sys::llama_model_quantize_default_params();
        (params.allow_requantize, params.ftype) = (true, sys::LLAMA_FTYPE_ALL_F32);
        sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params)
    };
    assert_eq!(status, 0, "{path} cannot be written in F32");
    set_enabled(false);
    let exact = LlamaModel::load_from_file(&models.backend, &copy, &LlamaModelParams::default()).unwrap();
    let params = params(TEXTS.len(), 2).with_type_k(KvCacheType::F32).with_type_v(KvCacheType::F32).with_flash_attention_policy(0);
    read_texts(models, exact.new_context(&models.backend, params).unwrap(), 16)
}

#[test]
fn as_near_to_the_exact_model_as_ggml() {
    let Some(models) = load() else { return };
    let exact = exact_logits(&models, &std::env::var("LACUNA_TEST_GGUF").unwrap());
    for at_once in [1, 16] {
        let [ours, ggml] = [true, false].map(|ours| divergences(&exact, &logits(&models, ours, at_once)).0);
        eprintln!("{at_once} at once: KL from the exact model, ours {ours:.2e}, ggml's {ggml:.2e}");
        assert!(ours < 1.2 * ggml + 1e-5, "ours {ours:.2e}, ggml's {ggml:.2e}");
    }
}

/// Greedy continuations of `prompts`, all at once, with the gap between the two best logits at each token.
fn greedy(models: &Models, ours: bool, prompts: &[Vec<LlamaToken>], length: usize) -> Vec<Vec<(LlamaToken, f32)>> {
    let mut context = models.context(ours, prompts.len(), 1);
    let mut batch = LlamaBatch::new(512, 1);
    let mut texts = vec![Vec::new(); prompts.len()];
    for (sequence, prompt) in prompts.iter().enumerate() {
        batch.clear();
        prompt.iter().enumerate().for_each(|(i, &token)| batch.add(token, i as i32, &[sequence as i32], i + 1 == prompt.len()).unwrap());
        context.decode(&mut batch).unwrap();
        texts[sequence].push(best(context.get_logits_ith(prompt.len() as i32 - 1)));
    }
    for step in 1..length {
        batch.clear();
        for (sequence, prompt) in prompts.iter().enumerate() {
            batch.add(texts[sequence][step - 1].0, (prompt.len() + step - 1) as i32, &[sequence as i32], true).unwrap();
        }
        context.decode(&mut batch).unwrap();
        texts.iter_mut().enumerate().for_each(|(sequence, text)| text.push(best(context.get_logits_ith(sequence as i32))));
    }
    texts
}

/// The likeliest token and how far the next is behind.
fn best(logits: &[f32]) -> (LlamaToken, f32) {
    let (mut first, mut second) = ((0, f32::MIN), f32::MIN);
    for (token, &logit) in logits.iter().enumerate() {
        if logit > first.1 {
            (first, second) = ((token as i32, logit), first.1);
        } else {
            second = second.max(logit);
        }
    }
    (LlamaToken(first.0), first.1 - second)
}

/// `LACUNA_TEST_PROMPTS` sets the number of prompts, up to 200.
#[test]
fn greedy_texts_diverge_only_where_two_tokens_are_close() {
    let Some(models) = load() else { return };
    let subjects = ["the sea", "an old car", "a cold winter", "my neighbour", "the moon", "a good book", "bread", "the city"];
    let openings = ["Write about", "A short story of", "What I know of", "The history of", "Once there was"];
    let endings = ["", " in summer", " and its people", ", told by a child", " a hundred years ago"];
    let count = std::env::var("LACUNA_TEST_PROMPTS").map_or(40, |count| count.parse().unwrap());
    let ends = endings.iter().flat_map(|ending| openings.iter().map(move |opening| (opening, ending)));
    let texts = ends.flat_map(|(opening, ending)| subjects.map(|subject| format!("{opening} {subject}{ending}")));
    let prompts: Vec<_> = texts.take(count).map(|text| models.tokens(&text)).collect();
    let (mut equal, mut far) = (0, 0);
    for prompts in prompts.chunks(20) {
        let (ours, ggml) = (greedy(&models, true, prompts, 30), greedy(&models, false, prompts, 30));
        for (ours, ggml) in ours.iter().zip(&ggml) {
            match ours.iter().zip(ggml).find(|(ours, ggml)| ours.0 != ggml.0) {
                None => equal += 1,
                // Quantised activations move a logit by up to 0.3.
                Some((ours, ggml)) => far += usize::from(ours.1.min(ggml.1) > 0.5),
            }
        }
    }
    eprintln!("{equal} of {} greedy texts are equal over 30 tokens; {far} part where the best token was clear", prompts.len());
    assert!(far == 0, "{far} texts part from ggml's where the best token was clear");
}

#[test]
fn threads_and_contexts_at_once_give_the_same() {
    let Some(models) = load() else { return };
    let prompts: Vec<_> = (0..6).map(|i| models.tokens(&format!("The number {i} is")[..])).collect();
    let alone = greedy(&models, true, &prompts, 12);
    let at_once: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| greedy(&models, true, &prompts, 12))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(at_once.iter().all(|texts| *texts == alone), "contexts at once differ from one alone");
    let read = |threads| {
        let mut context = models.context(true, 1, threads);
        let mut batch = LlamaBatch::new(512, 1);
        let tokens = models.tokens(PREFIX);
        tokens.iter().enumerate().for_each(|(i, &token)| batch.add(token, i as i32, &[0], i + 1 == tokens.len()).unwrap());
        context.decode(&mut batch).unwrap();
        context.get_logits_ith(tokens.len() as i32 - 1).to_vec()
    };
    assert_eq!(divergence(&read(1), &read(3)), 0.0, "three threads give what one gives");
}
