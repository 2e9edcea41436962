//! The judge's questions: which label does a text have? Each judge prompt of the task is asked about each text, and once more at every
//! fork of its label words. Where a text may have several labels, each prompt is asked about each label: does it have this one?

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::posterior::mean_log_probs;
use super::probe::Probe;
use super::reply::Reply;
use crate::data::example::Input;
use crate::error::{Error, Result};
use crate::files::sha256::mark_of;
use crate::generator::{Generate, GenerateError, Posterior, PosteriorRequest};
use crate::task::file::{JudgeKind, Task};
use crate::task::prompt_keys::JudgePrompt;
use crate::task::prompts::{PromptHead, Prompts, prompt_error};
use crate::task::words::{self, Fork, forks};

/// One fork of a judge prompt; each text needs a request for every fork.
struct ForkPrompt<'t> {
    judge: &'t JudgePrompt,
    /// Index of the judge prompt.
    prompt: usize,
    /// Which of the [`PromptHead::asked`] it is about.
    asked: usize,
    fork: Fork,
    /// Whether it is the first about what it is about: hidden states are read at its end.
    first: bool,
}

/// The answer to one request, as in a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// `key * forks + fork`; the key is that of the text.
    id: u64,
    /// ln p of each candidate word.
    log_probs: Vec<f32>,
    /// In the answer to a text's first request about something, ln p of each answer by each probe: (probes, answers).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    by_probe: Vec<Vec<f32>>,
    /// Tokens that the generator computed since the answer before.
    #[serde(default)]
    computed: u32,
    /// Of the text that was asked about, and of the question: an answer about another is none.
    #[serde(default)]
    mark: String,
}

impl Judged {
    /// The key of the text that was asked about, where each text has so many requests.
    pub fn text(&self, requests: usize) -> u64 {
        self.id / requests as u64
    }
}

/// The questions of a task.
pub struct Questions<'t, H> {
    task: &'t Task,
    prompts: &'t Prompts<'t, H>,
    /// What is asked about: all labels at once, or each.
    asked: Vec<Option<usize>>,
    /// The names of the answers: the labels, or no and yes.
    answers: Vec<String>,
    forks: Vec<ForkPrompt<'t>>,
    /// For each judge prompt, what comes before the question in the user's turn.
    before: Vec<String>,
    /// For each of what is asked about, heads on the states of these layers at the end of its first request.
    probes: Vec<Vec<&'t Probe>>,
    layers: Vec<usize>,
    /// Whether the words are asked for; without, only the first question is.
    words: bool,
}

impl<'t, H: PromptHead> Questions<'t, H> {
    /// # Errors
    /// Label words that no further word tells apart.
    pub fn of(task: &'t Task, prompts: &'t Prompts<'t, H>) -> Result<Self> {
        let (asked, answers) = (prompts.asked(), task.judges_answers());
        let mut found: Vec<ForkPrompt> = Vec::new();
        for (prompt, judge) in task.prompts.judge.iter().enumerate() {
            let words: Vec<&str> = answers.iter().map(|answer| judge.words[&answer.name].as_str()).collect();
            let forks = forks(&words).map_err(|message| Error::Failed(format!("prompts.judge: {message}")))?;
            for asked in 0..asked.len() {
                let of_fork = |(place, fork): (usize, &Fork)| ForkPrompt {
                    judge,
                    prompt,
                    asked,
                    fork: fork.clone(),
                    first: prompt == 0 && place == 0,
                };
                found.extend(forks.iter().enumerate().map(of_fork));
            }
        }
        let before = vec![String::new(); task.prompts.judge.len()];
        let (answers, probes) = (answers.into_iter().map(|answer| answer.name).collect(), vec![Vec::new(); asked.len()]);
        Ok(Questions { task, prompts, asked, answers, forks: found, before, probes, layers: Vec::new(), words: true })
    }

    /// The questions of the task's judge.
    ///
    /// # Errors
    /// As [`Questions::of`].
    pub fn of_judge(task: &'t Task, prompts: &'t Prompts<'t, H>) -> Result<Self> {
        let mut questions = Questions::of(task, prompts)?;
        if task.judge_kind() == JudgeKind::States {
            questions.words = false;
            questions.forks.retain(|fork| fork.first);
        }
        Ok(questions)
    }

    /// The same questions after `shown`, texts with their labels: each as the question would be asked about it, with the right answer.
    ///
    /// # Errors
    /// A prompt that cannot be rendered.
    pub fn after_demonstrations(mut self, shown: &[(Input, usize)]) -> Result<Self> {
        for (before, judge) in self.before.iter_mut().zip(&self.task.prompts.judge) {
            for (input, label) in shown {
                let prompt = self.prompts.judge(judge, *input, None).map_err(prompt_error)?;
                let word = &judge.words[&self.answers[*label]];
                *before += &format!("{}\n{}{word}\n\n", prompt.user, prompt.answer_start);
            }
        }
        Ok(self)
    }

    /// The same questions, with more judges behind the prompts: for each of what is asked about, heads on the hidden states of these
    /// layers.
    #[must_use]
    pub fn with_probes(mut self, probes: Vec<Vec<&'t Probe>>, layers: Vec<usize>) -> Self {
        self.layers = if probes.iter().all(Vec::is_empty) { Vec::new() } else { layers };
        self.probes = probes;
        self
    }

    /// What is asked about each text: all labels at once, or each.
    pub fn of_each_text(&self) -> usize {
        self.asked.len()
    }

    /// Requests for each text.
    pub fn for_each_text(&self) -> usize {
        self.forks.len()
    }

    fn ask(&self, id: u64, question: &ForkPrompt, input: Input) -> Result<PosteriorRequest> {
        let mut prompt = self.prompts.judge(question.judge, input, self.asked[question.asked]).map_err(prompt_error)?;
        prompt.user = self.before[question.prompt].clone() + &prompt.user;
        prompt.answer_start += &question.fork.said;
        let words = if self.words { question.fork.next.clone() } else { Vec::new() };
        Ok(PosteriorRequest { id, prompt, words })
    }

    /// The [`Judged::mark`] of a question about a text.
    fn mark(&self, question: &ForkPrompt, input: Input) -> String {
        let JudgePrompt { system, user, answer_start, .. } = question.judge;
        let said = [system.as_deref().unwrap_or_default(), user, answer_start, &self.before[question.prompt], &question.fork.said];
        let words = question.fork.next.iter().map(String::as_str);
        let asked = self.asked[question.asked].map(|label| self.prompts.says(label));
        mark_of(said.into_iter().chain([input.text, input.text_pair.unwrap_or_default()]).chain(words).chain(asked))
    }

    /// A mark of the first question about each of these texts.
    pub fn mark_of_texts(&self, texts: &[(u64, Input)]) -> String {
        let marks: Vec<String> =
            texts.iter().map(|(_, text)| self.forks.first().map_or(String::new(), |fork| self.mark(fork, *text))).collect();
        mark_of(marks.iter().map(String::as_str))
    }

    /// For each text (with its key) and each judge prompt, ln p of each label's word: (texts, prompts, labels); ln p of the labels by each
    /// probe come behind those of the prompts. Where each label is asked about, all that for the first label, then for the next: (texts,
    /// labels × prompts and probes, no and yes). What is `answered` is not asked again, unless other probes were asked; each new answer
    /// goes to `sink` as it comes.
    ///
    /// # Errors
    /// Those of the generator and of the sink; a prompt that cannot be rendered.
    pub fn posteriors(
        &self,
        generator: &mut dyn Generate,
        texts: &[(u64, Input)],
        answered: Vec<Judged>,
        sink: &mut dyn FnMut(&Judged) -> Result<()>,
    ) -> Result<Vec<Vec<Vec<f32>>>> {
        let forks = self.forks.len() as u64;
        let marks: HashMap<u64, String> = texts
            .iter()
            .flat_map(|(key, text)| (0..forks).map(move |fork| (key * forks + fork, fork as usize, *text)))
            .map(|(id, fork, text)| (id, self.mark(&self.forks[fork], text)))
            .collect();
        let fork_of = |id: u64| &self.forks[(id % forks) as usize];
        let probes_of = |fork: &ForkPrompt| if fork.first { &self.probes[fork.asked][..] } else { &[] };
        let complete = |row: &Judged| marks.get(&row.id) == Some(&row.mark) && row.by_probe.len() == probes_of(fork_of(row.id)).len();
        let mut known: HashMap<u64, Judged> = answered.into_iter().filter(complete).map(|row| (row.id, row)).collect();
        let asked_before: HashSet<u64> = known.keys().copied().collect();
        self.ask_all(generator, texts, &self.layers, &asked_before, &mut |Posterior { id, log_probs, states, computed }| {
            let by_probe = probes_of(fork_of(id)).iter().map(|probe| probe.log_probs(&states)).collect();
            let judged = Judged { id, log_probs, by_probe, computed, mark: marks[&id].clone() };
            sink(&judged)?;
            known.insert(id, judged);
            Ok(())
        })?;
        let of = |(key, _): &(u64, Input)| {
            let answers: Vec<Vec<f32>> = (0..forks).map(|fork| known[&(key * forks + fork)].log_probs.clone()).collect();
            let of_asked = |asked: usize| {
                let by_probe = (0..forks).filter(|&fork| self.forks[fork as usize].asked == asked);
                let by_probe = by_probe.flat_map(|fork| known[&(key * forks + fork)].by_probe.clone());
                self.by_prompt(asked, &answers).into_iter().chain(by_probe).collect::<Vec<_>>()
            };
            (0..self.asked.len()).flat_map(of_asked).collect()
        };
        Ok(texts.iter().map(of).collect())
    }

    /// Sends the requests about all texts, less those `asked_before`. The first request about something is asked for hidden states, the
    /// others without; all together if there are no layers.
    fn ask_all(
        &self,
        generator: &mut dyn Generate,
        texts: &[(u64, Input)],
        layers: &[usize],
        asked_before: &HashSet<u64>,
        answer: &mut dyn FnMut(Posterior) -> Result<()>,
    ) -> Result<()> {
        let forks = self.forks.len();
        let those = |first: bool| (0..forks).filter(|&fork| self.forks[fork].first == first).collect::<Vec<usize>>();
        let parts =
            if layers.is_empty() { vec![((0..forks).collect(), layers)] } else { vec![(those(true), layers), (those(false), &[][..])] };
        for (part, layers) in parts {
            let ids = texts.iter().flat_map(|(key, text)| part.iter().map(move |&fork| (key * forks as u64 + fork as u64, fork, *text)));
            let missing = ids.filter(|(id, _, _)| !asked_before.contains(id));
            let requests = missing.map(|(id, fork, text)| self.ask(id, &self.forks[fork], text)).collect::<Result<Vec<_>>>()?;
            generator.posteriors(&requests, layers, &mut |posterior| Ok(answer(posterior)?))?;
        }
        Ok(())
    }

    /// The reply about each text, with the states of these layers at the end of the first question; where each label is asked about, a
    /// reply for each, all of a text together. `sink` is called for each answer.
    ///
    /// # Errors
    /// Those of the generator and of the sink; a prompt that cannot be rendered.
    pub fn replies(
        &self,
        generator: &mut dyn Generate,
        texts: &[Input],
        layers: &[usize],
        sink: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Reply>> {
        let (forks, asked) = (self.forks.len(), self.asked.len());
        let mut answers = vec![vec![Vec::new(); forks]; texts.len()];
        let mut states = vec![Vec::new(); texts.len() * asked];
        let keyed: Vec<(u64, Input)> = (0..).zip(texts.iter().copied()).collect();
        self.ask_all(generator, &keyed, layers, &HashSet::new(), &mut |posterior| {
            let (text, fork) = (posterior.id as usize / forks, posterior.id as usize % forks);
            answers[text][fork] = posterior.log_probs;
            if self.forks[fork].first {
                states[text * asked + self.forks[fork].asked] = posterior.states;
            }
            sink()
        })?;
        let reply = |(place, states): (usize, Vec<Vec<f32>>)| Reply {
            log_probs: mean_log_probs(&self.by_prompt(place % asked, &answers[place / asked])),
            states,
            group: Reply::group_of(texts[place / asked]),
        };
        Ok(states.into_iter().enumerate().map(reply).collect())
    }

    /// The hidden states of these layers at the end of each text's first question, or of that about each label, without its words: (texts,
    /// layers, hidden) in replies.
    ///
    /// # Errors
    /// As [`Questions::replies`].
    pub fn states(
        &self,
        generator: &mut dyn Generate,
        texts: &[Input],
        layers: &[usize],
        sink: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Reply>> {
        let firsts: Vec<&ForkPrompt> = self.forks.iter().filter(|fork| fork.first).collect();
        let asked: Vec<(&Input, &ForkPrompt)> = texts.iter().flat_map(|text| firsts.iter().map(move |fork| (text, *fork))).collect();
        let ask = |(id, (text, fork)): (usize, &(&Input, &ForkPrompt))| {
            let asked = self.ask(id as u64, fork, **text);
            asked.map(|asked| PosteriorRequest { words: Vec::new(), ..asked })
        };
        let requests = asked.iter().enumerate().map(ask).collect::<Result<Vec<_>>>()?;
        let mut replies: Vec<Reply> =
            asked.iter().map(|(input, _)| Reply { group: Reply::group_of(**input), ..Reply::default() }).collect();
        generator.posteriors(&requests, layers, &mut |posterior| {
            replies[posterior.id as usize].states = posterior.states;
            Ok(sink()?)
        })?;
        Ok(replies)
    }

    /// ln p of each label's word from each judge prompt about one thing, given the answers to all requests about a text; zeros, which say
    /// nothing, where the words are not asked for.
    fn by_prompt(&self, asked: usize, answers: &[Vec<f32>]) -> Vec<Vec<f32>> {
        if !self.words {
            return vec![vec![0.0; self.answers.len()]; self.before.len()];
        }
        (0..self.before.len()).map(|prompt| self.by_label(prompt, asked, answers)).collect()
    }

    /// ln p of each label's word from one judge prompt about one thing, given the answers to all requests about a text.
    fn by_label(&self, prompt: usize, asked: usize, answers: &[Vec<f32>]) -> Vec<f32> {
        let own = self.forks.iter().zip(answers).filter(|(question, _)| (question.prompt, question.asked) == (prompt, asked));
        let (forks, answers): (Vec<Fork>, Vec<Vec<f32>>) = own.map(|(question, answer)| (question.fork.clone(), answer.clone())).unzip();
        words::log_probs(&forks, &answers)
    }

    /// Asks every question with words once, about one text: label words that the generator cannot tell apart are refused before hours of
    /// writing.
    ///
    /// # Errors
    /// Such words, with the labels' names; those of the generator.
    pub fn try_on(&self, generator: &mut dyn Generate, input: Input) -> Result<()> {
        for question in self.forks.iter().filter(|_| self.words) {
            let request = self.ask(0, question, input)?;
            let refused = match generator.posteriors(&[request], &[], &mut |_| Ok(())) {
                Err(GenerateError::Request { reason, .. }) => reason,
                other => {
                    other?;
                    continue;
                }
            };
            let Fork { next, branch, .. } = &question.fork;
            let named = |label: &usize| branch[*label].is_some_and(|word| refused.contains(&format!("{:?}", next[word])));
            let names: Vec<String> = (0..self.answers.len()).filter(named).map(|label| format!("{:?}", self.answers[label])).collect();
            let message = format!("prompts.judge {}, labels {}: {refused}", question.prompt + 1, names.join(", "));
            return Err(Error::Failed(message));
        }
        Ok(())
    }
}
