//! The classification head: a dense layer and its activation on [CLS], dropout, and the classifier.

use crate::config::Architecture;
use crate::encoder::{Encoder, Site};
use crate::layout::Affine;
use lacuna_kernels::matmul::{Mat, MatMut};
use lacuna_kernels::{linear, relu, tanh};

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
}

/// The boundaries of the rows when each is one vector.
fn ones(rows: usize) -> Vec<usize> {
    (0..=rows).collect()
}

fn apply(affine: &Affine, dense: &[f32], x: &[f32], y: &mut Vec<f32>) {
    let out = affine.bias(dense).len();
    let x = Mat::new(x, affine.weight(dense).len() / out);
    y.resize(x.rows() * out, 0.0);
    linear::forward(x, affine.weight(dense), affine.bias(dense), MatMut::new(y, out));
}

fn apply_backward(affine: &Affine, dense: &[f32], x: &[f32], dy: &[f32], dx: &mut Vec<f32>, grads: &mut [f32]) {
    let out = affine.bias(dense).len();
    let inputs = affine.weight(dense).len() / out;
    let (dweight, dbias) = affine.parts_mut(grads);
    linear::backward_parameters(Mat::new(x, inputs), Mat::new(dy, out), dweight, dbias);
    dx.resize(x.len(), 0.0);
    linear::backward_input(affine.weight(dense), Mat::new(dy, out), MatMut::new(dx, inputs), false);
}

/// Leaves the logits of `cls` (rows, hidden) in `work.logits`.
pub fn forward(encoder: &Encoder, cls: &[f32], work: &mut Work) {
    let dense = &encoder.params[encoder.layout.words..];
    apply(&encoder.layout.head, dense, cls, &mut work.pooled);
    match encoder.config.architecture {
        Architecture::Bert => tanh::forward(&mut work.pooled),
        Architecture::DistilBert => relu::forward(&mut work.pooled),
    }
    work.kept.clone_from(&work.pooled);
    drop_rows(encoder, &mut work.kept);
    apply(&encoder.layout.classifier, dense, &work.kept, &mut work.logits);
}

/// Adds to `grads` (the dense part) from `work.dlogits`; leaves the gradient of `cls` in `work.dcls`.
pub fn backward(encoder: &Encoder, cls: &[f32], work: &mut Work, grads: &mut [f32]) {
    let dense = &encoder.params[encoder.layout.words..];
    apply_backward(&encoder.layout.classifier, dense, &work.kept, &work.dlogits, &mut work.dpooled, grads);
    drop_rows(encoder, &mut work.dpooled);
    match encoder.config.architecture {
        Architecture::Bert => tanh::backward(&mut work.dpooled, &work.pooled),
        Architecture::DistilBert => relu::backward(&mut work.dpooled, &work.pooled),
    }
    apply_backward(&encoder.layout.head, dense, cls, &work.dpooled, &mut work.dcls, grads);
}

fn drop_rows(encoder: &Encoder, x: &mut [f32]) {
    if let Some(masks) = encoder.masks {
        masks.at(Site::Classifier, encoder.shard.first_row).apply(x, &ones(encoder.shard.rows()));
    }
}
