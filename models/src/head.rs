//! The heads. Classification: a dense layer and its activation on `[CLS]`, dropout, the classifier. Span: a linear layer on each token.

use crate::architectures::Activation;
use crate::encoder::Encoder;
use crate::layout::HeadLayout;
use crate::masks::Site;
use lacuna_kernels::linear::Scratch;
use lacuna_kernels::mat::Mat;
use lacuna_kernels::{gelu, relu, tanh};

/// Work space of the head; kept between steps. *Queries* are rows for a classifier, tokens for a span.
#[derive(Default)]
pub struct Work {
    /// (rows, hidden): after the activation.
    pooled: Vec<f32>,
    /// (rows, hidden): the slope of the activation, where its output does not tell.
    slope: Vec<f32>,
    /// (queries, hidden): after dropout.
    kept: Vec<f32>,
    /// (rows, labels), or (tokens, 2)
    pub logits: Vec<f32>,
    /// Like `logits`: to be filled before [`backward`].
    pub dlogits: Vec<f32>,
    dpooled: Vec<f32>,
    /// (queries, hidden): the output of [`backward`].
    pub dlast: Vec<f32>,
    linear: Scratch,
}

impl Work {
    /// What the classifier read, (rows, hidden).
    pub fn into_pooled(self) -> Vec<f32> {
        self.pooled
    }
}

/// Leaves the logits of the last hidden states (queries, hidden) in `work.logits`.
pub fn forward(encoder: &Encoder, last: &[f32], work: &mut Work) {
    let values = encoder.dense();
    match &encoder.params.layout.head {
        HeadLayout::Labels { dense, classifier } => {
            dense.forward(values, last, &mut work.pooled, &mut work.linear);
            match encoder.params.config.architecture.activation() {
                Activation::Tanh => tanh::forward(&mut work.pooled),
                Activation::Relu => relu::forward(&mut work.pooled),
                Activation::Gelu => {
                    work.slope.resize(work.pooled.len(), 0.0);
                    gelu::forward_with_slope(&mut work.pooled, &mut work.slope);
                }
            }
            work.kept.clone_from(&work.pooled);
            drop_rows(encoder, &mut work.kept);
            classifier.forward(values, &work.kept, &mut work.logits, &mut work.linear);
        }
        HeadLayout::Span { outputs } => {
            work.kept.clear();
            work.kept.extend_from_slice(last);
            drop_rows(encoder, &mut work.kept);
            outputs.forward(values, &work.kept, &mut work.logits, &mut work.linear);
        }
    }
}

/// Adds to `grads` (the dense part) from `work.dlogits`; leaves the gradient of the last hidden states in `work.dlast`.
pub fn backward(encoder: &Encoder, last: &[f32], work: &mut Work, grads: &mut [f32]) {
    let values = encoder.dense();
    match &encoder.params.layout.head {
        HeadLayout::Labels { dense, classifier } => {
            let dlogits = Mat::new(&work.dlogits, classifier.bias.len());
            classifier.backward(values, (&work.kept, dlogits), &mut work.dpooled, false, grads, &mut work.linear);
            drop_rows(encoder, &mut work.dpooled);
            match encoder.params.config.architecture.activation() {
                Activation::Tanh => tanh::backward(&mut work.dpooled, &work.pooled),
                Activation::Relu => relu::backward(&mut work.dpooled, &work.pooled),
                Activation::Gelu => gelu::backward(&mut work.dpooled, &work.slope),
            }
            let dpooled = Mat::new(&work.dpooled, encoder.params.config.hidden_size);
            dense.backward(values, (last, dpooled), &mut work.dlast, false, grads, &mut work.linear);
        }
        HeadLayout::Span { outputs } => {
            let dlogits = Mat::new(&work.dlogits, 2);
            outputs.backward(values, (&work.kept, dlogits), &mut work.dlast, false, grads, &mut work.linear);
            drop_rows(encoder, &mut work.dlast);
        }
    }
}

/// The dropout before the last linear layer. Most architectures have none there for spans.
fn drop_rows(encoder: &Encoder, x: &mut [f32]) {
    let Some(masks) = encoder.masks else { return };
    let dropout = masks.at(Site::Classifier, encoder.shard.first_row);
    match encoder.params.layout.head {
        HeadLayout::Labels { .. } => dropout.apply(x, &(0..=encoder.shard.rows()).collect::<Vec<_>>()),
        HeadLayout::Span { .. } if encoder.params.config.architecture.drops_before_spans() => dropout.apply(x, &encoder.shard.cu_seqlens),
        HeadLayout::Span { .. } => {}
    }
}
