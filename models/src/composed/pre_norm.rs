//! Layers that normalise what goes into their parts, of candle's operations: those of [`crate::pre_norm`].

use super::Composed;
use crate::config::Modern;
use crate::masks::Site;
use candle_core::{Result, Tensor};
use lacuna_kernels::attention::{self, Queries};
use lacuna_kernels::geglu;
use lacuna_kernels::rotary::{self, Rotation};

impl Composed<'_> {
    /// From the hidden states (tokens, hidden) before a layer to those (queries, hidden) behind it.
    pub fn pre_norm_layer(&self, i: usize, modern: &Modern, rotations: &[Rotation; 2], hidden_states: Tensor) -> Result<Tensor> {
        let (layer, queries) = (&self.layout().layers[i], self.layout().queries(i, self.shard));
        let (hidden, cu_queries) = (self.params.config.hidden_size, self.shard.cu_queries(queries));
        let input = match layer.attention_norm.is_none() {
            true => hidden_states.clone(),
            false => self.norm(&layer.attention_norm, &hidden_states, None)?,
        };
        let qkv = self.linear(&layer.qkv, &input)?;
        let part = |part: usize| qkv.narrow(1, part * hidden, hidden)?.contiguous();
        let rotation = modern.rotation(i, rotations);
        let turned = |x: &Tensor| rotary::composed(rotation, &self.shard.position_ids, x);
        let (query, key, value) = (turned(&part(0)?)?, turned(&part(1)?)?, part(2)?);
        let first = |x: Tensor| if queries == Queries::First { x.index_select(&self.firsts, 0) } else { Ok(x) };
        let (query, hidden_states) = (first(query)?, first(hidden_states)?);
        let context = attention::composed(&self.attention(i, queries), &self.padding, [&query, &key, &value], None, None)?;
        let attended = self.drop(Site::AttentionOutput(i), &cu_queries, self.linear(&layer.attention_output, &context)?)?;
        let hidden_states = (hidden_states + attended)?;

        let gated = self.linear(&layer.intermediate, &self.norm(&layer.output_norm, &hidden_states, None)?)?;
        let activated = self.drop(Site::Output(i), &cu_queries, geglu::composed(&gated)?)?;
        hidden_states + self.linear(&layer.output, &activated)?
    }
}
