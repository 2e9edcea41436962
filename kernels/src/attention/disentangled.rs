//! Scores between contents and relative positions (He et al., arXiv 2006.03654 and 2111.09543): a query's with the position of a key as it
//! sees it, and a key's with the same position.

use super::blocks::Block;
use super::shape::{Attention, Disentangled, resized};
use crate::mat::{Mat, MatMut};
use crate::matmul::matmul;
use std::ops::Range;

/// The row of each distance query - key from 1 - longest to longest - 1, in DeBERTa-v2's table of 2 * `buckets` relative positions: near
/// distances have one each, farther ones share them by the logarithm of the distance, up to `farthest`.
pub fn rows(buckets: usize, farthest: usize, longest: usize) -> Vec<u32> {
    let (middle, span) = ((buckets / 2) as f32, buckets as i64);
    let bucket = |distance: i64| {
        let far = distance.unsigned_abs() as f32;
        if far <= middle {
            return distance;
        }
        let place = ((far / middle).ln() / ((farthest - 1) as f32 / middle).ln() * (middle - 1.0)).ceil() + middle;
        place as i64 * distance.signum()
    };
    let last = longest as i64 - 1;
    (-last..=last).map(|distance| (bucket(distance) + span).clamp(0, 2 * span - 1) as u32).collect()
}

/// Products of a block with relative positions, and their gradients.
#[derive(Default)]
pub(super) struct Products {
    /// (queries, positions): of the block's queries with the keys of positions.
    queries: Vec<f32>,
    /// (keys, positions): of the block's keys with the queries of positions.
    keys: Vec<f32>,
}

impl Disentangled<'_> {
    pub(super) fn check(&self, hidden: usize, longest: usize) {
        assert!(self.longest >= longest.max(1) && self.rows.len() == 2 * self.longest - 1, "rows of all distances");
        let most = self.rows.iter().max().map_or(0, |&row| row as usize);
        assert!(
            self.positions.len().is_multiple_of(3 * hidden) && self.positions.len() >= (most + 1) * 3 * hidden,
            "positions of all rows"
        );
    }

    /// The rows that a query meets, from that of the last of these keys to that of the first.
    fn rows_of(&self, query: usize, keys: &Range<usize>) -> &[u32] {
        let first = self.longest + query - keys.end;
        &self.rows[first..first + keys.len()]
    }

    /// The rows that a block meets.
    fn range(&self, b: &Block) -> Range<usize> {
        let first = self.rows[self.longest + b.queries.start - b.keys.end];
        let last = self.rows[self.longest - 1 + b.queries.end - 1 - b.keys.start];
        first as usize..last as usize + 1
    }

    /// (rows, head_size) of the queries (0) or keys (1) of relative positions, of a head.
    fn part<'p>(&self, attention: &Attention, positions: &'p [f32], head: usize, rows: &Range<usize>, part: usize) -> Mat<'p> {
        let hidden = attention.hidden();
        Mat::strided(
            &positions[(3 * rows.start + part) * hidden + head * attention.head_size..],
            rows.len(),
            attention.head_size,
            3 * hidden,
        )
    }

    /// Adds the products with relative positions to those of queries and keys, `products` (queries, keys).
    pub(super) fn add(&self, attention: &Attention, b: &Block, qkv: &[f32], products: &mut [f32], scratch: &mut Products) {
        let rows = self.range(b);
        let n = rows.len();
        let [of_queries, of_keys] = [(0, 1, b.queries.len(), &mut scratch.queries), (1, 0, b.keys.len(), &mut scratch.keys)].map(
            |(part, of_position, count, products)| {
                let products = resized(products, count * n);
                let positions = self.part(attention, self.positions, b.head, &rows, of_position);
                matmul(MatMut::new(products, n), attention.part(qkv, b, part), positions.t(), false);
                products
            },
        );
        for (q, products) in products.chunks_exact_mut(b.keys.len()).enumerate() {
            let of_query = &of_queries[q * n..][..n];
            let places = self.rows_of(b.queries.start + q, &b.keys).iter().rev();
            for ((product, of_key), &row) in products.iter_mut().zip(of_keys.chunks_exact(n)).zip(places) {
                let place = row as usize - rows.start;
                *product += of_query[place] + of_key[place];
            }
        }
    }

    /// Adds to the gradients of queries and keys in `dqkv`, and to those of the positions, from the gradient of the products.
    pub(super) fn backward(
        &self,
        attention: &Attention,
        b: &Block,
        (qkv, dproducts): (&[f32], &[f32]),
        dqkv: &mut [f32],
        dpositions: &mut [f32],
        scratch: &mut Products,
    ) {
        let rows = self.range(b);
        let n = rows.len();
        let [of_queries, of_keys] =
            [(b.queries.len(), &mut scratch.queries), (b.keys.len(), &mut scratch.keys)].map(|(count, products)| {
                products.clear();
                resized(products, count * n)
            });
        for (q, dproducts) in dproducts.chunks_exact(b.keys.len()).enumerate() {
            let of_query = &mut of_queries[q * n..][..n];
            let places = self.rows_of(b.queries.start + q, &b.keys).iter().rev();
            for ((d, of_key), &row) in dproducts.iter().zip(of_keys.chunks_exact_mut(n)).zip(places) {
                let place = row as usize - rows.start;
                of_query[place] += d;
                of_key[place] += d;
            }
        }
        let hidden = attention.hidden();
        for (part, of_position, products) in [(0, 1, &*of_queries), (1, 0, &*of_keys)] {
            let products = Mat::new(products, n);
            matmul(attention.part_mut(dqkv, b, part), products, self.part(attention, self.positions, b.head, &rows, of_position), true);
            let place = (3 * rows.start + of_position) * hidden + b.head * attention.head_size;
            let dpositions = MatMut::strided(&mut dpositions[place..], n, attention.head_size, 3 * hidden);
            matmul(dpositions, products.t(), attention.part(qkv, b, part), true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `make_log_bucket_position` of transformers, with the clamp of its attention; checked by a weighted sum over all distances.
    #[test]
    fn rows_are_those_of_transformers() {
        for (buckets, farthest, expected) in [(16, 64, 139_543_803), (256, 512, 2_294_322_370), (32, 2048, 281_285_565)] {
            let found = rows(buckets, farthest, 3000);
            let (before, from_0) = found.split_at(2999);
            let sum: u64 = from_0.iter().zip(1..).map(|(&row, n)| row as u64 * n).sum();
            assert_eq!(sum, expected, "{buckets} buckets");
            let turned =
                before.iter().rev().zip(&from_0[1..]).all(|(before, behind)| before + behind == 2 * buckets as u32 || *before == 0);
            assert!(turned && found.is_sorted(), "{buckets} buckets");
        }
        let rows = rows(256, 512, 513);
        let found = [0, 127, 128, 129, -129, 150, 256, -301, 511, -511, 512, -512].map(|distance: i64| rows[(distance + 512) as usize]);
        assert_eq!(found, [256, 383, 384, 385, 127, 399, 448, 49, 511, 1, 511, 0]);
    }
}
