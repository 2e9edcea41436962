//! Which requests a writing stage sends next: a label whose texts are rejected more often is asked for more.

use std::collections::VecDeque;

/// A stratum is given up after so many times as many requests as it has wanted rows.
const ATTEMPTS: usize = 4;
/// Fewest requests of a further wave, over all strata.
const LEAST_MORE: usize = 8;

/// About the most requests that `wanted` rows of some strata take.
pub fn most_requests(wanted: usize, strata: usize) -> usize {
    wanted * (ATTEMPTS + 1) + LEAST_MORE * strata.max(1)
}

/// A stratum that few requests were sent for is thought to accept like so many of all strata.
const OF_ALL: f64 = 16.0;

/// About the requests that bring so many accepted texts, if as few are accepted as of those `sent` before: a wave as small as what is
/// missing would leave most of the generator's slots empty, again and again. `all` are accepted and sent over all strata.
pub fn requests_for(missing: usize, (accepted, sent): (usize, usize), all: (usize, usize)) -> usize {
    let usual = if all.1 == 0 { 1.0 } else { all.0 as f64 / all.1 as f64 };
    let share = (accepted as f64 + OF_ALL * usual) / (sent as f64 + OF_ALL);
    // Rounded down: what is accepted beyond what is missing is thrown away.
    if share > 0.0 { ((missing as f64 / share) as usize).max(missing) } else { missing * ATTEMPTS }
}

/// Requests by their ids, in waves. Which are sent follows from what was accepted of earlier waves, and from nothing else.
pub struct Waves<'p> {
    /// The stratum of a request.
    stratum: &'p dyn Fn(u64) -> usize,
    of: Vec<Stratum>,
    /// The first id that was not looked at yet.
    next: u64,
    first: bool,
}

#[derive(Clone, Default)]
struct Stratum {
    wanted: usize,
    sent: usize,
    /// Sent, and neither accepted nor rejected yet.
    open: usize,
    accepted: usize,
    /// Ids that were passed over.
    waiting: VecDeque<u64>,
}

impl<'p> Waves<'p> {
    /// `wanted` accepted rows, of each of `strata` as many as requests `0, 1 … wanted - 1` are of it.
    pub fn new(strata: usize, wanted: usize, stratum: &'p dyn Fn(u64) -> usize) -> Self {
        let mut of = vec![Stratum::default(); strata];
        (0..wanted as u64).for_each(|id| of[stratum(id)].wanted += 1);
        Waves { stratum, of, next: 0, first: true }
    }

    /// Notes what became of a request.
    pub fn settle(&mut self, id: u64, accepted: bool) {
        let own = &mut self.of[(self.stratum)(id)];
        own.open -= 1;
        own.accepted += usize::from(accepted);
    }

    /// Accepted and wanted rows, and requests, of each stratum.
    pub fn counts(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.of.iter().map(|own| (own.accepted, own.wanted, own.sent))
    }

    /// Accepted rows, no stratum more than it wants.
    pub fn accepted(&self) -> usize {
        self.of.iter().map(|own| own.accepted.min(own.wanted)).sum()
    }

    /// Whether a stratum has as many rows as it wants.
    pub fn is_full(&self, stratum: usize) -> bool {
        self.of[stratum].accepted >= self.of[stratum].wanted
    }

    /// The requests that the missing rows take, if as many are accepted as so far; none once every stratum has its rows or is given up.
    pub fn next_missing(&mut self) -> Vec<u64> {
        let least = if self.first { 0 } else { LEAST_MORE.div_ceil(self.of.len().max(1)) };
        self.first = false;
        let all = self.of.iter().fold((0, 0), |(accepted, sent), own| (accepted + own.accepted, sent + own.sent));
        let more = |own: &Stratum| match own.wanted.saturating_sub(own.accepted) {
            0 => 0,
            _ if own.sent > own.wanted * ATTEMPTS => 0,
            missing => requests_for(missing, (own.accepted, own.sent), all).min(own.wanted * (ATTEMPTS + 1) - own.sent).max(least),
        };
        let counts: Vec<usize> = self.of.iter().map(more).collect();
        self.take(counts)
    }

    /// So many requests, for the strata that are furthest behind what they want.
    pub fn next_some(&mut self, count: usize) -> Vec<u64> {
        self.first = false;
        let mut counts = vec![0; self.of.len()];
        for _ in 0..count {
            let behind = |&place: &usize| {
                let own: &Stratum = &self.of[place];
                (own.accepted + own.open + counts[place]) as f64 / own.wanted as f64
            };
            let open = |own: &Stratum| own.accepted < own.wanted && own.sent <= own.wanted * ATTEMPTS;
            let places = (0..counts.len()).filter(|&place| open(&self.of[place]));
            let Some(place) = places.min_by(|a, b| behind(a).total_cmp(&behind(b))) else { break };
            counts[place] += 1;
        }
        self.take(counts)
    }

    /// The next ids of each stratum, in ascending order.
    fn take(&mut self, counts: Vec<usize>) -> Vec<u64> {
        let mut ids = Vec::new();
        for (place, count) in counts.into_iter().enumerate() {
            for _ in 0..count {
                while self.of[place].waiting.is_empty() {
                    self.of[(self.stratum)(self.next)].waiting.push_back(self.next);
                    self.next += 1;
                }
                let own = &mut self.of[place];
                ids.extend(own.waiting.pop_front());
                own.sent += 1;
                own.open += 1;
            }
        }
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sends waves until none is left; a request is accepted where `accepts` says so.
    fn run(waves: &mut Waves, accepts: &dyn Fn(u64) -> bool) -> Vec<Vec<u64>> {
        let mut sent = Vec::new();
        loop {
            let wave = waves.next_missing();
            if wave.is_empty() {
                return sent;
            }
            wave.iter().for_each(|&id| waves.settle(id, accepts(id)));
            sent.push(wave);
        }
    }

    #[test]
    fn where_all_are_accepted_there_is_one_wave() {
        let turns = |id: u64| id as usize % 3;
        let mut waves = Waves::new(3, 7, &turns);
        assert_eq!(run(&mut waves, &|_| true), [(0..7).collect::<Vec<_>>()]);
        assert_eq!(waves.counts().map(|(accepted, wanted, _)| (accepted, wanted)).collect::<Vec<_>>(), [(3, 3), (2, 2), (2, 2)]);
    }

    #[test]
    fn a_label_that_starves_is_asked_for_more_and_given_up() {
        let turns = |id: u64| id as usize % 2;
        let mut waves = Waves::new(2, 40, &turns);
        // One in four texts of label 1, and nothing but it is asked for again.
        let sent = run(&mut waves, &|id| id % 2 == 0 || id % 8 == 1);
        assert!(sent[1..].iter().flatten().all(|id| id % 2 == 1), "{sent:?}");
        assert!(waves.counts().all(|(accepted, wanted, _)| accepted >= wanted));
        let mut waves = Waves::new(2, 40, &turns);
        run(&mut waves, &|id| id % 2 == 0);
        let counts: Vec<_> = waves.counts().collect();
        assert_eq!(counts[0], (20, 20, 20));
        assert!(counts[1].0 == 0 && (80..=120).contains(&counts[1].2), "{counts:?}");
    }

    #[test]
    fn two_waves_bring_most_of_what_is_wanted_where_half_is_rejected() {
        let turns = |id: u64| id as usize % 2;
        let mut waves = Waves::new(2, 400, &turns);
        let sent = run(&mut waves, &|id| id / 2 % 2 == 0);
        let sizes: Vec<usize> = sent.iter().map(Vec::len).collect();
        assert_eq!(sizes, [400, 400]);
    }

    /// Where nothing is sent ahead, 21 labels of five rows take 8 waves and 2 of 200 rows 9, if half is accepted.
    #[test]
    fn few_waves_are_sent_and_few_texts_thrown_away() {
        for (strata, rows, most_waves, most_spare) in [(2, 200, 4.0, 0.03), (21, 5, 5.5, 0.12), (21, 50, 6.0, 0.05)] {
            let (turns, runs) = (|id: u64| id as usize % strata, 40);
            let (mut waves_sent, mut spare) = (0, 0);
            for seed in 0..runs {
                let mut waves = Waves::new(strata, strata * rows, &turns);
                let half = |id: u64| crate::math::random::derive(seed, "accepted", id).is_multiple_of(2);
                waves_sent += run(&mut waves, &half).len();
                spare += waves.counts().map(|(accepted, wanted, _)| accepted.saturating_sub(wanted)).sum::<usize>();
            }
            let (waves_sent, spare) = (waves_sent as f64 / runs as f64, spare as f64 / (runs as usize * strata * rows) as f64);
            assert!(waves_sent < most_waves && spare < most_spare, "{strata} x {rows}: {waves_sent} waves, {spare} thrown away");
        }
    }

    #[test]
    fn a_few_requests_go_to_the_label_that_is_behind() {
        let turns = |id: u64| id as usize % 2;
        let mut waves = Waves::new(2, 100, &turns);
        let first = waves.next_some(10);
        assert_eq!(first, (0..10).collect::<Vec<_>>());
        first.iter().for_each(|&id| waves.settle(id, id % 2 == 0));
        assert!(waves.next_some(5).iter().all(|id| id % 2 == 1));
    }

    proptest! {
        #[test]
        fn no_request_is_sent_twice_and_none_without_end(strata in 1usize..6, wanted in 0usize..60, accepts in proptest::collection::vec(any::<bool>(), 1..20)) {
            let turns = |id: u64| (id * id) as usize % 7 % strata;
            let mut waves = Waves::new(strata, wanted, &turns);
            let sent = run(&mut waves, &|id| accepts[id as usize % accepts.len()]).concat();
            let distinct: std::collections::HashSet<u64> = sent.iter().copied().collect();
            prop_assert_eq!(distinct.len(), sent.len());
            prop_assert!(sent.len() <= most_requests(wanted, strata));
            prop_assert!(waves.counts().all(|(accepted, wanted, sent)| accepted >= wanted || sent > wanted * ATTEMPTS));
        }
    }
}
