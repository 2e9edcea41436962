//! What a pass over the rows of a shard works with, and the products of its linear layers.

use super::plan::Plan;
use super::weights::Weights;
use crate::ModelError;
use crate::affine::Affine;
use crate::batch::Shard;
use crate::layout::Layout;
use crate::masks::{Masks, Site};
use crate::parameters::Parameters;
use lacuna_cuda::kernels::Dropout;
use lacuna_cuda::{Device, Dimension, Number, Operand, Place, Product};
use lacuna_kernels::attention::Queries;
use std::ops::Range;

/// A pass over the rows of a shard.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    pub device: &'a Device,
    pub params: &'a Parameters,
    pub weights: &'a Weights,
    pub shard: &'a Shard<'a>,
    pub plan: &'a Plan,
    /// The format of activations and products.
    pub number: Number,
    /// None for inference.
    pub masks: Option<Masks>,
}

/// Gradients: the flat buffer, and whether it holds those of parts before.
#[derive(Clone, Copy)]
pub struct Grads {
    pub flat: Place,
    pub accumulate: bool,
}

impl Pass<'_> {
    pub fn layout(&self) -> &Layout {
        &self.params.layout
    }

    pub fn hidden(&self) -> usize {
        self.params.config.hidden_size
    }

    /// Width of the embeddings.
    pub fn embedding(&self) -> usize {
        self.params.config.embedding_size
    }

    pub fn intermediate(&self) -> usize {
        self.params.config.intermediate_size
    }

    /// Which tokens are queries in a layer.
    pub fn queries(&self, layer: usize) -> Queries {
        self.layout().queries(layer, self.shard)
    }

    /// How many.
    pub fn query_count(&self, queries: Queries) -> usize {
        match queries {
            Queries::All => self.plan.tokens,
            Queries::First => self.plan.rows,
        }
    }

    /// The place in its row and the row of each query; none where a row has one query.
    pub fn query_tables(&self, queries: Queries) -> (Place, Place) {
        match queries {
            Queries::All => (self.plan.position_ids, self.plan.row_ids),
            Queries::First => (Place::NONE, Place::NONE),
        }
    }

    /// The masks of a place in the network.
    pub fn drop(&self, site: Site) -> Dropout {
        self.masks.map_or(Dropout::OFF, |masks| masks.at(site, self.shard.first_row).into())
    }

    /// Numbers of the dense part, in f32.
    pub fn vector(&self, range: &Range<usize>) -> Place {
        self.weights.vector(self.layout(), range)
    }

    fn operand(&self, range: &Range<usize>) -> Place {
        self.weights.operand(self.layout(), range, self.number)
    }

    /// The gradients of numbers of the dense part.
    pub fn gradient(&self, grads: Grads, range: &Range<usize>) -> Place {
        grads.flat.words(self.layout().words + range.start)
    }

    /// `y` (count, out) of `x` (count, in), as a linear layer.
    pub fn linear(&self, affine: &Affine, x: Place, y: Place, count: usize) -> Result<(), ModelError> {
        let (inputs, outputs) = (affine.inputs(), affine.outputs);
        let product = Product {
            m: count,
            n: outputs,
            k: inputs,
            varies: Dimension::M,
            number: self.number,
            a: Operand::rows(x, inputs),
            b: Operand::rows(self.operand(&affine.weight), inputs).t(),
            c: y,
            c_stride: outputs,
            c_number: self.number,
            bias: self.operand(&affine.bias),
            accumulate: false,
        };
        Ok(self.device.multiply(&product)?)
    }

    /// The gradient of a weight from `x` (count, in) and `dy` (count, out).
    pub fn weight_gradient(&self, affine: &Affine, x: Place, dy: Place, count: usize, grads: Grads) -> Result<(), ModelError> {
        let (inputs, outputs) = (affine.inputs(), affine.outputs);
        let product = Product {
            m: outputs,
            n: inputs,
            k: count,
            varies: Dimension::K,
            number: self.number,
            a: Operand::rows(dy, outputs).t(),
            b: Operand::rows(x, inputs),
            c: self.gradient(grads, &affine.weight),
            c_stride: inputs,
            c_number: Number::F32,
            bias: Place::NONE,
            accumulate: grads.accumulate,
        };
        Ok(self.device.multiply(&product)?)
    }

    /// `dx` (count, in) = `dy` (count, out) · weight, or `dx` += with `accumulate`.
    pub fn input_gradient(&self, affine: &Affine, dy: Place, dx: Place, count: usize, accumulate: bool) -> Result<(), ModelError> {
        let (inputs, outputs) = (affine.inputs(), affine.outputs);
        let product = Product {
            m: count,
            n: inputs,
            k: outputs,
            varies: Dimension::M,
            number: self.number,
            a: Operand::rows(dy, outputs),
            b: Operand::rows(self.operand(&affine.weight), inputs),
            c: dx,
            c_stride: inputs,
            c_number: self.number,
            bias: Place::NONE,
            accumulate,
        };
        Ok(self.device.multiply(&product)?)
    }
}
