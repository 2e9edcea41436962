//! The classification head: a dense layer and its activation on [CLS], dropout, and the classifier.

use crate::config::Architecture;
use crate::encoder::{Encoder, Site};
use lacuna_kernels::linear::Scratch;
use lacuna_kernels::matmul::Mat;
use lacuna_kernels::{relu, tanh};

/// What the head works in; kept between steps.
#[derive(Default)]
pub struct Work {
    /// (rows, hidden): after the activation.
    pooled: Vec<f32>,
    /// (rows, hidden): after dropout.
    kept: Vec<f32>,
    /// (rows, labels)
    pub logits: Vec<f32>,
    /// (rows, labels): to be filled before [`backward`].
    pub dlogits: Vec<f32>,
    dpooled: Vec<f32>,
    /// (rows, hidden): the output of [`backward`].
    pub dcls: Vec<f32>,
    linear: Scratch,
}

/// Leaves the logits of `cls` (rows, hidden) in `work.logits`.
pub fn forward(encoder: &Encoder, cls: &[f32], work: &mut Work) {
    let dense = encoder.dense();
    encoder.layout.head.forward(dense, cls, &mut work.pooled, &mut work.linear);
    match encoder.config.architecture {
        Architecture::Bert => tanh::forward(&mut work.pooled),
        Architecture::DistilBert => relu::forward(&mut work.pooled),
    }
    work.kept.clone_from(&work.pooled);
    drop_rows(encoder, &mut work.kept);
    encoder.layout.classifier.forward(dense, &work.kept, &mut work.logits, &mut work.linear);
}

/// Adds to `grads` (the dense part) from `work.dlogits`; leaves the gradient of `cls` in `work.dcls`.
pub fn backward(encoder: &Encoder, cls: &[f32], work: &mut Work, grads: &mut [f32]) {
    let dense = encoder.dense();
    let (classifier, head) = (&encoder.layout.classifier, &encoder.layout.head);
    let dlogits = Mat::new(&work.dlogits, classifier.bias.len());
    classifier.backward(dense, (&work.kept, dlogits), &mut work.dpooled, false, grads, &mut work.linear);
    drop_rows(encoder, &mut work.dpooled);
    match encoder.config.architecture {
        Architecture::Bert => tanh::backward(&mut work.dpooled, &work.pooled),
        Architecture::DistilBert => relu::backward(&mut work.dpooled, &work.pooled),
    }
    let dpooled = Mat::new(&work.dpooled, encoder.config.hidden_size);
    head.backward(dense, (cls, dpooled), &mut work.dcls, false, grads, &mut work.linear);
}

fn drop_rows(encoder: &Encoder, x: &mut [f32]) {
    if let Some(masks) = encoder.masks {
        let rows: Vec<usize> = (0..=encoder.shard.rows()).collect();
        masks.at(Site::Classifier, encoder.shard.first_row).apply(x, &rows);
    }
}
