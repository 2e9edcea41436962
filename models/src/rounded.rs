//! The weights of the linear layers, rounded for fast products.

use crate::affine::Affine;
use crate::layout::Layout;
use crate::spread::spread;
use lacuna_kernels::linear::{PackedWeight, Weight};
use lacuna_kernels::packed::Format;

/// The weights of the layers, rounded to 16 bits; none in f32.
#[derive(Clone, Debug, Default)]
pub struct Rounded {
    weights: Vec<PackedWeight>,
}

impl Rounded {
    /// Rounds the weights among `dense`, in `threads` jobs; the memory of the earlier ones is used again.
    pub fn pack(&mut self, layout: &Layout, dense: &[f32], format: Option<Format>, with_backward: bool, threads: usize) {
        let Some(format) = format else { return self.weights.clear() };
        let affines = layout.rounded();
        self.weights.resize_with(affines.len(), Default::default);
        let total: usize = affines.iter().map(|a| a.weight.len()).sum();
        let mut jobs: Vec<Vec<(&Affine, &mut PackedWeight)>> = Vec::new();
        jobs.resize_with(threads.max(1), Vec::new);
        let (last, mut before) = (jobs.len() - 1, 0);
        for (affine, weight) in affines.into_iter().zip(&mut self.weights) {
            jobs[(before * (last + 1) / total.max(1)).min(last)].push((affine, weight));
            before += affine.weight.len();
        }
        spread(jobs, |job| {
            job.into_iter().for_each(|(affine, weight)| weight.pack(affine.weight(dense), affine.inputs(), format, with_backward));
        });
    }

    /// The rounded weight of a layer; none if its products are in f32.
    pub fn weight(&self, affine: &Affine) -> Option<Weight<'_>> {
        self.weights.get(affine.rounded?).map(Weight::Packed)
    }
}
