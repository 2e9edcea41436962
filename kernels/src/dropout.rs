//! Inverted dropout whose masks are a pure function of (seed, step, site, row of the batch, element).
//!
//! Nothing is stored: the backward computes the mask again. How the rows of a batch are spread over threads does not change it.

use crate::vectorised;
#[cfg(feature = "candle")]
use candle_core::{DType, Device, Result, Shape, Tensor};

/// The masks of one place in the network in one training step.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    key: u64,
    first_row: usize,
    rate: f32,
}

/// The mask of one row (sequence) of the batch.
#[derive(Clone, Copy)]
pub struct RowMask {
    low: u32,
    high: u32,
    threshold: u32,
    scale: f32,
}

/// SplitMix64's finaliser (Steele, Lea and Flood, 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Dropout {
    /// Drops with probability `rate` in [0, 1). `site` tells the places of the network apart; `first_row` is the place in the batch
    /// of the first row this shard holds.
    pub fn new(seed: u64, step: u64, site: u64, first_row: usize, rate: f32) -> Self {
        assert!((0.0..1.0).contains(&rate), "dropout rate {rate}");
        Dropout { key: mix(mix(mix(seed) ^ step) ^ site), first_row, rate }
    }

    /// Whether every element is kept.
    pub fn is_off(&self) -> bool {
        self.rate == 0.0
    }

    /// The mask of row `row` of this shard.
    pub fn row(&self, row: usize) -> RowMask {
        let (key, first_row, threshold, scale) = self.words();
        let key = mix(key ^ (first_row + row) as u64);
        RowMask { low: key as u32, high: (key >> 32) as u32, threshold, scale }
    }

    /// What the masks are made of, for kernels in other languages: key, first row, threshold below which a hash drops its element, and the
    /// factor of the others.
    pub fn words(&self) -> (u64, usize, u32, f32) {
        (self.key, self.first_row, (self.rate as f64 * 4_294_967_296.0) as u32, 1.0 / (1.0 - self.rate))
    }

    /// Multiplies `x` (tokens, columns) by the masks of its rows, whose boundaries in tokens are `cu_seqlens`.
    pub fn apply(&self, x: &mut [f32], cu_seqlens: &[usize]) {
        if self.is_off() {
            return;
        }
        let tokens = *cu_seqlens.last().expect("cu_seqlens has rows + 1 entries");
        assert!(tokens > 0 && x.len().is_multiple_of(tokens), "{} numbers for {tokens} tokens", x.len());
        let columns = x.len() / tokens;
        for (row, ends) in cu_seqlens.windows(2).enumerate() {
            self.row(row).apply(0, &mut x[ends[0] * columns..ends[1] * columns]);
        }
    }
}

/// [`Dropout::apply`] of candle's operations, with the same masks.
#[cfg(feature = "candle")]
pub fn composed(dropout: &Dropout, x: &Tensor, cu_seqlens: &[usize]) -> Result<Tensor> {
    if dropout.is_off() {
        return Ok(x.clone());
    }
    let columns = x.dim(1)?;
    let mut kept = vec![0; x.elem_count()];
    for (row, ends) in cu_seqlens.windows(2).enumerate() {
        dropout.row(row).kept(0, &mut kept[ends[0] * columns..ends[1] * columns]);
    }
    x * dropout.mask(kept, x.shape(), x.device())?
}

#[cfg(feature = "candle")]
impl Dropout {
    /// A mask of `kept` elements (see [`RowMask::kept`]). A byte an element goes to the device: masks are made on the CPU, by the same
    /// function for every device.
    pub(crate) fn mask(&self, kept: Vec<u8>, shape: &Shape, device: &Device) -> Result<Tensor> {
        Tensor::from_vec(kept, shape, device)?.to_dtype(DType::F32)? * (1.0 / (1.0 - self.rate)) as f64
    }
}

impl RowMask {
    /// Which of the elements `first..` of the mask are kept: 1, or 0 for a dropped one.
    #[cfg(feature = "candle")]
    pub(crate) fn kept(&self, first: usize, kept: &mut [u8]) {
        kept.iter_mut().enumerate().for_each(|(i, kept)| *kept = (self.element((first + i) as u32) != 0.0) as u8);
    }

    /// Multiplies `x` by elements `first..` of the mask: 0 for a dropped element, 1 / (1 − rate) for a kept one.
    pub fn apply(&self, first: usize, x: &mut [f32]) {
        multiply(*self, first, x);
    }

    /// Element `i`: two rounds of multiply and xor-shift over the keyed counter (Wellons' `lowbias32`).
    #[inline(always)]
    fn element(&self, i: u32) -> f32 {
        let h = i.wrapping_mul(0x9e37_79b9) ^ self.low;
        let h = (h ^ (h >> 16)).wrapping_mul(0x7feb_352d) ^ self.high;
        let h = (h ^ (h >> 15)).wrapping_mul(0x846c_a68b);
        if (h ^ (h >> 16)) < self.threshold { 0.0 } else { self.scale }
    }
}

vectorised! {
    fn multiply(mask: RowMask, first: usize, x: &mut [f32]) {
        for (i, x) in x.iter_mut().enumerate() {
            *x *= mask.element((first + i) as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(dropout: &Dropout, cu_seqlens: &[usize], columns: usize) -> Vec<f32> {
        let mut x = vec![1.0; cu_seqlens.last().unwrap() * columns];
        dropout.apply(&mut x, cu_seqlens);
        x
    }

    #[test]
    fn keeps_the_mean_and_the_rate() {
        let x = masked(&Dropout::new(7, 3, 2, 0, 0.1), &[0, 500, 1000], 100);
        let kept = x.iter().filter(|&&v| v != 0.0).count() as f64 / x.len() as f64;
        let mean = x.iter().map(|&v| v as f64).sum::<f64>() / x.len() as f64;
        // Five standard deviations of 100,000 draws.
        assert!((kept - 0.9).abs() < 0.005, "kept {kept}");
        assert!((mean - 1.0).abs() < 0.006, "mean {mean}");
        assert!(x.iter().all(|&v| v == 0.0 || v == 1.0 / 0.9));
    }

    #[test]
    fn a_mask_depends_on_all_that_names_it() {
        let base = masked(&Dropout::new(1, 1, 1, 0, 0.5), &[0, 4], 64);
        assert_eq!(base, masked(&Dropout::new(1, 1, 1, 0, 0.5), &[0, 4], 64));
        for other in [(2, 1, 1, 0), (1, 2, 1, 0), (1, 1, 2, 0), (1, 1, 1, 1)] {
            let x = masked(&Dropout::new(other.0, other.1, other.2, other.3, 0.5), &[0, 4], 64);
            let same = x.iter().zip(&base).filter(|(a, b)| a == b).count();
            assert!((80..176).contains(&same), "{same} of 256 elements agree for {other:?}");
        }
    }

    #[test]
    fn shards_see_the_masks_of_their_rows() {
        let whole = masked(&Dropout::new(1, 1, 1, 0, 0.3), &[0, 3, 4, 9], 8);
        let second = masked(&Dropout::new(1, 1, 1, 1, 0.3), &[0, 1, 6], 8);
        assert_eq!(whole[24..], second);
    }

    #[test]
    fn rate_zero_is_the_identity() {
        assert!(masked(&Dropout::new(1, 1, 1, 0, 0.0), &[0, 5], 3).iter().all(|&v| v == 1.0));
    }

    #[cfg(feature = "candle")]
    #[test]
    fn composed_is_the_same() {
        use crate::testing::{assert_tensor, gradients, random, var};
        let (columns, cu_seqlens) = (7, [0, 3, 4, 9]);
        let (x, dy) = (random(9 * columns, 1), random(9 * columns, 2));
        for rate in [0.0, 0.3] {
            let dropout = Dropout::new(1, 2, 3, 4, rate);
            let (mut y, mut dx) = (x.clone(), dy.clone());
            dropout.apply(&mut y, &cu_seqlens);
            dropout.apply(&mut dx, &cu_seqlens);
            let vars = [var(&x, (9, columns))];
            let found = composed(&dropout, &vars[0], &cu_seqlens).unwrap();
            assert_tensor(&found, &y, 0.0);
            assert_tensor(&gradients(&found, &dy, &vars)[0], &dx, 0.0);
        }
    }
}
