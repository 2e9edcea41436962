//! The network as a composition of candle's differentiable operations, over the rows of one shard: for devices without kernels of ours.
//!
//! The same network as [`crate::encoder`] and [`crate::head`], with their masks; the backward is candle's.

mod pre_norm;

use crate::affine::Affine;
use crate::architectures::Activation;
use crate::batch::Shard;
use crate::layout::{Head, Layout};
use crate::masks::{Masks, Site};
use crate::parameters::Parameters;
use candle_core::{Device, Result, Tensor};
use lacuna_kernels::attention::disentangled::rows;
use lacuna_kernels::attention::{self, Attention, Disentangled, Queries};
use lacuna_kernels::padding::Padding;
use lacuna_kernels::{dropout, embedding, gelu, layer_norm, linear, relative_bias};
use std::ops::Range;

/// A network's parameters on a device and the rows it works on.
pub struct Composed<'a> {
    params: &'a Parameters,
    /// In the order of the layout's tensors.
    tensors: &'a [Tensor],
    shard: &'a Shard<'a>,
    pub padding: Padding,
    /// (rows): the first token of each row.
    firsts: Tensor,
    /// None for inference.
    masks: Option<Masks>,
}

/// Embeddings of relative positions, (positions, hidden), and the row of each distance.
struct Relative {
    embeddings: Tensor,
    rows: Vec<u32>,
}

impl<'a> Composed<'a> {
    pub fn new(params: &'a Parameters, tensors: &'a [Tensor], shard: &'a Shard<'a>, masks: Option<Masks>, device: &Device) -> Result<Self> {
        let firsts = shard.cu_seqlens[..shard.rows()].iter().map(|&token| token as u32);
        let (padding, firsts) = (Padding::new(&shard.cu_seqlens, device)?, Tensor::from_iter(firsts, device)?);
        Ok(Composed { params, tensors, shard, padding, firsts, masks })
    }

    /// (rows, labels), or (tokens, 2) for spans.
    pub fn logits(&self) -> Result<Tensor> {
        let mut hidden_states = self.embed()?;
        let (bias, relative) = (self.bias()?, self.relative()?);
        let modern = self.params.config.modern.as_ref();
        let modern = modern.map(|modern| (modern, modern.rotations(self.params.config.head_size(), self.shard.longest())));
        for i in 0..self.layout().layers.len() {
            hidden_states = match &modern {
                Some((modern, rotations)) => self.pre_norm_layer(i, modern, rotations, hidden_states)?,
                None => self.layer(i, &hidden_states, bias.as_ref(), relative.as_ref())?,
            };
        }
        if let Some(norm) = &self.layout().final_norm {
            hidden_states = self.norm(norm, &hidden_states, None)?;
        }
        self.head(&hidden_states)
    }

    fn layout(&self) -> &Layout {
        &self.params.layout
    }

    /// The parameters in a range of the dense part: one tensor or neighbours.
    fn dense(&self, range: &Range<usize>) -> impl Iterator<Item = &'a Tensor> {
        let range = self.layout().words + range.start..self.layout().words + range.end;
        let inside = move |place: &Range<usize>| range.start <= place.start && place.end <= range.end;
        let tensors = self.params.layout.tensors.iter().zip(self.tensors);
        tensors.filter(move |(tensor, _)| inside(&tensor.range)).map(|(_, param)| param)
    }

    /// The linear layers of an affine, one for each of its weights.
    fn linears(&self, affine: &Affine, x: &Tensor) -> Result<Vec<Tensor>> {
        let mut biases = self.dense(&affine.bias);
        self.dense(&affine.weight).map(|weight| linear::composed(x, weight, biases.next())).collect()
    }

    fn linear(&self, affine: &Affine, x: &Tensor) -> Result<Tensor> {
        Ok(self.linears(affine, x)?.swap_remove(0))
    }

    fn norm(&self, affine: &Affine, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let weight = self.dense(&affine.weight).next().expect("a LayerNorm has a weight");
        layer_norm::composed(x, residual, weight, self.dense(&affine.bias).next(), self.params.config.layer_norm_eps as f32)
    }

    /// `x` (queries, columns) with dropout; `cu_queries` are the boundaries of the rows.
    fn drop(&self, site: Site, cu_queries: &[usize], x: Tensor) -> Result<Tensor> {
        let Some(masks) = self.masks else { return Ok(x) };
        dropout::composed(&masks.at(site, self.shard.first_row), &x, cu_queries)
    }

    /// (tokens, hidden)
    fn embed(&self) -> Result<Tensor> {
        let mut lookups = vec![(&self.tensors[0], self.shard.input_ids)];
        let (skipped, positions) = (self.params.config.first_position, &self.layout().positions);
        let table = positions.start.saturating_sub(skipped * self.params.config.embedding_size)..positions.end;
        let position_ids: Vec<u32> = self.shard.position_ids.iter().map(|id| id + skipped as u32).collect();
        if !positions.is_empty() {
            lookups.extend(self.dense(&table).map(|table| (table, &position_ids[..])));
        }
        if let Some(types) = &self.layout().token_types {
            lookups.extend(self.dense(types).map(|table| (table, self.shard.token_type_ids)));
        }
        let normed = self.norm(&self.layout().embedding_norm, &embedding::composed(&lookups)?, None)?;
        let embeddings = self.drop(Site::Embeddings, &self.shard.cu_seqlens, normed)?;
        self.layout().projection.as_ref().map_or(Ok(embeddings.clone()), |projection| self.linear(projection, &embeddings))
    }

    /// (heads, 2 * longest - 1): what relative positions add to scores.
    fn bias(&self) -> Result<Option<Tensor>> {
        let table = self.layout().relative_bias.as_ref().and_then(|table| self.dense(table).next());
        table.map(|table| relative_bias::composed(table, self.shard.longest())).transpose()
    }

    /// The embeddings of relative positions that attention meets.
    fn relative(&self) -> Result<Option<Relative>> {
        let (Some(distances), Some((table, norm))) = (&self.params.config.disentangled, &self.layout().relative_embeddings) else {
            return Ok(None);
        };
        let table = self.dense(table).next().expect("a table of relative positions");
        let rows = rows(distances.buckets, distances.farthest, self.shard.longest());
        Ok(Some(Relative { embeddings: self.norm(norm, table, None)?, rows }))
    }

    fn attention(&self, layer: usize, queries: Queries) -> Attention<'_> {
        Attention {
            heads: self.params.config.num_attention_heads,
            head_size: self.params.config.head_size(),
            cu_seqlens: &self.shard.cu_seqlens,
            queries,
            dropout: self.masks.map(|m| m.at(Site::Probabilities(layer), self.shard.first_row)),
            bias: None,
            window: self.params.config.window(layer),
            disentangled: None,
        }
    }

    /// (queries, hidden) of `input` (tokens, hidden); `bias` is what relative positions add to scores.
    fn layer(&self, i: usize, input: &Tensor, bias: Option<&Tensor>, relative: Option<&Relative>) -> Result<Tensor> {
        let (layer, queries) = (&self.layout().layers[i], self.layout().queries(i, self.shard));
        let cu_queries = self.shard.cu_queries(queries);
        let query_input = match queries {
            Queries::All => input,
            Queries::First => &input.index_select(&self.firsts, 0)?,
        };
        let query = self.linear(&layer.query, query_input)?;
        let key_value = self.linears(&layer.key_value, input)?;
        let (attention, qkv) = (self.attention(i, queries), [&query, &key_value[0], &key_value[1]]);
        let context = match relative {
            None => attention::composed(&attention, &self.padding, qkv, bias, None)?,
            Some(relative) => {
                let (of_queries, of_keys) =
                    (self.linear(&layer.query, &relative.embeddings)?, self.linear(&layer.key_value, &relative.embeddings)?);
                let (rows, longest) = (&relative.rows, self.shard.longest());
                let attention = Attention { disentangled: Some(Disentangled { positions: &[], rows, longest }), ..attention };
                attention::composed(&attention, &self.padding, qkv, None, Some([&of_queries, &of_keys]))?
            }
        };

        let projected = self.linear(&layer.attention_output, &context)?;
        let projected = self.drop(Site::AttentionOutput(i), &cu_queries, projected)?;
        let attended = self.norm(&layer.attention_norm, &projected, Some(query_input))?;

        let activated = gelu::composed(&self.linear(&layer.intermediate, &attended)?)?;
        let output = self.drop(Site::Output(i), &cu_queries, self.linear(&layer.output, &activated)?)?;
        self.norm(&layer.output_norm, &output, Some(&attended))
    }

    /// The logits of the last hidden states (queries of the last layer, hidden).
    fn head(&self, last: &Tensor) -> Result<Tensor> {
        let (shard, architecture, head) = (self.shard, self.params.config.architecture, &self.layout().head);
        let mut read = if self.layout().means { self.means(last)? } else { last.clone() };
        if let Some(dense) = &head.dense {
            let pooled = self.linear(dense, &read)?;
            read = match architecture.activation() {
                Activation::Tanh => pooled.tanh()?,
                Activation::Relu => pooled.relu()?,
                Activation::Gelu => gelu::composed(&pooled)?,
            };
        }
        if let Some(norm) = &head.norm {
            read = self.norm(norm, &read, None)?;
        }
        let read = match head.head {
            Head::Labels(_) => self.drop(Site::Classifier, &shard.cu_queries(Queries::First), read)?,
            Head::Span if architecture.drops_before_spans() => self.drop(Site::Classifier, &shard.cu_seqlens, read)?,
            Head::Span => read,
        };
        self.linear(&head.outputs, &read)
    }

    /// (rows, hidden): the mean of each row's tokens, by a product with (rows, tokens) shares.
    fn means(&self, last: &Tensor) -> Result<Tensor> {
        let (rows, tokens) = (self.shard.rows(), self.shard.tokens());
        let mut shares = vec![0.0f32; rows * tokens];
        for (row, ends) in self.shard.cu_seqlens.windows(2).enumerate() {
            shares[row * tokens..][ends[0]..ends[1]].fill(1.0 / (ends[1] - ends[0]) as f32);
        }
        Tensor::from_vec(shares, (rows, tokens), last.device())?.matmul(last)
    }
}
