//! The inner tile of a 16-bit product: up to 14 x 32 results of one block, on AVX512_VNNI, AVX512_BF16 or in plain Rust.

use crate::packed::{Format, LEFT_PANEL, Line, Order, PAIRS, RIGHT_PANEL};

/// One tile's operands.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    pub format: Format,
    pub order: Order,
    /// The left panel, and the scales of its rows (none for bf16).
    pub left: &'a [Line],
    pub left_scales: &'a [f32],
    pub right: &'a [Line],
    pub right_scales: &'a [f32],
    /// Number of rows and columns of the result.
    pub rows: usize,
    pub cols: usize,
    /// Pairs along the depth that are not padding.
    pub pairs: usize,
    /// A row of `cols` numbers that the products are added to; if `None`, they are added to the output.
    pub onto: Option<&'a [f32]>,
    pub ahead: Ahead<'a>,
}

/// The next tile's operands, prefetched a little at a time: all at once would stall on the line fill buffers.
#[derive(Clone, Copy)]
pub(crate) struct Ahead<'a> {
    pub left: &'a [Line],
    pub right: &'a [Line],
    /// Its first result; the rows are as far apart as this tile's. Never read.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub out: *const f32,
}

impl Tile<'_> {
    /// `out`, whose rows begin `row_stride` numbers apart, += the product of the two panels, or becomes the product and `onto`;
    /// only `rows` x `cols` numbers are touched.
    pub fn compute(&self, out: &mut [f32], row_stride: usize) {
        assert!(self.rows <= LEFT_PANEL && self.cols <= RIGHT_PANEL && self.pairs <= PAIRS);
        assert!(self.left.len() == 16 * PAIRS / 16 && self.right.len() == RIGHT_PANEL * PAIRS / 16);
        assert!(self.rows == 0 || (self.rows - 1) * row_stride + self.cols <= out.len());
        assert!(self.onto.is_none_or(|row| row.len() == self.cols));
        assert!(self.ahead.left.len() == self.left.len() && self.ahead.right.len() == self.right.len());
        if self.format == Format::Int16 {
            assert!(self.left_scales.len() >= LEFT_PANEL && self.right_scales.len() == RIGHT_PANEL);
        }
        #[cfg(target_arch = "x86_64")]
        if self.format.is_fast() {
            // SAFETY: the instructions of the format were detected, and the lengths are checked above.
            return unsafe { x86::compute(self, out.as_mut_ptr(), row_stride) };
        }
        self.compute_plainly(out, row_stride);
    }

    /// [`Tile::compute`] in plain Rust.
    pub fn compute_plainly(&self, out: &mut [f32], row_stride: usize) {
        for row in 0..self.rows {
            let out = &mut out[row * row_stride..][..self.cols];
            self.onto.inspect(|start| out.copy_from_slice(start));
            match self.format {
                Format::Int16 => self.add_row(out, 0i32, self.left_scales[row], row, |sum, (a, b), (c, d)| {
                    sum.wrapping_add(i32::from(a as i16) * i32::from(c as i16)).wrapping_add(i32::from(b as i16) * i32::from(d as i16))
                }),
                Format::Bf16 => {
                    let wide = |x: u16| f32::from_bits(u32::from(x) << 16);
                    self.add_row(out, 0f32, 1.0, row, |sum, (a, b), (c, d)| sum + wide(a) * wide(c) + wide(b) * wide(d))
                }
            }
        }
    }

    /// One row of results; `dot` adds the products of two pairs to a sum.
    fn add_row<S: Copy + Sum>(&self, out: &mut [f32], zero: S, scale: f32, row: usize, dot: impl Fn(S, (u16, u16), (u16, u16)) -> S) {
        let pair = |word: u32| (u32::from_le(word) as u16, (u32::from_le(word) >> 16) as u16);
        let mut sums = [zero; RIGHT_PANEL];
        for p in 0..self.pairs {
            let at = match self.order {
                Order::Rows => row * PAIRS + p,
                Order::Pairs => p * 16 + row,
            };
            let left = pair(self.left[at / 16].0[at % 16]);
            for (c, sum) in sums.iter_mut().enumerate() {
                let at = p * RIGHT_PANEL + c;
                *sum = dot(*sum, left, pair(self.right[at / 16].0[at % 16]));
            }
        }
        for (c, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
            *out += sum.to_f32() * (scale * self.right_scales.get(c).copied().unwrap_or(1.0));
        }
    }
}

/// A sum of products: an integer or a float.
trait Sum: Copy {
    fn to_f32(self) -> f32;
}

impl Sum for i32 {
    fn to_f32(self) -> f32 {
        self as f32
    }
}

impl Sum for f32 {
    fn to_f32(self) -> f32 {
        self
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Ahead, Format, LEFT_PANEL, Order, PAIRS, RIGHT_PANEL, Tile};
    use crate::prefetch;
    use std::arch::x86_64::*;
    use std::mem::transmute;

    /// # Safety
    /// The CPU has the format's instructions; the lengths of the tile are as [`Tile::compute`] checks them.
    pub unsafe fn compute(tile: &Tile, out: *mut f32, row_stride: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            match (tile.format, tile.order) {
                (Format::Int16, Order::Rows) => by_height::<true, PAIRS, 1>(tile, out, row_stride),
                (Format::Int16, Order::Pairs) => by_height::<true, 1, 16>(tile, out, row_stride),
                (Format::Bf16, Order::Rows) => by_height::<false, PAIRS, 1>(tile, out, row_stride),
                (Format::Bf16, Order::Pairs) => by_height::<false, 1, 16>(tile, out, row_stride),
            }
        }
    }

    /// The kernel with the fewest rows that suffice. `ROW` and `PAIR`: steps to the next row and the next pair of the left panel.
    unsafe fn by_height<const INTEGER: bool, const ROW: usize, const PAIR: usize>(tile: &Tile, out: *mut f32, row_stride: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            match (INTEGER, tile.rows) {
                (true, 9..) => int16::<14, ROW, PAIR>(tile, out, row_stride),
                (true, 5..) => int16::<8, ROW, PAIR>(tile, out, row_stride),
                (true, 3..) => int16::<4, ROW, PAIR>(tile, out, row_stride),
                (true, _) => int16::<2, ROW, PAIR>(tile, out, row_stride),
                (false, 9..) => bf16::<14, ROW, PAIR>(tile, out, row_stride),
                (false, 5..) => bf16::<8, ROW, PAIR>(tile, out, row_stride),
                (false, 3..) => bf16::<4, ROW, PAIR>(tile, out, row_stride),
                (false, _) => bf16::<2, ROW, PAIR>(tile, out, row_stride),
            }
        }
    }

    /// Masks of the columns that are results, in the two halves of a row.
    fn masks(cols: usize) -> (u16, u16) {
        let mask = ((1u64 << cols) - 1) as u32;
        (mask as u16, (mask >> 16) as u16)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
    unsafe fn int16<const ROWS: usize, const ROW: usize, const PAIR: usize>(tile: &Tile, out: *mut f32, row_stride: usize) {
        let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
        let (mut left, mut right) = (tile.left.as_ptr().cast::<i32>(), tile.right.as_ptr().cast::<__m512i>());
        // SAFETY: both panels hold `PAIRS` pairs, `pairs` is no more; a left panel has 16 places, `ROWS` is fewer.
        unsafe {
            for pair in 0..tile.pairs {
                tile.ahead.prefetch(pair, row_stride);
                let (b0, b1) = (_mm512_load_si512(right), _mm512_load_si512(right.add(1)));
                for (r, sum) in sums.iter_mut().enumerate() {
                    let a = _mm512_set1_epi32(left.add(r * ROW).read());
                    sum[0] = _mm512_dpwssd_epi32(sum[0], a, b0);
                    sum[1] = _mm512_dpwssd_epi32(sum[1], a, b1);
                }
                (left, right) = (left.add(PAIR), right.add(RIGHT_PANEL / 16));
            }
            let scales = tile.right_scales.as_ptr();
            let (s0, s1) = (_mm512_loadu_ps(scales), _mm512_loadu_ps(scales.add(16)));
            let (m0, m1) = masks(tile.cols);
            let (onto, onto_stride) = onto(tile, out, row_stride);
            for (r, sum) in sums.into_iter().enumerate() {
                if r < tile.rows {
                    let (scale, onto, out) = (_mm512_set1_ps(tile.left_scales[r]), onto.add(r * onto_stride), out.add(r * row_stride));
                    add(onto, out, m0, _mm512_cvtepi32_ps(sum[0]), _mm512_mul_ps(scale, s0));
                    // Not an address to compute where the row ends before it.
                    if m1 != 0 {
                        add(onto.add(16), out.add(16), m1, _mm512_cvtepi32_ps(sum[1]), _mm512_mul_ps(scale, s1));
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
    unsafe fn bf16<const ROWS: usize, const ROW: usize, const PAIR: usize>(tile: &Tile, out: *mut f32, row_stride: usize) {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        let (mut left, mut right) = (tile.left.as_ptr().cast::<i32>(), tile.right.as_ptr().cast::<__m512i>());
        // SAFETY: both panels hold `PAIRS` pairs, `pairs` is no more; a left panel has 16 places, `ROWS` is fewer. The vectors that are
        // transmuted are 512 bits each.
        unsafe {
            for pair in 0..tile.pairs {
                tile.ahead.prefetch(pair, row_stride);
                let (b0, b1) = (_mm512_load_si512(right), _mm512_load_si512(right.add(1)));
                for (r, sum) in sums.iter_mut().enumerate() {
                    let a: __m512bh = transmute(_mm512_set1_epi32(left.add(r * ROW).read()));
                    sum[0] = _mm512_dpbf16_ps(sum[0], a, transmute::<__m512i, __m512bh>(b0));
                    sum[1] = _mm512_dpbf16_ps(sum[1], a, transmute::<__m512i, __m512bh>(b1));
                }
                (left, right) = (left.add(PAIR), right.add(RIGHT_PANEL / 16));
            }
            let ((m0, m1), one) = (masks(tile.cols), _mm512_set1_ps(1.0));
            let (onto, onto_stride) = onto(tile, out, row_stride);
            for (r, sum) in sums.into_iter().enumerate() {
                if r < tile.rows {
                    let (onto, out) = (onto.add(r * onto_stride), out.add(r * row_stride));
                    add(onto, out, m0, sum[0], one);
                    if m1 != 0 {
                        add(onto.add(16), out.add(16), m1, sum[1], one);
                    }
                }
            }
        }
    }

    /// What the results are added to, and how far apart its rows are: one row for all of them, or the output's own.
    fn onto(tile: &Tile, out: *const f32, row_stride: usize) -> (*const f32, usize) {
        tile.onto.map_or((out, row_stride), |row| (row.as_ptr(), 0))
    }

    /// `out` = `onto` + `sum` * `scale`, where `mask` has a bit.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add(onto: *const f32, out: *mut f32, mask: u16, sum: __m512, scale: __m512) {
        // SAFETY: the numbers under the mask are inside of the slices, as [`Tile::compute`] checks.
        unsafe { _mm512_mask_storeu_ps(out, mask, _mm512_fmadd_ps(sum, scale, _mm512_maskz_loadu_ps(mask, onto))) }
    }

    impl Ahead<'_> {
        /// Prefetches one pair's share of the next tile: a line of the left panel, two of the right one and half a row of results.
        #[inline(always)]
        fn prefetch(&self, pair: usize, row_stride: usize) {
            prefetch::now(self.left.as_ptr().wrapping_add(pair).cast());
            prefetch::now(self.right.as_ptr().wrapping_add(2 * pair).cast());
            prefetch::now(self.right.as_ptr().wrapping_add(2 * pair + 1).cast());
            if pair < 2 * LEFT_PANEL {
                prefetch::now(self.out.wrapping_add(pair / 2 * row_stride + pair % 2 * 16).cast());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mat::Mat;
    use crate::packed::{Left, Right};
    use crate::testing::{assert_close, random, wide};

    /// The instructions of the CPU and plain Rust give the same tile, at every height and width.
    #[test]
    fn fast_and_plain_agree() {
        let (depth, stride) = (101, 40);
        let (x, w) = (random(LEFT_PANEL * depth, 1), random(depth * RIGHT_PANEL, 2));
        let x_t: Vec<f32> = (0..x.len()).map(|i| x[i % LEFT_PANEL * depth + i / LEFT_PANEL]).collect();
        for format in [Format::Int16, Format::Bf16] {
            for mat in [Mat::new(&x, depth), Mat::new(&x_t, LEFT_PANEL).t()] {
                let (mut left, mut right) = (Left::default(), Right::default());
                left.pack(mat, format);
                right.pack(Mat::new(&w, RIGHT_PANEL), format);
                let ((left_lines, left_scales), (right_lines, right_scales)) = (left.panels.panel(0, 0, 16), right.panels.panel(0, 0, 32));
                for rows in 0..=LEFT_PANEL {
                    for cols in [1, 15, 16, 17, 31, 32] {
                        let order = left.order;
                        let pairs = depth.div_ceil(2);
                        let (mut fast, mut plain) = (random(LEFT_PANEL * stride, 3), random(LEFT_PANEL * stride, 3));
                        let ahead = Ahead { left: left_lines, right: right_lines, out: fast.as_ptr() };
                        for onto in [None, Some(&w[..cols])] {
                            let (left, right) = (left_lines, right_lines);
                            let tile = Tile { format, order, left, left_scales, right, right_scales, rows, cols, pairs, onto, ahead };
                            tile.compute(&mut fast, stride);
                            tile.compute_plainly(&mut plain, stride);
                            assert_close(&fast, &wide(&plain), 1e-5);
                        }
                    }
                }
            }
        }
    }
}
