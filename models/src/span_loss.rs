//! The loss of a span head.

use crate::batch::Shard;
use crate::span::Span;
#[cfg(feature = "candle")]
use candle_core::Tensor;
use lacuna_kernels::cross_entropy::soft_cross_entropy;
#[cfg(feature = "candle")]
use lacuna_kernels::padding::Padding;

/// `scale` · Σ over the rows of the mean of two cross-entropies, of the start and of the end, each over the row's tokens; leaves the
/// gradient in `dlogits`. `logits` and `dlogits` are (tokens, 2).
pub fn span_loss(shard: &Shard, logits: &[f32], spans: &[Span], scale: f32, dlogits: &mut [f32]) -> f64 {
    let (mut column, mut dcolumn, mut target, mut loss) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    for (ends, span) in shard.cu_seqlens.windows(2).zip(spans) {
        let row = 2 * ends[0]..2 * ends[1];
        for (side, answer) in [span.start, span.end].into_iter().enumerate() {
            column.clear();
            column.extend(logits[row.clone()].iter().skip(side).step_by(2));
            target.clear();
            target.resize(column.len(), 0.0);
            target[answer] = 1.0;
            dcolumn.resize(column.len(), 0.0);
            loss += soft_cross_entropy(&column, &target, &[1.0], 0.5 * scale, &mut dcolumn);
            dlogits[row.clone()].iter_mut().skip(side).step_by(2).zip(&dcolumn).for_each(|(d, &g)| *d = g);
        }
    }
    loss
}

/// [`span_loss`] of candle's operations, as a scalar: `logits` (tokens, 2), `padding` of the shard's rows.
#[cfg(feature = "candle")]
pub fn composed_loss(padding: &Padding, logits: &Tensor, spans: &[Span], scale: f32) -> candle_core::Result<Tensor> {
    let (rows, longest) = (padding.rows(), padding.longest());
    let padded = padding.pad(logits)?.broadcast_add(&padding.mask().unsqueeze(2)?)?;
    // A row of the cross-entropy is a side of a span.
    let sides = padded.transpose(1, 2)?.reshape((2 * rows, longest))?;
    let mut targets = vec![0.0; 2 * rows * longest];
    for (answer, side) in spans.iter().flat_map(|span| [span.start, span.end]).zip(targets.chunks_exact_mut(longest)) {
        side[answer] = 1.0;
    }
    lacuna_kernels::cross_entropy::composed(&sides, &targets, &vec![1.0; 2 * rows], 0.5 * scale)
}
