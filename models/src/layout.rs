//! The layout of the parameters in the flat buffer.
//!
//! The word embeddings come first, then everything else, the *dense* part. Gradients of the word rows are sparse; those of the dense
//! part are not. Query, key and value lie side by side and so are one (3 * hidden, hidden) matrix.

use crate::affine::Affine;
use crate::batch::Shard;
use crate::config::Config;
use crate::names::Names;
use lacuna_kernels::attention::Queries;
use std::ops::Range;

/// A parameter as a checkpoint knows it.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    /// Its place in the flat buffer.
    pub range: Range<usize>,
    pub shape: Vec<usize>,
}

/// The parameters of one transformer layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// (3 * hidden, hidden): query, key and value.
    pub qkv: Affine,
    /// Parts of it, which the last layer uses one by one.
    pub query: Affine,
    pub key_value: Affine,
    pub attention_output: Affine,
    pub attention_norm: Affine,
    pub intermediate: Affine,
    pub output: Affine,
    pub output_norm: Affine,
}

/// The layout of the flat buffer.
#[derive(Clone, Debug)]
pub struct Layout {
    /// In the order of the buffer, without gaps.
    pub tensors: Vec<Tensor>,
    /// Length of the word embeddings; the dense part begins there.
    pub words: usize,
    /// The positions that tokens have, if there is a table of them, as an offset in the dense part, as for all fields below.
    pub positions: Range<usize>,
    pub token_types: Option<Range<usize>>,
    pub embedding_norm: Affine,
    /// From the embeddings to the hidden size, where they are of another.
    pub projection: Option<Affine>,
    /// (buckets, heads): what a relative position adds to the scores of attention.
    pub relative_bias: Option<Range<usize>>,
    /// (2 * buckets, hidden): the embeddings of relative positions, and their norm.
    pub relative_embeddings: Option<(Range<usize>, Affine)>,
    pub layers: Vec<Layer>,
    /// Behind the layers, where there is one.
    pub final_norm: Option<Affine>,
    pub head: HeadLayout,
    /// Whether the head reads the mean of each row's last hidden states.
    pub means: bool,
    /// Number of tensors of the encoder; those of the head come behind them.
    encoder_tensors: usize,
}

/// The head of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A classifier with this number of labels.
    Labels(usize),
    /// A span head.
    Span,
}

/// The parameters of a head.
#[derive(Clone, Debug)]
pub struct HeadLayout {
    pub head: Head,
    /// A dense layer, whose output goes through the activation: of a classifier, and of ModernBERT's span head too.
    pub dense: Option<Affine>,
    /// Behind the activation.
    pub norm: Option<Affine>,
    /// The last layer: (labels, hidden), or (2, hidden) for start and end of the answer.
    pub outputs: Affine,
}

struct Builder<'a> {
    names: &'a Names,
    tensors: Vec<Tensor>,
    /// Length of the word embeddings.
    words: usize,
    end: usize,
    /// Number of weights that are rounded.
    rounded: usize,
    /// Whether norms and linear layers have biases; the last layer has one always.
    biased: bool,
}

impl Builder<'_> {
    fn tensor(&mut self, name: String, shape: &[usize]) -> Range<usize> {
        let range = self.end..self.end + shape.iter().product::<usize>();
        self.end = range.end;
        self.tensors.push(Tensor { name, range: range.clone(), shape: shape.to_vec() });
        range
    }

    fn table(&mut self, name: &str, rows: usize, columns: usize) -> Range<usize> {
        let range = self.tensor(format!("{}{name}.weight", self.names.prefix), &[rows, columns]);
        range.start - self.words..range.end - self.words
    }

    /// The weights of `names`, one after the other, then their biases.
    fn affine(&mut self, names: &[String], shape: &[usize]) -> Affine {
        let start = self.end;
        for name in names {
            self.tensor(format!("{name}.weight"), shape);
        }
        let weight = self.end - start;
        if self.biased {
            for name in names {
                self.tensor(format!("{name}.bias"), &shape[..1]);
            }
        }
        let (start, end) = (start - self.words, self.end - self.words);
        Affine { weight: start..start + weight, bias: start + weight..end, outputs: names.len() * shape[0], rounded: None }
    }

    /// A norm that is not there.
    fn none(&self) -> Affine {
        let here = self.end - self.words..self.end - self.words;
        Affine { weight: here.clone(), bias: here, outputs: 0, rounded: None }
    }

    /// The table of positions that tokens have; empty where there is none.
    fn positions(&mut self, config: &Config) -> Range<usize> {
        let (skipped, columns) = (config.first_position, config.embedding_size);
        if !config.has_positions() {
            return 0..0;
        }
        let table = self.table("embeddings.position_embeddings", skipped + config.max_position_embeddings, columns);
        table.start + skipped * columns..table.end
    }

    /// The same, with a weight that is rounded.
    fn round(&mut self, affine: Affine) -> Affine {
        self.rounded += 1;
        Affine { rounded: Some(self.rounded - 1), ..affine }
    }

    fn linear(&mut self, name: String, shape: &[usize]) -> Affine {
        let affine = self.affine(&[name], shape);
        self.round(affine)
    }

    fn head(&mut self, config: &Config, head: Head) -> HeadLayout {
        let (hidden, modern) = (config.hidden_size, config.modern.is_some());
        let dense = (modern || head != Head::Span).then(|| self.affine(&[self.names.head.into()], &[hidden, hidden]));
        let norm = modern.then(|| self.affine(&["head.norm".into()], &[hidden]));
        let (name, outputs) = match head {
            Head::Labels(labels) => (self.names.classifier, labels),
            Head::Span => (self.names.spans, 2),
        };
        self.biased = true;
        HeadLayout { head, dense, norm, outputs: self.affine(&[name.into()], &[outputs, hidden]) }
    }

    /// `first_only`: only the first token of each row is a query.
    fn layer(&mut self, config: &Config, i: usize, first_only: bool) -> Layer {
        let names = self.names;
        let name = |part: &str| format!("{}{}.{i}.{part}", names.prefix, names.layer);
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let mut qkv = match names.key {
            "" => self.affine(&[name(names.query)], &[3 * hidden, hidden]),
            key => self.affine(&[name(names.query), name(key), name(names.value)], &[hidden, hidden]),
        };
        let (weight, bias) = (qkv.weight.clone(), qkv.bias.clone());
        let part = |rows: Range<usize>| Affine {
            weight: weight.start + rows.start * hidden..weight.start + rows.end * hidden,
            bias: if bias.is_empty() { bias.clone() } else { bias.start + rows.start..bias.start + rows.end },
            outputs: rows.len(),
            rounded: None,
        };
        let (mut query, mut key_value) = (part(0..hidden), part(hidden..3 * hidden));
        if first_only {
            (query, key_value) = (self.round(query), self.round(key_value));
        } else {
            qkv = self.round(qkv);
        }
        let modern = config.modern.is_some();
        Layer {
            qkv,
            query,
            key_value,
            attention_output: self.linear(name(names.attention_output), &[hidden, hidden]),
            // The embeddings are normalised already.
            attention_norm: if modern && i == 0 { self.none() } else { self.affine(&[name(names.attention_norm)], &[hidden]) },
            // A half for the gate.
            intermediate: self.linear(name(names.intermediate), &[if modern { 2 } else { 1 } * intermediate, hidden]),
            output: self.linear(name(names.output), &[hidden, intermediate]),
            output_norm: self.affine(&[name(names.output_norm)], &[hidden]),
        }
    }
}

impl Layout {
    /// The layout for a model with this head.
    pub fn new(config: &Config, head: Head) -> Self {
        let names = config.architecture.names();
        let (hidden, embedding) = (config.hidden_size, config.embedding_size);
        let mut b = Builder { names, tensors: Vec::new(), words: 0, end: 0, rounded: 0, biased: config.modern.is_none() };
        b.table(names.words, config.vocab_size, embedding);
        b.words = b.end;
        let positions = b.positions(config);
        let types = config.type_vocab_size;
        let token_types = (types > 0).then(|| b.table("embeddings.token_type_embeddings", types, embedding));
        let embedding_norm = b.affine(&[format!("{}{}", names.prefix, names.embedding_norm)], &[embedding]);
        let projection = (embedding != hidden).then(|| b.affine(&[format!("{}embeddings_project", names.prefix)], &[hidden, embedding]));
        let buckets = config.relative_buckets;
        let heads = config.num_attention_heads;
        let relative_bias = (buckets > 0).then(|| b.table("encoder.relative_attention_bias", buckets, heads));
        let relative_embeddings = config.disentangled.as_ref().map(|distances| {
            let table = b.table("encoder.rel_embeddings", 2 * distances.buckets, hidden);
            (table, b.affine(&[format!("{}encoder.LayerNorm", names.prefix)], &[hidden]))
        });
        let means = head != Head::Span && config.mean_pooling();
        let last = |i: usize| i + 1 == config.num_hidden_layers;
        let layers = (0..config.num_hidden_layers).map(|i| b.layer(config, i, last(i) && head != Head::Span && !means)).collect();
        let final_norm = config.modern.is_some().then(|| b.affine(&[format!("{}final_norm", names.prefix)], &[hidden]));
        let encoder_tensors = b.tensors.len();
        let head = b.head(config, head);
        let (words, tensors) = (b.words, b.tensors);
        Layout {
            tensors,
            words,
            positions,
            token_types,
            embedding_norm,
            projection,
            relative_bias,
            relative_embeddings,
            layers,
            final_norm,
            head,
            means,
            encoder_tensors,
        }
    }

    /// The head of the model.
    pub fn head(&self) -> Head {
        self.head.head
    }

    /// Which tokens are queries in a layer: `[CLS]` alone in a classifier's last layer, unless the shard wants every token.
    pub fn queries(&self, layer: usize, shard: &Shard) -> Queries {
        let last = layer + 1 == self.layers.len();
        let first_tokens = self.head() != Head::Span && !self.means && !shard.every_token;
        if last && first_tokens { Queries::First } else { Queries::All }
    }

    /// The tensors of the encoder and, after them, those of the head.
    pub fn parts(&self) -> (&[Tensor], &[Tensor]) {
        self.tensors.split_at(self.encoder_tensors)
    }

    /// Length of the encoder's part of the flat buffer; the head's lies behind it.
    pub fn encoder_len(&self) -> usize {
        self.parts().1[0].range.start
    }

    /// The linear layers whose weights are rounded, in the order of their numbers.
    pub fn rounded(&self) -> Vec<&Affine> {
        let all = self.layers.iter().flat_map(|l| [&l.qkv, &l.query, &l.key_value, &l.attention_output, &l.intermediate, &l.output]);
        all.filter(|affine| affine.rounded.is_some()).collect()
    }

    /// Number of logits of a batch.
    pub fn logits(&self, rows: usize, tokens: usize) -> usize {
        match self.head() {
            Head::Labels(labels) => rows * labels,
            Head::Span => 2 * tokens,
        }
    }

    /// Length of the flat buffer.
    pub fn len(&self) -> usize {
        self.tensors.last().map_or(0, |t| t.range.end)
    }
}
