//! What relative positions add to the scores of attention, forward and backward: MPNet's number for each distance, which all layers
//! share, and DeBERTa's embeddings of distances, of which each layer makes queries and keys.

use crate::activations::{Relative, RelativeGradients, Scratch, resize};
use crate::encoder::Encoder;
use crate::layout::Layer;
use crate::masks::Site;
use lacuna_kernels::attention::disentangled::rows;
use lacuna_kernels::attention::{Attention, Bias, Disentangled, Queries};
use lacuna_kernels::linear;
use lacuna_kernels::mat::{Mat, MatMut};
use lacuna_kernels::relative_bias;

impl Encoder<'_> {
    /// The attention of a layer, with queries and keys of relative positions if there are any.
    pub fn attention<'a>(&'a self, layer: usize, relative: &'a Relative, positions: &'a [f32]) -> Attention<'a> {
        let longest = self.shard.longest();
        Attention {
            heads: self.params.config.num_attention_heads,
            head_size: self.params.config.head_size(),
            cu_seqlens: &self.shard.cu_seqlens,
            queries: self.queries(layer),
            dropout: self.masks.map(|m| m.at(Site::Probabilities(layer), self.shard.first_row)),
            bias: (!relative.bias.is_empty()).then_some(Bias { values: &relative.bias, longest }),
            window: self.params.config.window(layer),
            disentangled: (!positions.is_empty()).then_some(Disentangled { positions, rows: &relative.rows, longest }),
        }
    }

    /// Leaves in `relative` what all layers read.
    pub fn relative_forward(&self, relative: &mut Relative) {
        let (config, layout, longest) = (&self.params.config, &self.params.layout, self.shard.longest());
        if let Some(table) = &layout.relative_bias {
            resize(&mut relative.bias, config.num_attention_heads * (2 * longest - 1));
            relative_bias::forward(&self.dense().values[table.clone()], config.num_attention_heads, longest, &mut relative.bias);
        }
        let (Some(distances), Some((table, norm))) = (&config.disentangled, &layout.relative_embeddings) else { return };
        relative.rows = rows(distances.buckets, distances.farthest, longest);
        let (first, last) = (relative.rows[0], relative.rows[relative.rows.len() - 1]);
        relative.first_row = first as usize;
        relative.rows.iter_mut().for_each(|row| *row -= first);
        let used = (last - first + 1) as usize * config.hidden_size;
        let embeddings = &self.dense().values[table.clone()][first as usize * config.hidden_size..][..used];
        self.norm_of(norm, &mut relative.norm, embeddings, &mut relative.embeddings);
    }

    /// Queries and keys (and values, which nobody reads) of a layer for relative positions, (positions, 3 * hidden).
    pub fn positions_forward(
        &self,
        layer: &Layer,
        queries: Queries,
        relative: &Relative,
        positions: &mut Vec<f32>,
        s: &mut linear::Scratch,
    ) {
        let hidden = self.params.config.hidden_size;
        if relative.embeddings.is_empty() {
            return;
        }
        if queries == Queries::All {
            return layer.qkv.forward(self.dense(), &relative.embeddings, positions, s);
        }
        let embeddings = Mat::new(&relative.embeddings, hidden);
        resize(positions, 3 * relative.embeddings.len());
        layer.query.forward_into(self.dense(), embeddings, MatMut::strided(positions, embeddings.rows(), hidden, 3 * hidden), s);
        let key_value = MatMut::strided(&mut positions[hidden..], embeddings.rows(), 2 * hidden, 3 * hidden);
        layer.key_value.forward_into(self.dense(), embeddings, key_value, s);
    }

    /// Adds to the gradients of the embeddings and to `grads`, from those that a layer's attention left for its queries and keys.
    pub fn positions_backward(
        &self,
        layer: &Layer,
        queries: Queries,
        relative: &Relative,
        gradients: &mut RelativeGradients,
        grads: &mut [f32],
        s: &mut Scratch,
    ) {
        let hidden = self.params.config.hidden_size;
        let RelativeGradients { embeddings: dembeddings, positions, branch, .. } = gradients;
        if positions.is_empty() {
            return;
        }
        let (count, x) = (positions.len() / (3 * hidden), &relative.embeddings);
        match queries {
            Queries::All => {
                layer.qkv.backward(self.dense(), (x, Mat::new(positions, 3 * hidden)), branch, false, grads, &mut s.linear);
            }
            Queries::First => {
                let [dquery, dkey_value] =
                    [(0, hidden), (hidden, 2 * hidden)].map(|(from, columns)| Mat::strided(&positions[from..], count, columns, 3 * hidden));
                layer.query.backward(self.dense(), (x, dquery), branch, false, grads, &mut s.linear);
                layer.key_value.backward(self.dense(), (x, dkey_value), branch, true, grads, &mut s.linear);
            }
        }
        dembeddings.iter_mut().zip(&*branch).for_each(|(sum, d)| *sum += d);
    }

    /// Adds to `grads` from the gradients of what all layers read.
    pub fn relative_backward(&self, relative: &Relative, gradients: &mut RelativeGradients, grads: &mut [f32]) {
        let layout = &self.params.layout;
        if let Some(table) = &layout.relative_bias {
            let heads = self.params.config.num_attention_heads;
            relative_bias::backward(&gradients.bias, heads, self.shard.longest(), &mut grads[table.clone()]);
        }
        if let Some((table, norm)) = &layout.relative_embeddings {
            self.norm_backward(norm, &relative.norm, &mut gradients.embeddings, grads);
            let used = &mut grads[table.clone()][relative.first_row * self.params.config.hidden_size..];
            used.iter_mut().zip(&gradients.embeddings).for_each(|(sum, d)| *sum += d);
        }
    }
}
