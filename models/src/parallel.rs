//! Runs a few large jobs at once, one a thread.

/// Runs every job, the first on this thread and each other on one of its own; results in the order of the jobs.
pub fn run<T: Send, R: Send>(jobs: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let mut jobs = jobs.into_iter();
        let first = jobs.next();
        let work = &work;
        let others: Vec<_> = jobs.map(|job| scope.spawn(move || work(job))).collect();
        let mut results: Vec<R> = first.into_iter().map(work).collect();
        for thread in others {
            results.push(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn keeps_the_order() {
        assert_eq!(super::run(vec![1, 2, 3], |x| x * 2), [2, 4, 6]);
        assert!(super::run(Vec::<i32>::new(), |x| x).is_empty());
    }
}
