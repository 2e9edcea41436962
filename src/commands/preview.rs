//! `lacuna preview`: what a night's work would write, in under a minute: a prompt of each kind, ten texts for each label with what becomes
//! of them, and how well the generator judges a few gold rows. Writes nothing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::contexts::Contexts;
use super::options::Options;
use super::setup::{ByHead, Loaded, Setup};
use crate::data::example::{Context, GoldRow};
use crate::data::head::Head;
use crate::data::read::ReadGold;
use crate::data::split::Divide;
use crate::error::Result;
use crate::generator::{Completion, Generate, Prompt};
use crate::judge::panel::knowledge;
use crate::judge::questions::Questions;
use crate::judge::reply::Reply;
use crate::math::random;
use crate::math::vectors::argmax;
use crate::run::round::Rejection;
use crate::synthesis::head_with_labels::HeadWithLabels;
use crate::synthesis::stages::Stages;
use crate::synthesis::verify::{Prompted, Verifier};
use crate::synthesis::write::finished;
use crate::task::file::Task;
use crate::task::prompts::{Prompts, prompt_error};

/// Texts for each label, texts in all, and gold rows that are judged.
const EACH: usize = 10;
const MOST: usize = 60;
const JUDGED: usize = 40;
/// A generator whose texts are accepted less often does not follow the task.
const FOLLOWS: f64 = 0.4;
/// Longest text that is shown, in characters.
const SHOWN: usize = 160;

/// A text that was written for a preview.
struct Tried {
    /// The label, or the answer, that it was written for.
    goal: String,
    stratum: usize,
    given: Option<String>,
    text: String,
    verdict: Result<(), Rejection>,
}

/// Writes a few texts and judges a few gold rows; returns what came of it. Without a `generator`, the task's is loaded with the default
/// settings: nothing is measured or converted.
///
/// # Errors
/// What [`Setup::checked`] finds wrong; those of the generator.
pub fn preview(task: &Path, options: &Options, generator: &mut Option<Box<dyn Generate>>) -> Result<String> {
    let setup = Setup::checked(task, options)?;
    if generator.is_none() {
        *generator = Some(setup.load_generator_as_it_is()?);
    }
    let generator = generator.as_deref_mut().expect("loaded above");
    match &setup.loaded {
        ByHead::Labels(loaded) => {
            let (mut text, mut warnings) = written(&setup, loaded, generator)?;
            text += &judged(&setup, loaded, generator, &mut warnings)?;
            Ok(text + &told(&warnings))
        }
        ByHead::LabelSets(loaded) => {
            let (mut text, mut warnings) = written(&setup, loaded, generator)?;
            text += &judged(&setup, loaded, generator, &mut warnings)?;
            Ok(text + &told(&warnings))
        }
        ByHead::Answers(loaded) => written(&setup, loaded, generator).map(|(text, warnings)| text + &told(&warnings)),
    }
}

fn told(warnings: &[String]) -> String {
    match warnings {
        [] => "nothing speaks against a run\n".to_string(),
        warnings => warnings.iter().map(|warning| format!("warning: {warning}\n")).collect(),
    }
}

/// Prompts of the seed without rationales, and what the generator makes of them.
fn written<H: Stages + Divide + ReadGold + Contexts>(
    setup: &Setup,
    loaded: &Loaded<H>,
    generator: &mut dyn Generate,
) -> Result<(String, Vec<String>)> {
    let (task, head) = (&setup.task, &loaded.small.head);
    let split = loaded.split(task, setup.seed)?;
    let prompts = setup.prompts(head)?;
    let contexts = head.contexts(task, setup.contexts(), &split, setup.seed)?;
    let contexts: Vec<&Context> = contexts.iter().collect();
    let strata = head.strata();
    let gold: Vec<&H::Gold> = split.gold().map(|row| &row.gold).collect();
    let turns = head.turns(&contexts, &gold, &vec![1.0; strata], setup.seed)?;
    let (mut requests, mut goals) = (Vec::new(), Vec::new());
    for id in 0..(EACH * strata).min(MOST.max(strata)) {
        let (goal, context) = turns(id);
        let context = context.map(|context| context.text.as_str());
        let prompt = prompts.seed(&goal, &[], context).map_err(prompt_error)?;
        let seed = random::derive(setup.seed, "preview", id as u64);
        requests.push(prompts.request(id as u64, &task.prompts.seed, prompt, seed));
        goals.push((goal, context));
    }
    let mut bar = setup.machine.progress().bar("writing", "texts", requests.len(), 0);
    let mut completions = BTreeMap::new();
    generator.complete(&requests, &mut |completion: Completion| {
        bar.step(1)?;
        completions.insert(completion.id as usize, completion);
        Ok(())
    })?;
    bar.finish("");
    let mut verifier = Verifier::of_task(task, split.gold());
    let says = task.label_words();
    let mut tried = Vec::new();
    for (id, Completion { text, finish, .. }) in completions {
        let (goal, context) = &goals[id];
        let (stratum, answer) = (H::stratum(goal), H::answer(goal));
        let text = finished(&text, finish);
        let label = H::one_label(goal, &says);
        let verdict = verifier.accept(&text, finish, &Prompted { rationales: &[], context: *context, answer, label });
        let goal = H::in_words(goal, &says);
        tried.push(Tried { goal, stratum, given: context.map(str::to_string), text, verdict });
    }
    let first = requests.first().map(|request| shown_prompt(&request.prompt)).unwrap_or_default();
    let mut text = format!("a prompt of the seed (without rationales):\n\n{first}\n");
    text += &by_stratum(&tried, &says);
    text += &later_prompts(&prompts, task, goals.first().map(|(goal, _)| goal), split.gold().next())?;
    let accepted = tried.iter().filter(|tried| tried.verdict.is_ok()).count();
    let mut warnings = Vec::new();
    if (accepted as f64) < FOLLOWS * tried.len() as f64 {
        warnings.push(format!(
            "{accepted} of {} texts would be accepted: look at prompts.seed and `about`, or take a larger generator",
            tried.len()
        ));
    }
    Ok((text, warnings))
}

/// The prompts that no text was written with: for reasons, and for a text like an error.
fn later_prompts<H: Stages>(prompts: &Prompts<H>, task: &Task, goal: Option<&H::Goal>, row: Option<&GoldRow<H>>) -> Result<String> {
    let mut text = String::new();
    if let Some(goal) = goal.filter(|_| task.seed.rationales > 0 && task.prompts.rationale.is_some()) {
        text += &format!("a prompt for reasons:\n\n{}\n", shown_prompt(&prompts.rationale(goal).map_err(prompt_error)?));
    }
    if let Some(row) = row.filter(|_| task.extrapolate.max_rounds > 0) {
        let prompt = prompts.extrapolate(&row.goal(), row.input(), &H::right(&row.goal()), &[]).map_err(prompt_error)?;
        text += &format!("a prompt of a round, if this gold row is mistaken (without rationales):\n\n{}\n", shown_prompt(&prompt));
    }
    Ok(text)
}

fn by_stratum(tried: &[Tried], says: &[String]) -> String {
    let mut text = String::new();
    let mut strata: Vec<usize> = tried.iter().map(|tried| tried.stratum).collect();
    strata.sort_unstable();
    strata.dedup();
    for stratum in strata {
        let own: Vec<&Tried> = tried.iter().filter(|tried| tried.stratum == stratum).collect();
        let accepted = own.iter().filter(|tried| tried.verdict.is_ok()).count();
        let several = own.iter().any(|tried| tried.goal != own[0].goal);
        let name = match (several, &own[0].given) {
            (false, _) => &own[0].goal,
            (true, Some(_)) => "questions",
            (true, None) => says.get(stratum).map_or("none", String::as_str),
        };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name}: {accepted} of {} would be accepted", own.len());
        for tried in own {
            let verdict = tried.verdict.as_ref().err().map_or(String::new(), |why| format!("  [{}]", why.says()));
            let of = if several { format!("({}) ", tried.goal) } else { String::new() };
            let _ = writeln!(text, "  - {of}{}{verdict}", shortened(&tried.text));
        }
        text.push('\n');
    }
    text
}

/// A judge prompt, and how well its answers tell the labels of gold rows.
fn judged<H: HeadWithLabels + Divide + ReadGold>(
    setup: &Setup,
    loaded: &Loaded<H>,
    generator: &mut dyn Generate,
    warnings: &mut Vec<String>,
) -> Result<String> {
    let Some(judge) = setup.task.prompts.judge.first() else { return Ok(String::new()) };
    let head = &loaded.small.head;
    let prompts: Prompts<H> = setup.prompts(head)?;
    let questions = Questions::of(&setup.task, &prompts)?;
    let gold = loaded.drawn(&setup.task, setup.seed)?;
    let rows = in_turn(&gold, head.strata());
    let inputs: Vec<_> = rows.iter().map(|row| row.input()).collect();
    let mut bar = setup.machine.progress().bar("judging gold rows", "questions", inputs.len() * questions.for_each_text(), 0);
    questions.try_on(generator, inputs[0])?;
    let replies: Vec<Reply> = questions.replies(generator, &inputs, &[], &mut || bar.step(1))?;
    bar.finish("");
    let answers: Vec<Vec<usize>> = rows.iter().map(|row| head.answers(&row.gold)).collect();
    let right = replies.iter().zip(answers.iter().flatten()).filter(|(reply, answer)| argmax(&reply.log_probs) == **answer).count();
    let knowledge = loaded.small.reader.pool.install(|| knowledge(&replies, &answers, setup.seed));
    let each = questions.of_each_text();
    let prompt = shown_prompt(&prompts.judge(judge, inputs[0], head.asked()[0]).map_err(prompt_error)?);
    if !knowledge.better_than_chance() {
        warnings.push(format!(
            "on these {} gold rows the generator's judgement by prompt is not told from chance: look at the judge's prompt and the labels' \
             wordings, or take a larger generator; a run also learns from hidden states, which may know more",
            rows.len()
        ));
    }
    Ok(format!(
        "a prompt of the judge:\n\n{prompt}\nof {} it is right on {right} as it is, and on {:.0} % calibrated (out of fold; always the \
         most frequent {}: {:.0} %)\n",
        if each > 1 { format!("{} answers about {} gold rows", replies.len(), rows.len()) } else { format!("{} gold rows", rows.len()) },
        100.0 * knowledge.accuracy,
        if each > 1 { "answer" } else { "label" },
        100.0 * knowledge.chance
    ))
}

/// The first gold rows of each label, in turn.
fn in_turn<H: Head>(gold: &[GoldRow<H>], labels: usize) -> Vec<&GoldRow<H>> {
    let of_label = |label: usize| gold.iter().filter(move |row| row.stratum() == label);
    let mut by_label: Vec<_> = (0..labels).map(of_label).collect();
    let mut rows = Vec::new();
    loop {
        let before = rows.len();
        rows.extend(by_label.iter_mut().filter_map(Iterator::next));
        if rows.len() == before || rows.len() >= JUDGED.max(labels) {
            return rows;
        }
    }
}

/// A prompt, indented.
fn shown_prompt(prompt: &Prompt) -> String {
    let system = prompt.system.as_ref().map_or(String::new(), |system| format!("{system}\n\n"));
    let whole = format!("{system}{}\n→ {}…", prompt.user, prompt.answer_start);
    whole.lines().map(|line| format!("    {line}\n")).collect()
}

fn shortened(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}
