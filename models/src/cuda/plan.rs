//! The rows of a shard as the kernels read them: one table of integers, copied to the device at once.

use super::arena::Arena;
use crate::ModelError;
use crate::batch::Shard;
use crate::config::Config;
use crate::layout::{Head, Layout};
use crate::targets::Targets;
use lacuna_cuda::kernels::{ADD, PARTIAL, Segment, TILE};
use lacuna_cuda::{Device, Place};
use lacuna_kernels::relative_bias::by_distance;
use std::ops::Range;

/// A token type's tokens are summed in pieces of this many.
const TYPE_PIECE: usize = 32;

/// Where the parts of the table lie on the device, and how long they are.
pub struct Plan {
    pub tokens: usize,
    pub rows: usize,
    pub tiles: usize,
    pub segments: usize,
    /// For each token type, its pieces among all.
    pub type_pieces: Vec<Range<usize>>,
    pub ids: Place,
    pub type_ids: Place,
    pub position_ids: Place,
    /// (tokens): the row of each token.
    pub row_ids: Place,
    pub cu_seqlens: Place,
    pub tile_table: Place,
    /// Tokens of the longest row.
    pub longest: usize,
    /// (2 longest - 1): the bucket of each distance of a key from a query; none for a model without them.
    pub buckets: Place,
    /// Tokens in the order of the segments, and the segments.
    pub order: Place,
    pub segment_table: Place,
    /// Labels: (rows, labels) probabilities and (rows) weights; spans: (rows, 2) answers, and none.
    pub targets: Place,
    pub weights: Place,
    /// Whether a row may have several labels, each with a loss of its own.
    pub several: bool,
}

/// A table in the making.
#[derive(Default)]
struct Table(Vec<u32>);

impl Table {
    /// Adds a part that begins at a multiple of 16 bytes; returns its place in words.
    fn add(&mut self, part: impl IntoIterator<Item = u32>) -> usize {
        let start = self.0.len().next_multiple_of(4);
        self.0.resize(start, 0);
        self.0.extend(part);
        start
    }
}

/// Tokens by the embedding rows they took.
#[derive(Default)]
struct Segments {
    order: Vec<u32>,
    segments: Vec<Segment>,
    type_pieces: Vec<Range<usize>>,
}

impl Segments {
    fn push(&mut self, tokens: impl Iterator<Item = u32>, to: usize, flags: u32) {
        let start = self.order.len();
        self.order.extend(tokens);
        self.segments.push(Segment { start: start as u32, count: (self.order.len() - start) as u32, to: to as u32, flags });
    }

    /// The tokens of each word. `touched` are the words with a gradient from parts before, in order.
    fn words(&mut self, shard: &Shard, touched: &[u32]) {
        let mut tokens: Vec<(u32, u32)> = shard.input_ids.iter().copied().zip(0..).collect();
        tokens.sort_unstable();
        for run in tokens.chunk_by(|a, b| a.0 == b.0) {
            let flags = if touched.binary_search(&run[0].0).is_ok() { ADD } else { 0 };
            self.push(run.iter().map(|&(_, token)| token), run[0].0 as usize, flags);
        }
    }

    /// The tokens at each position; `first` is the row of the flat buffer where the table begins.
    fn positions(&mut self, shard: &Shard, first: usize) {
        let longest = shard.cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
        for position in 0..longest {
            let rows = shard.cu_seqlens.windows(2).filter(|ends| ends[1] - ends[0] > position);
            self.push(rows.map(|ends| (ends[0] + position) as u32), first + position, ADD);
        }
    }

    /// The tokens of each type, in pieces whose sums go to the partial sums.
    fn types(&mut self, shard: &Shard, types: usize) {
        let mut pieces = 0;
        for kind in 0..types as u32 {
            let tokens: Vec<u32> = (0..).zip(shard.token_type_ids).filter(|(_, of)| **of == kind).map(|(token, _)| token).collect();
            let first = pieces;
            for piece in tokens.chunks(TYPE_PIECE) {
                self.push(piece.iter().copied(), pieces, PARTIAL);
                pieces += 1;
            }
            self.type_pieces.push(first..pieces);
        }
    }

    fn new(shard: &Shard, layout: &Layout, columns: usize, touched: &[u32]) -> Self {
        let mut segments = Segments::default();
        segments.words(shard, touched);
        segments.positions(shard, (layout.words + layout.positions.start) / columns);
        if let Some(types) = &layout.token_types {
            segments.types(shard, types.len() / columns);
        }
        segments
    }
}

/// The tiles of attention: a row, and the first token of at most TILE.
fn tiles(shard: &Shard) -> Vec<u32> {
    let rows = shard.cu_seqlens.windows(2).enumerate();
    rows.flat_map(|(row, ends)| (0..ends[1] - ends[0]).step_by(TILE).flat_map(move |first| [row as u32, first as u32])).collect()
}

/// Targets of a shard's rows, as integers: the bits of their numbers.
fn targets_of(shard: &Shard, targets: &Targets, head: Head) -> (Vec<u32>, Vec<u32>) {
    let rows = shard.first_row..shard.first_row + shard.rows();
    let bits = |floats: &[f32]| floats.iter().map(|x| x.to_bits()).collect();
    match (targets, head) {
        (Targets::Labels { probabilities, weights } | Targets::LabelSets { probabilities, weights }, Head::Labels(labels)) => {
            (bits(&probabilities[rows.start * labels..rows.end * labels]), bits(&weights[rows]))
        }
        (Targets::Spans(spans), _) => (spans[rows].iter().flat_map(|s| [s.start as u32, s.end as u32]).collect(), Vec::new()),
        (Targets::Labels { .. } | Targets::LabelSets { .. }, Head::Span) => Default::default(),
    }
}

impl Plan {
    /// For a shard of a checked batch, with targets, to train on, or without. `touched` are the words with a gradient from parts before, in
    /// order.
    pub fn new(
        device: &Device,
        arena: &mut Arena,
        shard: &Shard,
        (layout, config): (&Layout, &Config),
        training: Option<(&Targets, &[u32])>,
    ) -> Result<Self, ModelError> {
        let segments = training.map(|(_, touched)| Segments::new(shard, layout, config.embedding_size, touched)).unwrap_or_default();
        let (targets, weights) = training.map(|(targets, _)| targets_of(shard, targets, layout.head())).unwrap_or_default();
        let (tiles, longest, mut table) = (tiles(shard), shard.longest(), Table::default());
        let relative = config.relative_buckets > 0;
        let buckets: Vec<u32> =
            if relative { by_distance(config.relative_buckets, longest).map(|bucket| bucket as u32).collect() } else { vec![] };
        let row_ids = shard.cu_seqlens.windows(2).zip(0..).flat_map(|(ends, row)| std::iter::repeat_n(row, ends[1] - ends[0]));
        let offsets = [
            table.add(shard.input_ids.iter().copied()),
            table.add(shard.token_type_ids.iter().copied()),
            table.add(shard.position_ids.iter().copied()),
            table.add(row_ids),
            table.add(shard.cu_seqlens.iter().map(|&token| token as u32)),
            table.add(tiles.iter().copied()),
            table.add(buckets.iter().copied()),
            table.add(segments.order),
            table.add(segments.segments.iter().flat_map(|segment| segment.words())),
            table.add(targets.iter().copied()),
            table.add(weights.iter().copied()),
        ];
        let place = arena.take(4 * table.0.len())?;
        device.upload(place, &table.0)?;
        let [ids, type_ids, position_ids, row_ids, cu_seqlens, tile_table, bucket_table, order, segment_table, target_table, weight_table] =
            offsets.map(|offset| place.words(offset));
        let if_any = |place, part: &[u32]| if part.is_empty() { Place::NONE } else { place };
        Ok(Plan {
            tokens: shard.tokens(),
            rows: shard.rows(),
            tiles: tiles.len() / 2,
            segments: segments.segments.len(),
            type_pieces: segments.type_pieces,
            ids,
            type_ids,
            position_ids,
            row_ids,
            cu_seqlens,
            tile_table,
            longest,
            buckets: if_any(bucket_table, &buckets),
            order,
            segment_table,
            targets: if_any(target_table, &targets),
            weights: if_any(weight_table, &weights),
            several: training.is_some_and(|(targets, _)| matches!(targets, Targets::LabelSets { .. })),
        })
    }
}
