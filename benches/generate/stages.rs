//! The work of a run's stages: prompts as a task writes them, over real sentences from movie reviews.

use anyhow::{Result, ensure};
use lacuna::data::unlabelled::Texts;
use lacuna::generator::{CompletionRequest, PosteriorRequest, Prompt, Sampling};

/// One row of the table.
pub struct Stage {
    pub name: &'static str,
    /// Whether both sides use the same Q4_0 file; if not, the server uses the published file.
    pub same_file: bool,
    pub work: Work,
}

/// Requests; the ids count from 0.
pub enum Work {
    Write(Vec<CompletionRequest>),
    Posterior(Vec<PosteriorRequest>),
}

impl Work {
    pub fn len(&self) -> usize {
        match self {
            Work::Write(requests) => requests.len(),
            Work::Posterior(requests) => requests.len(),
        }
    }

    /// Up to `n` requests, evenly spread.
    pub fn first(&self, n: usize) -> Work {
        let step = self.len().div_ceil(n.max(1)).max(1);
        match self {
            Work::Write(requests) => Work::Write(requests.iter().step_by(step).cloned().collect()),
            Work::Posterior(requests) => Work::Posterior(
                requests.iter().step_by(step).cloned().zip(0..).map(|(request, id)| PosteriorRequest { id, ..request }).collect(),
            ),
        }
    }
}

/// Nucleus sampling as in the paper, without top-k.
const NUCLEUS: Sampling = Sampling { temperature: 0.9, top_p: 0.95, ..Sampling::PLAIN };
/// The settings for which llama.cpp's own sampler is fast.
const TOP_K: Sampling = Sampling { temperature: 0.9, top_k: 40, ..Sampling::PLAIN };

/// The stages with `texts` requests each.
pub fn all(texts: usize) -> Result<Vec<Stage>> {
    let sentences = sentences(texts)?;
    let seeds = seed_prompts(&sentences);
    let tails = extrapolation_prompts(&sentences, (texts * 3).div_ceil(10).max(1));
    let spread = |prompts: &[Prompt]| (0..texts).map(|i| prompts[i * prompts.len() / texts].clone()).collect::<Vec<_>>();
    let three_each = |prompts: &[Prompt]| prompts.iter().flat_map(|prompt| vec![prompt.clone(); 3]).collect::<Vec<_>>();
    Ok(vec![
        Stage { name: "seed, nucleus", same_file: false, work: write(spread(&seeds), NUCLEUS) },
        Stage { name: "seed, top-k 40, same file", same_file: true, work: write(spread(&seeds), TOP_K) },
        Stage { name: "extrapolation", same_file: false, work: write(three_each(&tails), NUCLEUS) },
        Stage { name: "extrapolation, same file", same_file: true, work: write(three_each(&tails), NUCLEUS) },
        Stage { name: "scoring", same_file: false, work: Work::Posterior(questions(&sentences[..texts])) },
        Stage { name: "scoring, same file", same_file: true, work: Work::Posterior(questions(&sentences[..texts])) },
    ])
}

/// At least `n` sentences, and some for the prompts.
fn sentences(n: usize) -> Result<Vec<String>> {
    let path = lacuna::fetch::cache::locate("movie-snippets")?.join("gold.jsonl");
    let texts = Texts::open(&path, false)?.distinct();
    let sentences: Vec<String> = texts.read(0..texts.len())?.into_iter().map(|row| row.text).collect();
    ensure!(sentences.len() >= n.max(200), "{} has {} sentences, {n} are needed", path.display(), sentences.len());
    Ok(sentences)
}

/// Five prompts per label with a growing number of in-context examples, from about 60 to 230 tokens.
fn seed_prompts(sentences: &[String]) -> Vec<Prompt> {
    let prompt = |i: usize| {
        let label = ["positive", "negative"][i / 5];
        let mut user = format!("Write one short and witty sentence from a {label} movie review.\n\nExamples of other sentences:");
        let mut words = 0;
        for sentence in &sentences[10 * i..] {
            if words > 8 + 24 * (i % 5) {
                break;
            }
            user += &format!("\n- {sentence}");
            words += sentence.split_whitespace().count();
        }
        Prompt { system: None, user, answer_start: "\"".into(), plain: false }
    };
    (0..10).map(prompt).collect()
}

/// An instruction per label, then a different text of 30 to 60 tokens in each prompt.
fn extrapolation_prompts(sentences: &[String], n: usize) -> Vec<Prompt> {
    let words: Vec<&str> = sentences.iter().flat_map(|sentence| sentence.split_whitespace()).collect();
    let prompt = |i: usize| {
        let label = ["positive", "negative"][i % 2];
        let length = 22 + i * 7 % 20;
        let text = (0..length).map(|at| words[(i * 40 + at) % words.len()]).collect::<Vec<_>>().join(" ");
        let user = format!(
            "A small model reads sentences from movie reviews and gets some of them wrong. Below is one that it got wrong: it is {label}. \
             Write another {label} sentence from a movie review that is like it, so that the small model can learn from it. Do not copy \
             it. Write about another film and use other words.\n\n\"{text}\""
        );
        Prompt { system: None, user, answer_start: "\"".into(), plain: false }
    };
    (0..n).map(prompt).collect()
}

fn write(prompts: Vec<Prompt>, sampling: Sampling) -> Work {
    let stop = || vec!["\"".into(), "\n".into()];
    let request = |(prompt, id)| CompletionRequest { id, prompt, sampling, seed: 7000 + id, max_tokens: 48, stop: stop(), form: None };
    Work::Write(prompts.into_iter().zip(0..).map(request).collect())
}

fn questions(sentences: &[String]) -> Vec<PosteriorRequest> {
    let question = |(sentence, id): (&String, u64)| {
        let user = format!("Is this sentence from a movie review positive or negative?\n\n\"{sentence}\"");
        let prompt = Prompt { system: None, user, answer_start: "The sentence is".into(), plain: false };
        PosteriorRequest { id, prompt, words: vec![" positive".into(), " negative".into()] }
    };
    sentences.iter().zip(0..).map(question).collect()
}
