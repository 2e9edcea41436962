//! The heads. Classification: a dense layer and its activation on `[CLS]` or a row's mean, dropout, the classifier. Span: a linear layer on
//! each token. ModernBERT's have a norm behind the activation, and the dense layer for spans too.

use crate::activations::Norm;
use crate::architectures::Activation;
use crate::encoder::Encoder;
use crate::layout::{Head, HeadLayout};
use crate::masks::Site;
use crate::pooling::{means, means_backward};
use lacuna_kernels::linear::Scratch;
use lacuna_kernels::mat::Mat;
use lacuna_kernels::{gelu, relu, tanh};

/// Work space of the head; kept between steps. *Queries* are rows for a classifier, tokens for a span.
#[derive(Default)]
pub struct Work {
    /// (rows, hidden): the means of the last hidden states, where the head reads them.
    means: Vec<f32>,
    /// (queries, hidden): after the activation.
    pooled: Vec<f32>,
    /// (queries, hidden): the slope of the activation, where its output does not tell.
    slope: Vec<f32>,
    norm: Norm,
    /// (queries, hidden): what the last layer reads, after dropout.
    kept: Vec<f32>,
    /// (rows, labels), or (tokens, 2)
    pub logits: Vec<f32>,
    /// Like `logits`: to be filled before [`backward`].
    pub dlogits: Vec<f32>,
    /// (queries, hidden): the gradient on its way back.
    d: Vec<f32>,
    /// (queries, hidden), or (tokens, hidden) where the head reads means: the output of [`backward`].
    pub dlast: Vec<f32>,
    linear: Scratch,
}

impl Work {
    /// What the classifier read, (rows, hidden).
    pub fn into_pooled(self) -> Vec<f32> {
        self.kept
    }
}

/// Leaves the logits of the last hidden states (queries of the last layer, hidden) in `work.logits`.
pub fn forward(encoder: &Encoder, last: &[f32], work: &mut Work) {
    let (values, layout) = (encoder.dense(), &encoder.params.layout);
    if layout.means {
        work.means = means(last, &encoder.shard.cu_seqlens, encoder.params.config.hidden_size);
    }
    let read = if layout.means { &work.means } else { last };
    let HeadLayout { dense, norm, outputs, .. } = &layout.head;
    work.kept.clear();
    match dense {
        Some(dense) => {
            dense.forward(values, read, &mut work.pooled, &mut work.linear);
            match encoder.params.config.architecture.activation() {
                Activation::Tanh => tanh::forward(&mut work.pooled),
                Activation::Relu => relu::forward(&mut work.pooled),
                Activation::Gelu => {
                    work.slope.resize(work.pooled.len(), 0.0);
                    gelu::forward_with_slope(&mut work.pooled, &mut work.slope);
                }
            }
            match norm {
                Some(norm) => encoder.norm_of(norm, &mut work.norm, &work.pooled, &mut work.kept),
                None => work.kept.extend_from_slice(&work.pooled),
            }
        }
        None => work.kept.extend_from_slice(read),
    }
    drop_rows(encoder, &mut work.kept);
    outputs.forward(values, &work.kept, &mut work.logits, &mut work.linear);
}

/// Adds to `grads` (the dense part) from `work.dlogits`; leaves the gradient of the last hidden states in `work.dlast`.
pub fn backward(encoder: &Encoder, last: &[f32], work: &mut Work, grads: &mut [f32]) {
    let (values, layout, hidden) = (encoder.dense(), &encoder.params.layout, encoder.params.config.hidden_size);
    let HeadLayout { dense, norm, outputs, .. } = &layout.head;
    let dlogits = Mat::new(&work.dlogits, outputs.outputs);
    outputs.backward(values, (&work.kept, dlogits), &mut work.d, false, grads, &mut work.linear);
    drop_rows(encoder, &mut work.d);
    if let Some(norm) = norm {
        encoder.norm_backward(norm, &work.norm, &mut work.d, grads);
    }
    match dense {
        Some(dense) => {
            match encoder.params.config.architecture.activation() {
                Activation::Tanh => tanh::backward(&mut work.d, &work.pooled),
                Activation::Relu => relu::backward(&mut work.d, &work.pooled),
                Activation::Gelu => gelu::backward(&mut work.d, &work.slope),
            }
            let read = if layout.means { &work.means } else { last };
            dense.backward(values, (read, Mat::new(&work.d, hidden)), &mut work.dlast, false, grads, &mut work.linear);
        }
        None => std::mem::swap(&mut work.d, &mut work.dlast),
    }
    if layout.means {
        std::mem::swap(&mut work.d, &mut work.dlast);
        means_backward(&work.d, &encoder.shard.cu_seqlens, hidden, &mut work.dlast);
    }
}

/// The dropout before the last linear layer. Most architectures have none there for spans.
fn drop_rows(encoder: &Encoder, x: &mut [f32]) {
    let Some(masks) = encoder.masks else { return };
    let dropout = masks.at(Site::Classifier, encoder.shard.first_row);
    match encoder.params.layout.head() {
        Head::Labels(_) => dropout.apply(x, &(0..=encoder.shard.rows()).collect::<Vec<_>>()),
        Head::Span if encoder.params.config.architecture.drops_before_spans() => dropout.apply(x, &encoder.shard.cu_seqlens),
        Head::Span => {}
    }
}
