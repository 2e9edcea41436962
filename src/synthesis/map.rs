//! The map of a run's texts: gold rows, and those that were read, listed and written, by round.

use serde_json::Value;

use super::head::LoopHead;
use super::likeness::thinned;
use super::state::Synthesis;
use crate::error::Result;
use crate::files::whole::write_json_lines;
use crate::math::random;
use crate::measure::map::places;
use crate::run::place::{MAP, Place};

/// Most gold rows, and rows of each origin and round, on the map; and characters of a text.
const GOLD: usize = 150;
const EACH: usize = 90;
const SHOWN: usize = 140;

impl<H: LoopHead> Synthesis<'_, H> {
    /// Writes `map.jsonl`, which shows gold rows and rows of the dataset, evenly spaced. What the pretrained small model makes of their
    /// texts places them; labels do not.
    pub(super) fn draw_map(&self, dataset: &[Value]) -> Result<()> {
        let gold: Vec<Place> = self.inputs.split.gold().map(|row| self.gold_place(row.written(), &row.goal())).collect();
        let mut all = thinned(gold, GOLD);
        let mut kinds: Vec<(&str, u64)> = dataset.iter().map(kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for own in kinds {
            let rows: Vec<Place> = dataset.iter().filter(|row| kind(row) == own).map(dataset_place).collect();
            all.extend(thinned(rows, EACH));
        }
        let texts: Vec<&str> = all.iter().map(|place| place.text.as_str()).collect();
        let features = self.inputs.small.features(&texts, self.inputs.task.train.max_tokens)?;
        let found = places(&features, random::derive(self.inputs.seed, "map", 0))?;
        let rounded = |x: f64| (x * 1000.0).round() / 1000.0;
        let placed = found.into_iter().zip(all).map(|([x, y], place)| {
            let text: String = place.text.chars().take(SHOWN).collect();
            Place { x: rounded(x), y: rounded(y), text, ..place }
        });
        write_json_lines(&self.run.join(MAP), placed)
    }

    fn gold_place(&self, text: &str, goal: &H::Goal) -> Place {
        // An answer is no label.
        let label = H::one_or_several(goal).map(|labels| in_one(labels.iter().map(|&label| self.inputs.task.labels[label].name.as_str())));
        Place { x: 0.0, y: 0.0, origin: "gold".to_string(), round: 0, label, text: text.to_string() }
    }
}

/// Origin and round of a row of the dataset.
fn kind(row: &Value) -> (&str, u64) {
    (row["origin"].as_str().unwrap_or_default(), row["round"].as_u64().unwrap_or(0))
}

/// A row of the dataset without its place: the part that was written.
fn dataset_place(row: &Value) -> Place {
    let (origin, round) = kind(row);
    let text = ["question", "text_pair", "text"].iter().find_map(|field| row[field].as_str()).unwrap_or_default();
    let several = row["labels"].as_array().map(|labels| in_one(labels.iter().filter_map(Value::as_str)));
    let label = row["label"].as_str().map(str::to_string).or(several);
    Place { x: 0.0, y: 0.0, origin: origin.to_string(), round: round as usize, label, text: text.to_string() }
}

/// Several labels as one.
fn in_one<'l>(labels: impl Iterator<Item = &'l str>) -> String {
    let labels: Vec<&str> = labels.collect();
    if labels.is_empty() { "none".to_string() } else { labels.join(", ") }
}
