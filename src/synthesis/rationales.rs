//! The rationale stage: rationales for each label, the most typical ones chosen by the judge.

use std::collections::HashSet;

use super::rows::Written;
use super::state::Synthesis;
use super::write::{Planned, Writing};
use crate::data::example::{Input, fingerprint};
use crate::data::labels::{Label, Labels};
use crate::data::language::words;
use crate::error::{Error, Result};
use crate::files::whole::write_json;
use crate::generator::Finish;
use crate::judge::posterior::mean_log_probs;
use crate::math::vectors::centre;
use crate::run::round::Rejection;
use crate::task::prompts::{clean, prompt_error};

impl Synthesis<'_, Labels> {
    /// Algorithm 1, first part: `seed.rationales` distinct rationales per label, chosen by the judge if more are written.
    pub(super) fn write_rationales(&mut self) -> Result<()> {
        let (task, prompts, labels) = (self.inputs.task, self.inputs.prompts, self.strata());
        let wanted = task.seed.rationale_candidates.unwrap_or(task.seed.rationales);
        let template = task.prompts.rationale.as_ref().ok_or_else(|| prompt_error("prompts.rationale is missing".into()))?;
        let plan = |id: u64| {
            let goal = Label { label: id as usize % labels };
            let prompt = prompts.rationale(&goal).map_err(prompt_error)?;
            Ok(Planned { name: "rationale", template, prompt, goal, parent: None, context: None, rationales: vec![] })
        };
        let starts = (0..labels)
            .map(|label| Ok(prompts.rationale(&Label { label }).map_err(prompt_error)?.answer_start))
            .collect::<Result<Vec<_>>>()?;
        let mut seen = HashSet::new();
        let stratum = |id: u64| id as usize % labels;
        let stage = Writing {
            journal: "rationales",
            title: "rationales",
            unit: "rationales",
            wanted: wanted * labels,
            budget: None,
            plan: &plan,
            stratum: &stratum,
        };
        let mut candidates: Vec<Vec<Rationale>> = starts.iter().map(|_| Vec::new()).collect();
        self.write(stage, &mut |row| {
            let rationale = accept_rationale(row, &starts[row.goal.label], &mut seen)?;
            candidates[row.goal.label].push(rationale);
            Ok(())
        })?;
        candidates.iter_mut().for_each(|own| {
            own.sort_by_key(|rationale| rationale.id);
            own.truncate(wanted);
        });
        self.rationales = self.most_typical(candidates, task.seed.rationales)?;
        if let Some(label) = self.rationales.iter().position(Vec::is_empty) {
            let label = &task.labels[label].name;
            let advice = "check journal/rationales.jsonl and change prompts.rationale";
            return Err(Error::Failed(format!("the generator wrote no usable rationale for label {label:?}; {advice}")));
        }
        let by_label = task.labels.iter().zip(&self.rationales).map(|(label, rationales)| (label.name.clone(), rationales.clone().into()));
        write_json(&self.run.join("rationales.json"), &by_label.collect::<serde_json::Map<String, serde_json::Value>>())
    }

    /// For each label, the rationales that the judge finds most typical, best first; all of them in order if there are few enough.
    ///
    /// A small generator judges better than it writes: many of its rationales fit any label.
    fn most_typical(&mut self, candidates: Vec<Vec<Rationale>>, wanted: usize) -> Result<Vec<Vec<String>>> {
        let texts = |reasons: Vec<Rationale>| reasons.into_iter().map(|reason| reason.text).collect();
        if candidates.iter().all(|reasons| reasons.len() <= wanted) {
            return Ok(candidates.into_iter().map(texts).collect());
        }
        let keyed: Vec<(u64, Input)> = candidates.iter().flatten().map(|reason| (reason.id, reason.text.as_str().into())).collect();
        let mut answers = self.posteriors("judge-rationales", "judging the rationales", &keyed)?.into_iter();
        let choose = |(label, reasons): (usize, Vec<Rationale>)| {
            let margin = |answers: Vec<Vec<f32>>| centre(&mean_log_probs(&answers))[label];
            let mut judged: Vec<(f64, Rationale)> =
                reasons.into_iter().map(|reason| (margin(answers.next().expect("one each")), reason)).collect();
            judged.sort_by(|a, b| b.0.total_cmp(&a.0));
            texts(judged.into_iter().take(wanted).map(|(_, reason)| reason).collect())
        };
        Ok(candidates.into_iter().enumerate().map(choose).collect())
    }
}

/// A rationale for a label, and the request that wrote it.
struct Rationale {
    id: u64,
    text: String,
}

/// Fewest words of a rationale besides the start that its prompt gives it.
const MIN_WORDS: usize = 3;

/// A finished rationale that is new, prefixed with its label's `answer_start`.
fn accept_rationale(row: &Written<Labels>, start: &str, seen: &mut HashSet<(usize, String)>) -> Result<Rationale, Rejection> {
    let text = clean(&format!("{start}{}", row.text));
    if row.finish == Finish::Length {
        return Err(Rejection::Unfinished);
    }
    if words(&row.text).count() < MIN_WORDS {
        return Err(Rejection::TooShort);
    }
    if !seen.insert((row.goal.label, fingerprint(&text))) {
        return Err(Rejection::Duplicate);
    }
    Ok(Rationale { id: row.id, text })
}
