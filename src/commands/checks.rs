//! What is checked of a task together with its generator, before its weights are loaded: prompts, label words, and texts that are too long.

use std::ops::Range;
use std::path::Path;

use crate::data::example::{GoldRow, Input};
use crate::data::faults::list;
use crate::data::head::Head;
use crate::error::Error;
use crate::generator::PosteriorRequest;
use crate::generator::llama::Outline;
use crate::run::progress::Progress;
use crate::task::file::Task;
use crate::task::prompts::{PromptHead, Prompts};
use crate::task::words::forks;

/// What of a text fits into the generator's prompts.
pub struct Limit {
    outline: Outline,
    /// Most tokens of a text.
    most: usize,
    /// Tokens of a longer text that are kept: about what the small model reads of it.
    kept: usize,
}

/// Tokens of a generator for each token of the small model, at most.
const TOKENS_EACH: usize = 4;

/// Tokens that a text may take more in a prompt than alone.
const SEAM: usize = 8;
/// Fewest tokens of a text that are of any use.
const LEAST: usize = 16;

impl Limit {
    /// Checks the task's prompts with the generator's tokenizer.
    ///
    /// # Errors
    /// Each prompt that leaves no room for a text, and each judge whose words cannot be told apart.
    pub fn of<H: PromptHead>(task: &Task, head: &H, path: &Path, outline: Outline) -> Result<Limit, Vec<Error>> {
        let error = |message: String| Error::Task { path: path.to_path_buf(), line: None, message };
        let prompts = Prompts::compile(task, head).map_err(|message| vec![error(message)])?;
        let mut errors = Vec::new();
        let mut most = usize::MAX;
        for Length { name, tokens, rationales } in lengths(task, head, &prompts, &outline, &mut |message| errors.push(error(message))) {
            let room = |tokens: usize| outline.n_ctx().saturating_sub(tokens.saturating_add(SEAM));
            if room(tokens) < LEAST {
                let n_ctx = outline.n_ctx();
                errors.push(error(format!(
                    "prompts.{name}: without any text it takes {tokens} tokens, new ones included, and the generator reads {n_ctx}: lower max_tokens, \
                     or shorten the prompt"
                )));
            }
            // Rationales are seldom as long as they may be.
            most = most.min(room(tokens.saturating_add(rationales)).max(LEAST));
        }
        errors.extend(words(task, head, &prompts, &outline).into_iter().map(error));
        // Both texts of a pair stand in one prompt.
        let (input, ..) = head.trial();
        let most = if input.text_pair.is_some() { most / 2 } else { most };
        if errors.is_empty() { Ok(Limit { outline, most, kept: most.min(TOKENS_EACH * task.train.max_tokens) }) } else { Err(errors) }
    }

    /// The part of a text that is too long for a prompt: its beginning, or where the needed bytes are; `None` for one that is not.
    pub fn cut(&self, text: &str, needed: Option<Range<usize>>) -> Option<String> {
        let tokens = self.outline.tokens_beyond(text, self.most)?;
        Some(self.outline.part(&tokens, self.kept, needed))
    }

    /// Says how many gold rows are cut in prompts.
    pub fn tell_of_long_rows<'r, H: Head>(&self, rows: impl Iterator<Item = &'r GoldRow<H>>, progress: Progress) {
        let long = |text: &str| self.outline.tokens_beyond(text, self.most).is_some();
        let is_long = |input: Input| long(input.text) || input.text_pair.is_some_and(long);
        let mut lines: Vec<usize> = rows.filter(|row| is_long(row.input())).map(|row| row.line).collect();
        lines.sort_unstable();
        if !lines.is_empty() {
            progress.say(format!(
                "gold rows longer than the {} tokens that the generator can read of a text: {} ({}); its prompts have {} tokens of them",
                self.most,
                lines.len(),
                list("line", &lines),
                self.kept
            ));
        }
    }
}

/// The tokens that a kind of prompt takes with next to no text, new ones included, and those of its rationales at most.
struct Length {
    name: &'static str,
    tokens: usize,
    rationales: usize,
}

/// How long each kind of prompt is.
fn lengths<H: PromptHead>(task: &Task, head: &H, prompts: &Prompts<H>, outline: &Outline, fail: &mut dyn FnMut(String)) -> Vec<Length> {
    let (input, goal, prediction) = head.trial();
    let keys = &task.prompts;
    let context = input.text_pair.map(|_| input.text);
    let tokens = |max_tokens: Option<u32>| max_tokens.unwrap_or(task.sampling.max_tokens) as usize;
    // A rationale is as long as its prompt lets it be.
    let rationale = |count: usize| {
        let each = keys.rationale.as_ref().filter(|_| task.seed.rationales > 0).map_or(0, |prompt| tokens(prompt.max_tokens));
        count * each
    };
    let mut all =
        vec![("seed", prompts.seed(&goal, &[], context), tokens(keys.seed.max_tokens), rationale(task.seed.rationales_per_example))];
    if task.extrapolate.max_rounds > 0 {
        let prompt = prompts.extrapolate(&goal, input, &prediction, &[]);
        all.push(("extrapolate", prompt, tokens(keys.extrapolate.max_tokens), rationale(task.extrapolate.rationales_per_example)));
    }
    if let Some(prompt) = keys.rationale.as_ref().filter(|_| task.seed.rationales > 0) {
        all.push(("rationale", prompts.rationale(&goal), tokens(prompt.max_tokens), 0));
    }
    all.extend(keys.judge.iter().map(|judge| ("judge", prompts.judge(judge, input, head.asked()[0]), 0, 0)));
    let mut found = Vec::new();
    for (name, prompt, new, rationales) in all {
        match prompt.and_then(|prompt| outline.prompt_tokens(&prompt).map_err(|error| error.to_string())) {
            Ok(tokens) => found.push(Length { name, tokens: tokens.saturating_add(new), rationales }),
            Err(message) => fail(format!("prompts.{name}: {message}")),
        }
    }
    found
}

/// What is wrong with the words of the judges.
fn words<H: PromptHead>(task: &Task, head: &H, prompts: &Prompts<H>, outline: &Outline) -> Vec<String> {
    let (input, ..) = head.trial();
    let mut wrong = Vec::new();
    for judge in &task.prompts.judge {
        let answers = task.judges_answers();
        let words: Vec<&str> = answers.iter().filter_map(|answer| Some(judge.words.get(&answer.name)?.as_str())).collect();
        let (Ok(prompt), Ok(forks)) = (prompts.judge(judge, input, head.asked()[0]), forks(&words)) else { continue };
        for fork in forks {
            let mut prompt = prompt.clone();
            prompt.answer_start += &fork.said;
            let checked = outline.check_words(&PosteriorRequest { id: 0, prompt, words: fork.next });
            wrong.extend(checked.err().map(|error| format!("prompts.judge: {}", error.to_string().trim_start_matches("request 0: "))));
        }
    }
    wrong
}
