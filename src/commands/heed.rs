//! `lacuna run --continue`: a finished run begins again with what people have decided about its rows. What does not depend on that is kept:
//! its stages find nothing to do.

use super::setup::{Loaded, Setup};
use crate::data::example::GoldRow;
use crate::data::head::Head;
use crate::data::split::Split;
use crate::error::{Error, Result};
use crate::files::whole::remove_entries;
use crate::run::folder::{RunDir, TWINS};
use crate::run::manifest::Manifest;
use crate::run::outlook::ESTIMATE;
use crate::run::review::{Decisions, GOLD, Verdict};
use crate::run::stage::Stage;
use crate::synthesis::stages::Stages;

impl<H: Head> Split<H> {
    /// Without the rows that were rejected, and with the labels that others were given.
    pub(super) fn heeding(&self, head: &H, decisions: &Decisions) -> Self {
        let heed = |rows: &[GoldRow<H>]| rows.iter().filter_map(|row| heeding(row.clone(), head, decisions)).collect();
        Split { mine: heed(&self.mine), select: heed(&self.select) }
    }

    /// Whether each stratum still has rows on both sides that had some.
    ///
    /// # Errors
    /// A side that has none left, of a label or at all.
    pub(super) fn check_what_is_left(&self, drawn: &Self, names: &[String]) -> Result<(), String> {
        for (side, left, before) in [("mine", &self.mine, &drawn.mine), ("select", &self.select, &drawn.select)] {
            for stratum in before.iter().map(GoldRow::stratum) {
                if !left.iter().any(|row| row.stratum() == stratum) {
                    let of = names.get(stratum).map_or(String::new(), |name| format!(" with the label {name:?}"));
                    return Err(format!(
                        "no gold row{of} would be left in {side}: take back some of the decisions about gold rows (accept)"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn heeding<H: Head>(row: GoldRow<H>, head: &H, decisions: &Decisions) -> Option<GoldRow<H>> {
    let id = format!("{GOLD}{}", row.line);
    let Some(decision) = decisions.about(&id, &row.text, row.text_pair.as_deref()) else { return Some(row) };
    match (decision.verdict, decision.label.as_deref().and_then(|label| head.gold_named(label))) {
        (Verdict::Reject, _) => None,
        (Verdict::Relabel, Some(gold)) => Some(GoldRow { gold, ..row }),
        _ => Some(row),
    }
}

impl Setup {
    /// Sets a finished run back to its first stage, if anything was decided since it was made. Where that is about gold rows, all that the
    /// judges have said is forgotten, as they learn from those, and so are the rounds.
    ///
    /// # Errors
    /// A run of another version; decisions that leave a label without gold rows.
    pub(super) fn go_on<H: Stages>(
        &self,
        run: &RunDir,
        manifest: &mut Manifest,
        loaded: &Loaded<H>,
        drawn: &Split<H>,
        first: Stage,
    ) -> Result<()> {
        let (place, progress) = (run.path().display(), self.machine.progress());
        if manifest.stage != Stage::Done {
            progress.say("the run is not done: it goes on where it stopped");
            return Ok(());
        }
        let (now, before) = (Decisions::read(run.path())?, Decisions::heeded(run.path())?);
        if now.mark(false) == before.mark(false) {
            progress.say("nothing was decided about its rows since (lacuna review): there is nothing to go on with");
            return Ok(());
        }
        if manifest.lacuna != env!("CARGO_PKG_VERSION") {
            return Err(Error::Run(format!(
                "{place} was made by lacuna {}, which accepts texts by other rules: go on with that version",
                manifest.lacuna
            )));
        }
        let names: Vec<String> = self.task.labels.iter().map(|label| label.name.clone()).collect();
        drawn.heeding(&loaded.small.head, &now).check_what_is_left(drawn, &names).map_err(|why| Error::Run(format!("{place}: {why}")))?;
        let of_gold = now.mark(true) != before.mark(true);
        let remove = |folder: &str, old: &dyn Fn(&str) -> bool| {
            let folder = run.join(folder);
            remove_entries(&folder, old).map_err(Error::io("remove what is made anew in", &folder))
        };
        remove(TWINS, &|name| name.ends_with(".json"))?;
        remove("", &|name| name == ESTIMATE)?;
        if of_gold {
            let rationales = "judge-rationales.jsonl";
            remove("journal", &|name| ["judge-", "read-", "states-"].iter().any(|start| name.starts_with(start)) && name != rationales)?;
            (manifest.calibrations, manifest.judge, manifest.best_round) = (Vec::new(), None, None);
            manifest.rounds.clear();
        }
        manifest.stage = first;
        manifest.write(run)?;
        // Last: after a crash before it, the run is only made as it was.
        now.heed(run.path())?;
        progress.say(format!("going on with {} decisions about its rows", now.len()));
        Ok(())
    }
}
