//! In what numbers the large products are made, and the weights rounded for them.

use crate::affine::Affine;
use crate::layout::Layout;
use crate::spread::spread;
use lacuna_kernels::linear::{PackedWeight, Weight};
use lacuna_kernels::packed::Format;
use serde::{Deserialize, Serialize};

/// The numbers that the products of the transformer's linear layers multiply. Sums, parameters, gradients and everything else are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The fastest that this CPU has instructions for: [`Precision::Int16`] with AVX512_VNNI, otherwise [`Precision::F32`].
    ///
    /// It depends on the CPU alone, never on a measurement, so that runs repeat. bf16 is never chosen: on an Intel Xeon with AVX512_BF16
    /// `vdpbf16ps` measured half the speed of f32 and a quarter of the integers', and on AMD's Zen 4 it can be no faster than they.
    #[default]
    Auto,
    F32,
    /// 8 significant bits for every number.
    Bf16,
    /// Integers of 13 bits; 128 neighbours along the depth of a product share a scale.
    Int16,
}

impl Precision {
    /// What products are rounded to on this CPU; none for f32.
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Precision::Auto => Some(Format::Int16).filter(|format| format.is_fast()),
            Precision::F32 => None,
            Precision::Bf16 => Some(Format::Bf16),
            Precision::Int16 => Some(Format::Int16),
        }
    }
}

/// The weights of the layers, rounded to 16 bits; none in f32.
#[derive(Clone, Debug, Default)]
pub struct Rounded {
    weights: Vec<PackedWeight>,
}

impl Rounded {
    /// Rounds the weights among `dense`, spread over `threads`; uses the memory of the last ones.
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
