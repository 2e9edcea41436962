//! Distributes sorted jobs to workers: neighbouring jobs stay on one worker, and an idle worker steals from the one with most left.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The jobs `0..n`, each handed out once.
pub struct Queue {
    /// Each worker's remaining jobs.
    shares: Mutex<Vec<Range<usize>>>,
}

impl Queue {
    /// Gives each of at least one worker an equal range of neighbouring jobs.
    pub fn new(jobs: usize, workers: usize) -> Self {
        let share = |worker: usize| worker * jobs / workers..(worker + 1) * jobs / workers;
        Queue { shares: Mutex::new((0..workers).map(share).collect()) }
    }

    /// The next job of a worker. A worker whose share is empty steals the second half of the largest remaining share.
    pub fn claim(&self, worker: usize) -> Option<usize> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if shares[worker].is_empty() {
            let victim = (0..shares.len()).max_by_key(|&other| shares[other].len())?;
            let Range { start, end } = shares[victim].clone();
            let middle = start + (end - start) / 2;
            shares[victim] = start..middle;
            shares[worker] = middle..end;
        }
        shares[worker].next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_stay_together_until_a_share_is_empty() {
        let queue = Queue::new(8, 2);
        assert_eq!((0..4).map(|_| queue.claim(0).unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(queue.claim(1), Some(4));
        assert_eq!(queue.claim(0), Some(6), "the later half of 5..8");
        assert_eq!(queue.claim(1), Some(5));
    }

    proptest! {
        #[test]
        fn every_job_is_handed_out_once(jobs in 0..200usize, workers in 1..6usize, turns in prop::collection::vec(0..6usize, 0..300)) {
            let queue = Queue::new(jobs, workers);
            let mut dealt: Vec<usize> = turns.into_iter().filter_map(|turn| queue.claim(turn % workers)).collect();
            dealt.extend(std::iter::from_fn(|| queue.claim(0)));
            dealt.sort_unstable();
            prop_assert_eq!(dealt, (0..jobs).collect::<Vec<_>>());
        }
    }
}
