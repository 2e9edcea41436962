//! Relative positions in buckets (Raffel et al., arXiv 1910.10683, as MPNet has them): near distances have a bucket each, farther ones
//! share one by the logarithm of the distance, and every head has a number for each bucket.

#[cfg(feature = "candle")]
use candle_core::{Result, Tensor};

/// All distances from this on are in the last bucket.
const FARTHEST: f32 = 128.0;

/// The bucket of the distance key - query: one half of the buckets is for the keys up to the query, the other for those behind it.
pub fn bucket(distance: isize, buckets: usize) -> usize {
    let half = buckets / 2;
    let (far, exact) = (distance.unsigned_abs(), half / 2);
    let bucket = if far < exact {
        far
    } else {
        let place = (far as f32 / exact as f32).ln() / (FARTHEST / exact as f32).ln() * (half - exact) as f32;
        (exact + place as usize).min(half - 1)
    };
    bucket + if distance > 0 { half } else { 0 }
}

/// The bucket of each distance from 1 - longest to longest - 1.
pub fn by_distance(buckets: usize, longest: usize) -> impl Iterator<Item = usize> {
    (0..2 * longest - 1).map(move |place| bucket(place as isize + 1 - longest as isize, buckets))
}

/// `bias` (heads, 2 * longest - 1), the number of each head and distance, from `table` (buckets, heads).
pub fn forward(table: &[f32], heads: usize, longest: usize, bias: &mut [f32]) {
    let distances = 2 * longest - 1;
    assert!(table.len().is_multiple_of(heads) && bias.len() == heads * distances, "shapes of a relative bias");
    for (place, bucket) in by_distance(table.len() / heads, longest).enumerate() {
        (0..heads).for_each(|head| bias[head * distances + place] = table[bucket * heads + head]);
    }
}

/// Adds to `dtable` (buckets, heads) from `dbias` (heads, 2 * longest - 1).
pub fn backward(dbias: &[f32], heads: usize, longest: usize, dtable: &mut [f32]) {
    let distances = 2 * longest - 1;
    assert!(dtable.len().is_multiple_of(heads) && dbias.len() == heads * distances, "shapes of a relative bias");
    for (place, bucket) in by_distance(dtable.len() / heads, longest).enumerate() {
        (0..heads).for_each(|head| dtable[bucket * heads + head] += dbias[head * distances + place]);
    }
}

/// [`forward`] of candle's operations: (heads, 2 * longest - 1).
#[cfg(feature = "candle")]
pub fn composed(table: &Tensor, longest: usize) -> Result<Tensor> {
    let places = Tensor::from_iter(by_distance(table.dim(0)?, longest).map(|bucket| bucket as u32), table.device())?;
    table.index_select(&places, 0)?.t()?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, dot, gradient, random, wide};

    /// The first distance of each bucket, as `MPNetEncoder.relative_position_bucket` of transformers has them for 32 buckets.
    #[test]
    fn buckets_are_those_of_transformers() {
        let firsts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        for distance in 0..1000 {
            let expected = firsts.iter().rposition(|&first| first <= distance).unwrap();
            assert_eq!(bucket(-distance, 32), expected, "{distance}");
            assert_eq!(bucket(distance, 32), if distance == 0 { 0 } else { 16 + expected }, "{distance}");
        }
    }

    #[test]
    fn forward_and_backward() {
        let (heads, longest) = (3, 40);
        let (table, dbias) = (random(8 * heads, 1), random(heads * (2 * longest - 1), 2));
        let reference = |table: &[f64]| -> Vec<f64> {
            let places = (0..heads).flat_map(|head| (0..2 * longest - 1).map(move |place| (head, place)));
            places.map(|(head, place)| table[bucket(place as isize + 1 - longest as isize, 8) * heads + head]).collect()
        };
        let (mut bias, mut dtable) = (vec![0.0; dbias.len()], vec![0.0; table.len()]);
        forward(&table, heads, longest, &mut bias);
        assert_close(&bias, &reference(&wide(&table)), 1e-7);
        backward(&dbias, heads, longest, &mut dtable);
        assert_close(&dtable, &gradient(&table, |table| dot(&reference(table), &dbias)), 1e-5);
    }

    #[cfg(feature = "candle")]
    #[test]
    fn composed_is_the_same() {
        use crate::testing::{assert_tensor, gradients, var};
        let (heads, longest) = (3, 40);
        let (table, dbias) = (random(8 * heads, 1), random(heads * (2 * longest - 1), 2));
        let (mut bias, mut dtable) = (vec![0.0; dbias.len()], vec![0.0; table.len()]);
        forward(&table, heads, longest, &mut bias);
        backward(&dbias, heads, longest, &mut dtable);
        let vars = [var(&table, (8, heads))];
        let found = composed(&vars[0], longest).unwrap();
        assert_tensor(&found, &bias, 1e-7);
        assert_tensor(&gradients(&found, &dbias, &vars)[0], &dtable, 1e-5);
    }
}
