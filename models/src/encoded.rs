//! Texts as the model reads them: token ids, and for a question where the tokens of its context come from.

use crate::span::Span;
use std::ops::Range;

/// A text, or a pair of texts, as the model reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// `[CLS] text [SEP]`, or `[CLS] text [SEP] pair [SEP]`.
    pub input_ids: Vec<u32>,
    /// 0 up to the first `[SEP]`, 1 after it.
    pub token_type_ids: Vec<u32>,
}

/// A question and the text that holds its answer, or a window of it, as the model reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedQuestion {
    /// `[CLS] question [SEP] context [SEP]`.
    pub encoded: Encoded,
    /// The tokens of the context, or of its window, counted from `[CLS]`.
    pub context: Range<usize>,
    /// For each of them, its byte range in the context.
    pub offsets: Vec<(usize, usize)>,
}

impl EncodedQuestion {
    /// The tokens that cover these bytes of the context; `[CLS]` if a part is outside the window.
    pub fn span_of(&self, bytes: Range<usize>) -> Span {
        let begins_before = self.offsets.first().is_some_and(|&(first, _)| first <= bytes.start);
        let start = self.offsets.iter().position(|&(_, end)| end > bytes.start);
        let end = self.offsets.iter().position(|&(_, end)| end >= bytes.end);
        match (start, end) {
            (Some(start), Some(end)) if begins_before && start <= end => {
                Span { start: self.context.start + start, end: self.context.start + end }
            }
            _ => Span { start: 0, end: 0 },
        }
    }

    /// The byte range of a span in the context; `None` if the span is not inside the window.
    pub fn bytes_of(&self, span: Span) -> Option<Range<usize>> {
        let offset = |token: usize| self.offsets.get(token.checked_sub(self.context.start)?);
        let (&(start, _), &(_, end)) = (offset(span.start)?, offset(span.end)?);
        Some(start..end)
    }
}
