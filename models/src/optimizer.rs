//! AdamW over the flat buffer, in a few jobs.

use crate::layout::Layout;
use crate::parameters::Parameters;
use crate::spread::spread;
use lacuna_kernels::adamw::{self, AdamW};

/// The moments of every parameter.
pub struct Optimizer {
    pub m: Vec<f32>,
    pub v: Vec<f32>,
    /// Whether each word row ever had a gradient; until then its moments are zero.
    pub seen: Vec<bool>,
}

/// A part of the parameters that one update handles alike.
struct Piece<'a> {
    params: &'a mut [f32],
    grads: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    weight_decay: f32,
    /// Without gradient and moments.
    idle: bool,
}

/// A piece of the buffer: its length and kind.
struct Cut {
    len: usize,
    decays: bool,
    idle: bool,
}

/// Numbers in a piece: small enough to spread evenly over threads.
const PIECE: usize = 1 << 16;

impl Optimizer {
    /// Zero moments for a model of this shape.
    pub fn new(model: &Parameters) -> Self {
        let zeros = || vec![0.0; model.layout.len()];
        Optimizer { m: zeros(), v: zeros(), seen: vec![false; model.config.vocab_size] }
    }

    /// One step, split into `threads` jobs. `grads` are those of the first parameters, of whole tensors; later ones stay as they are, with
    /// their moments. `touched` are the word rows that have a gradient; biases and LayerNorms do not decay.
    pub fn update(&mut self, model: &mut Parameters, adamw: &AdamW, weight_decay: f32, grads: &[f32], touched: &[u32], threads: usize) {
        touched.iter().for_each(|&id| self.seen[id as usize] = true);
        let cuts = cuts(&model.layout, &self.seen, model.config.embedding_size, grads.len());
        let (mut params, mut grads, mut m, mut v) = (&mut model.flat[..], grads, &mut self.m[..], &mut self.v[..]);
        let mut jobs: Vec<Vec<Piece>> = Vec::new();
        jobs.resize_with(threads.max(1), Vec::new);
        for (i, Cut { len, decays, idle }) in cuts.into_iter().enumerate() {
            let job = i % jobs.len();
            jobs[job].push(Piece {
                params: params.split_off_mut(..len).unwrap_or_default(),
                grads: grads.split_off(..len).unwrap_or_default(),
                m: m.split_off_mut(..len).unwrap_or_default(),
                v: v.split_off_mut(..len).unwrap_or_default(),
                weight_decay: if decays { weight_decay } else { 0.0 },
                idle,
            });
        }
        spread(jobs, |pieces| pieces.into_iter().for_each(|piece| piece.update(adamw)));
    }
}

impl Piece<'_> {
    fn update(self, adamw: &AdamW) {
        if self.idle {
            // With zero gradient and moments, the update is only the weight decay.
            let keep = 1.0 - adamw.lr * self.weight_decay;
            self.params.iter_mut().for_each(|p| *p *= keep);
        } else {
            adamw::update(adamw, self.weight_decay, self.params, self.grads, self.m, self.v);
        }
    }
}

/// The buffer up to `end` in pieces, in its order: runs of word rows alike, then the other tensors.
fn cuts(layout: &Layout, seen: &[bool], columns: usize, end: usize) -> Vec<Cut> {
    let rows = seen.chunk_by(|a, b| a == b).map(|run| (run.len() * columns, true, !run[0]));
    let others = layout.tensors[1..].iter().take_while(|t| t.range.end <= end).map(|t| (t.range.len(), t.shape.len() > 1, false));
    let split = |(len, decays, idle): (usize, bool, bool)| {
        (0..len).step_by(PIECE).map(move |start| Cut { len: PIECE.min(len - start), decays, idle })
    };
    rows.chain(others).flat_map(split).collect()
}
