//! The span of an answer, and the best one by its logits.

use std::ops::Range;

/// The tokens of an answer, counted from the first of its row; both ends belong to it. (0, 0), `[CLS]`, says that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// The span of the largest sum of logits (tokens, 2) among `candidates`, of at most `longest` tokens, and that sum; the earliest of equals.
pub fn best_span(logits: &[f32], candidates: &Range<usize>, longest: usize) -> Option<(Span, f32)> {
    let end = candidates.end.min(logits.len() / 2);
    let spans = (candidates.start..end).flat_map(|start| (start..end.min(start + longest)).map(move |end| Span { start, end }));
    let scored = spans.map(|span| (span, score(logits, span)));
    scored.max_by(|(a, of_a), (b, of_b)| of_a.total_cmp(of_b).then(b.start.cmp(&a.start)))
}

fn score(logits: &[f32], span: Span) -> f32 {
    logits[2 * span.start] + logits[2 * span.end + 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_spans() {
        // Start logits 0 5 1 0, end logits 9 0 2 3.
        let logits = [0.0, 9.0, 5.0, 0.0, 1.0, 2.0, 0.0, 3.0];
        let best = |candidates, longest| best_span(&logits, &candidates, longest).map(|(span, _)| span);
        assert_eq!(best_span(&logits, &(1..4), 4).map(|(_, score)| score), Some(8.0));
        assert_eq!(best(0..4, 4), Some(Span { start: 0, end: 0 }));
        assert_eq!(best(1..4, 4), Some(Span { start: 1, end: 3 }));
        assert_eq!(best(1..4, 2), Some(Span { start: 1, end: 2 }));
        assert_eq!(best(2..9, 1), Some(Span { start: 2, end: 2 }));
        assert_eq!(best(2..2, 4), None);
    }
}
