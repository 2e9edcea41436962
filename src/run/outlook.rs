//! How long a run still takes: what each part was estimated to take, corrected by what parts of its kind took here.

use serde::{Deserialize, Serialize};

use super::cost::{Spent, Work};

/// A part of a run, and the seconds that it is expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    pub part: Work,
    pub seconds: f64,
}

/// The parts of a run that makes every round, in their order: `estimate.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    pub parts: Vec<Expected>,
}

/// The file in a run's folder; for people and for `lacuna status`.
pub const ESTIMATE: &str = "estimate.json";

/// Parts that were expected to take less say little of their kind.
const TELLING: f64 = 1.0;
/// How far what was measured may move what was expected.
const MOST: f64 = 5.0;

/// What a machine is quick or slow at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Writing,
    Judging,
    Training,
}

fn kind(part: Work) -> Kind {
    match part {
        Work::Rationales | Work::Written(_) => Kind::Writing,
        Work::Calibration | Work::Read(_) | Work::Judged(_) => Kind::Judging,
        Work::Trained(_) | Work::Model(_) | Work::Choice => Kind::Training,
    }
}

impl Outlook {
    /// Seconds of the whole run.
    pub fn whole(&self) -> f64 {
        self.parts.iter().map(|part| part.seconds).sum()
    }

    /// Seconds that are left after `elapsed` seconds of the part that is under way, all rounds made; `spent` is what earlier parts took,
    /// and earlier processes of this one. `None` for a part that was not expected.
    pub fn left(&self, spent: &[Spent], under_way: Work, elapsed: f64) -> Option<f64> {
        let place = self.parts.iter().position(|own| own.part == under_way)?;
        let (done, rest) = self.parts.split_at(place);
        let took = |part: Work| spent.iter().filter(|spent| spent.part == part).map(|spent| spent.seconds).sum::<f64>();
        let factor = |of: Kind| {
            let own = done.iter().filter(|own| kind(own.part) == of && own.seconds >= TELLING);
            let (took, expected) = own
                .map(|own| (took(own.part), own.seconds))
                .filter(|(took, _)| *took > 0.0)
                .fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
            if expected > 0.0 { (took / expected).clamp(1.0 / MOST, MOST) } else { 1.0 }
        };
        let corrected = |own: &Expected| own.seconds * factor(kind(own.part));
        let after: f64 = rest[1..].iter().map(corrected).sum();
        Some((corrected(&rest[0]) - took(under_way) - elapsed).max(0.0) + after)
    }
}

/// Seconds, as one would say them.
pub fn duration(seconds: f64) -> String {
    match seconds.round() as u64 {
        seconds @ ..100 => format!("{seconds} s"),
        seconds @ ..6000 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::cost::Fits;

    #[test]
    fn what_is_left_follows_what_earlier_parts_took() {
        let expected = |part, seconds| Expected { part, seconds };
        let parts = vec![
            expected(Work::Written(0), 100.0),
            expected(Work::Judged(0), 50.0),
            expected(Work::Written(1), 40.0),
            expected(Work::Choice, 30.0),
        ];
        let outlook = Outlook { parts };
        assert_eq!(outlook.left(&[], Work::Written(0), 20.0), Some(200.0));
        let spent = [Spent { part: Work::Written(0), seconds: 200.0, fits: Fits::default() }];
        assert_eq!(outlook.left(&spent, Work::Judged(0), 60.0), Some(80.0 + 30.0), "writing takes twice as long");
        assert_eq!(outlook.left(&spent, Work::Written(0), 50.0), Some(120.0), "what an earlier process did of the part is done");
        assert_eq!(outlook.left(&spent, Work::Read(0), 0.0), None);
        assert_eq!((duration(99.4), duration(150.0), duration(7000.0)), ("99 s".into(), "3 min".into(), "1 h 56 min".into()));
    }
}
