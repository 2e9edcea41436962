//! The dimensions of a model.

use crate::ModelError;
use crate::family::Family;
use lacuna_kernels::rotary::Rotation;
use std::path::Path;

/// The architectures of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    Bert,
    DistilBert,
    /// RoBERTa and its like.
    Roberta(Family),
    Mpnet,
    Electra,
    ModernBert,
    /// DeBERTa-v2 and v3.
    Deberta,
}

impl Architecture {
    /// Its usual spelling.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Bert => "BERT",
            Architecture::DistilBert => "DistilBERT",
            Architecture::Roberta(family) => family.name(),
            Architecture::Mpnet => "MPNet",
            Architecture::Electra => "ELECTRA",
            Architecture::ModernBert => "ModernBERT",
            Architecture::Deberta => "DeBERTa",
        }
    }
}

/// Dimensions and default dropout rates of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub architecture: Architecture,
    pub vocab_size: usize,
    pub hidden_size: usize,
    /// Width of the embeddings, which a linear layer makes `hidden_size` of where they differ.
    pub embedding_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    /// The longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// The row of the table of positions that the first token has; RoBERTa leaves out those of the padding.
    pub first_position: usize,
    /// 0 for a model without token types.
    pub type_vocab_size: usize,
    /// Buckets of relative positions, whose biases are added to the scores of attention; 0 for a model without them.
    pub relative_buckets: usize,
    pub layer_norm_eps: f64,
    /// Dropout rates the model was made for.
    pub hidden_dropout: f32,
    pub attention_dropout: f32,
    pub classifier_dropout: f32,
    pub pad_token_id: u32,
    /// What ModernBERT alone has.
    pub modern: Option<Modern>,
    /// Relative positions that attention meets, in place of a table of positions; DeBERTa alone has them.
    pub disentangled: Option<Distances>,
}

/// How distances are told apart: near ones are, farther ones share buckets by the logarithm of the distance.
#[derive(Clone, Debug, PartialEq)]
pub struct Distances {
    /// In either direction.
    pub buckets: usize,
    /// No farther distance is told apart.
    pub farthest: usize,
}

/// Of a ModernBERT, whose layers have rotary positions and normalise what goes into their parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Modern {
    /// Bases of the rotary positions in layers that attend to all tokens, and in those that attend to neighbours.
    pub thetas: [f64; 2],
    /// Tokens that a token attends to in the latter: half of them on either side.
    pub local_attention: usize,
    /// For each layer, whether it attends to all tokens.
    pub full: Vec<bool>,
    /// Whether a classifier reads the mean of the last hidden states, not `[CLS]`.
    pub mean_pooling: bool,
}

/// More layers than this are a mistake.
const MOST_LAYERS: usize = 1024;

impl Modern {
    /// The rotations of layers that attend to all tokens, and of those that attend to neighbours, for so many positions.
    pub(crate) fn rotations(&self, head_size: usize, positions: usize) -> [Rotation; 2] {
        self.thetas.map(|theta| Rotation::new(theta, head_size, positions))
    }

    /// The one of a layer.
    pub(crate) fn rotation<'r>(&self, layer: usize, rotations: &'r [Rotation; 2]) -> &'r Rotation {
        &rotations[if self.full[layer] { 0 } else { 1 }]
    }
}

impl Config {
    /// Whether the dimensions fit together; `path` is the file they came from.
    pub(crate) fn check(&self, path: &Path) -> Result<(), ModelError> {
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if !hidden.is_multiple_of(heads) {
            return Err(ModelError::config(path, format!("a hidden size of {hidden} cannot be split into {heads} heads")));
        }
        if self.modern.is_some() && !self.head_size().is_multiple_of(2) {
            return Err(ModelError::config(path, format!("rotary positions need heads of an even size, not of {}", self.head_size())));
        }
        if self.num_hidden_layers > MOST_LAYERS {
            return Err(ModelError::config(path, format!("{} layers are more than {MOST_LAYERS}", self.num_hidden_layers)));
        }
        Ok(())
    }

    /// How far a key may be from its query in a layer, in tokens, if not all attend to all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.modern.as_ref().filter(|modern| !modern.full[layer]).map(|modern| modern.local_attention / 2)
    }

    /// Whether there is a table of positions, whose rows are added to those of words.
    pub fn has_positions(&self) -> bool {
        self.modern.is_none() && self.disentangled.is_none()
    }

    /// Whether a classifier reads the mean of the last hidden states, as config.json says.
    pub fn mean_pooling(&self) -> bool {
        self.modern.as_ref().is_some_and(|modern| modern.mean_pooling)
    }

    /// Width of an attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}
