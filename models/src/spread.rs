//! Spreads a few large jobs over rayon's threads.

use rayon::prelude::*;

/// Runs every job; results in the order of the jobs. The caller chooses the pool: the one of the `ThreadPool::install` around the call, or
/// else rayon's global one. A single job runs on the calling thread.
pub fn spread<T: Send, R: Send>(jobs: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if jobs.len() <= 1 { jobs.into_iter().map(work).collect() } else { jobs.into_par_iter().map(work).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order() {
        assert_eq!(spread(vec![1, 2, 3], |x| x * 2), [2, 4, 6]);
        assert!(spread(Vec::<i32>::new(), |x| x).is_empty());
    }

    #[test]
    fn a_single_job_stays_on_its_thread() {
        assert_eq!(spread(vec![()], |()| std::thread::current().id()), [std::thread::current().id()]);
    }
}
