//! Repetition penalties: lower the logits of tokens that would repeat the text, or copy a run of tokens from the prompt.

use super::prefix::Token;
use serde::{Deserialize, Serialize};

/// Repetition penalties; the default is none.
///
/// The first three apply to the generated text only, not to the prompt, whose words a text may need. DRY applies to both: it keeps a
/// text from copying an in-context example.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repetition {
    /// Number of last tokens in the window; 0 turns everything off.
    pub last_n: u32,
    /// Divides positive logits of tokens in the window and multiplies negative ones (CTRL, arXiv 1909.05858), above 0; 1 is off.
    pub repeat: f32,
    /// Frequency penalty, subtracted for each occurrence in the window; 0 is off.
    pub frequency: f32,
    /// Presence penalty, subtracted once for a token in the window; 0 is off.
    pub presence: f32,
    /// DRY ("don't repeat yourself"): multiplier · base^(n − allowed) is subtracted from the logit of a token that would extend a repeated
    /// run of n tokens. 0 is off.
    pub dry_multiplier: f32,
    /// Base of DRY's penalty, at least 1.
    pub dry_base: f32,
    /// DRY: the longest run that may be repeated without a penalty.
    pub dry_allowed: u32,
}

impl Default for Repetition {
    fn default() -> Self {
        Repetition::OFF
    }
}

impl Repetition {
    /// No penalty. The window and DRY's base and length have llama.cpp's defaults, for when a penalty is turned on.
    pub const OFF: Repetition =
        Repetition { last_n: 64, repeat: 1.0, frequency: 0.0, presence: 0.0, dry_multiplier: 0.0, dry_base: 1.75, dry_allowed: 2 };

    /// Whether any penalty is on.
    pub fn is_on(&self) -> bool {
        self.counts() || self.dry()
    }

    fn counts(&self) -> bool {
        self.last_n > 0 && (self.repeat != 1.0 || self.frequency != 0.0 || self.presence != 0.0)
    }

    /// Whether DRY is on, which also searches the prompt.
    pub fn dry(&self) -> bool {
        self.last_n > 0 && self.dry_multiplier != 0.0
    }

    /// Refuses values out of range.
    pub fn check(&self) -> Result<(), String> {
        let Repetition { repeat, frequency, presence, dry_multiplier, dry_base, .. } = *self;
        if !(repeat.is_finite() && repeat > 0.0) {
            return Err(format!("repetition.repeat is {repeat}; it must be above 0 (1 is off)"));
        }
        for (name, value) in [("frequency", frequency), ("presence", presence)] {
            if !value.is_finite() {
                return Err(format!("repetition.{name} is {value}; it must be a number (0 is off)"));
            }
        }
        if !(dry_multiplier.is_finite() && dry_multiplier >= 0.0) {
            return Err(format!("repetition.dry_multiplier is {dry_multiplier}; it must be 0 or more (0 is off)"));
        }
        if !(dry_base.is_finite() && dry_base >= 1.0) {
            return Err(format!("repetition.dry_base is {dry_base}; it must be 1 or more"));
        }
        Ok(())
    }

    /// Whether a penalty may raise a logit.
    pub fn may_raise(&self) -> bool {
        self.repeat < 1.0 || self.frequency < 0.0 || self.presence < 0.0
    }

    /// Lowers `logits (n_vocab)` after the tokens of `prompt` and `text`. Ids outside the vocabulary are ignored.
    pub fn apply(&self, logits: &mut [f32], prompt: &[Token], text: &[Token]) {
        self.change(prompt, text, |token, penalty| {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = penalty(*logit);
            }
        });
    }

    /// Gives each token that is penalised after `prompt` and `text` to `change`, with the function of its logit; a token may come twice.
    pub fn change(&self, prompt: &[Token], text: &[Token], mut change: impl FnMut(Token, &dyn Fn(f32) -> f32)) {
        if self.counts() {
            self.change_counted(last(text, self.last_n as usize), &mut change);
        }
        if self.dry() {
            self.change_continued(prompt, text, &mut change);
        }
    }

    fn change_counted(&self, window: &[Token], change: &mut impl FnMut(Token, &dyn Fn(f32) -> f32)) {
        let mut sorted = window.to_vec();
        sorted.sort_unstable();
        for same in sorted.chunk_by(|a, b| a == b) {
            let subtracted = same.len() as f32 * self.frequency + self.presence;
            change(same[0], &|logit| (if logit <= 0.0 { logit * self.repeat } else { logit / self.repeat }) - subtracted);
        }
    }

    fn change_continued(&self, prompt: &[Token], text: &[Token], change: &mut impl FnMut(Token, &dyn Fn(f32) -> f32)) {
        let from_prompt = last(prompt, (self.last_n as usize).saturating_sub(text.len()));
        let history = [from_prompt, last(text, self.last_n as usize)].concat();
        for (token, run) in continued_runs(&history, self.dry_allowed.max(1) as usize) {
            let exponent = (run as f32 - self.dry_allowed as f32).max(0.0);
            // A run of hundreds of tokens must not make the logit infinite.
            let subtracted = (self.dry_multiplier * self.dry_base.powf(exponent)).min(1e30);
            change(token, &|logit| logit - subtracted);
        }
    }
}

fn last(tokens: &[Token], n: usize) -> &[Token] {
    &tokens[tokens.len().saturating_sub(n)..]
}

/// The tokens that followed an earlier occurrence of a suffix of `history`, each with the length of the longest such suffix, at least
/// `least` tokens. Z-algorithm on the reversed history (Gusfield 1997, section 1.4).
fn continued_runs(history: &[Token], least: usize) -> Vec<(Token, usize)> {
    let n = history.len();
    let reversed = |i: usize| history[n - 1 - i];
    let mut longest: Vec<(Token, usize)> = Vec::new();
    let mut lengths = vec![0usize; n];
    let (mut left, mut right) = (0, 0); // reversed[left..right] is a prefix of reversed
    for i in 1..n {
        let mut length = if i < right { lengths[i - left].min(right - i) } else { 0 };
        while i + length < n && reversed(length) == reversed(i + length) {
            length += 1;
        }
        if i + length > right {
            (left, right) = (i, i + length);
        }
        lengths[i] = length;
        if length >= least {
            let token = reversed(i - 1);
            match longest.iter_mut().find(|(other, _)| *other == token) {
                Some((_, run)) => *run = (*run).max(length),
                None => longest.push((token, length)),
            }
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_in_the_window_are_penalised() {
        let controls = Repetition { last_n: 3, repeat: 2.0, frequency: 0.5, presence: 0.25, ..Repetition::OFF };
        let mut logits = vec![4.0, -4.0, 4.0, 4.0];
        controls.apply(&mut logits, &[3, 3], &[2, 0, 1, 0]);
        assert_eq!(logits, [4.0 / 2.0 - 2.0 * 0.5 - 0.25, -4.0 * 2.0 - 0.5 - 0.25, 4.0, 4.0], "2 has left the window, 3 is the prompt's");
    }

    #[test]
    fn a_run_from_the_prompt_is_penalised() {
        let controls = Repetition { dry_multiplier: 1.0, dry_base: 2.0, dry_allowed: 2, ..Repetition::OFF };
        let mut logits = vec![0.0; 10];
        controls.apply(&mut logits, &[1, 2, 3, 4, 5], &[1, 2, 3]);
        let mut want = vec![0.0; 10];
        want[4] = -2.0; // the run 1 2 3 is one longer than allowed
        assert_eq!(logits, want);
        controls.apply(&mut logits, &[1, 2, 3, 4, 5], &[3]);
        assert_eq!(logits, want, "a run of one is free");
    }

    #[test]
    fn off_changes_nothing_and_values_out_of_range_are_refused() {
        let mut logits = vec![1.0; 4];
        assert!(!Repetition::OFF.is_on());
        Repetition::OFF.apply(&mut logits, &[1], &[1, 1, 1]);
        Repetition { last_n: 0, repeat: 3.0, dry_multiplier: 3.0, ..Repetition::OFF }.apply(&mut logits, &[1, 1], &[1, 1, 1]);
        assert_eq!(logits, [1.0; 4]);
        assert_eq!(Repetition::OFF.check(), Ok(()));
        for (bad, name) in [
            (Repetition { repeat: 0.0, ..Repetition::OFF }, "repeat"),
            (Repetition { frequency: f32::NAN, ..Repetition::OFF }, "frequency"),
            (Repetition { presence: f32::INFINITY, ..Repetition::OFF }, "presence"),
            (Repetition { dry_multiplier: -1.0, ..Repetition::OFF }, "dry_multiplier"),
            (Repetition { dry_base: 0.5, ..Repetition::OFF }, "dry_base"),
        ] {
            assert!(bad.check().unwrap_err().contains(name));
        }
    }

    #[test]
    fn a_long_run_stays_finite() {
        let controls = Repetition { last_n: 4000, dry_multiplier: 1.0, dry_base: 10.0, ..Repetition::OFF };
        let mut logits = vec![0.0; 2];
        controls.apply(&mut logits, &[], &[1; 3000]);
        assert!(logits[1] < -1e20 && logits[1].is_finite());
    }

    proptest! {
        #[test]
        fn runs_match_the_definition(history in prop::collection::vec(0..3i32, 0..40), least in 1..5usize) {
            let n = history.len();
            let mut want = std::collections::BTreeMap::new();
            for next in 1..n {
                let run = (0..next).take_while(|&back| history[next - 1 - back] == history[n - 1 - back]).count();
                if run >= least {
                    let longest = want.entry(history[next]).or_insert(0);
                    *longest = run.max(*longest);
                }
            }
            let found: std::collections::BTreeMap<_, _> = continued_runs(&history, least).into_iter().collect();
            prop_assert_eq!(found, want);
        }
    }
}
