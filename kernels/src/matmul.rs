//! The matrix product, on the calling thread: by the `gemm` crate, or in tiles over rounded panels.

use crate::mat::{Mat, MatMut};
use crate::packed::{BLOCK, LEFT_PANEL, LEFT_PLACES, Left, Panels, RIGHT_PANEL, Right};
use crate::tile::{Ahead, Tile};
use std::ops::Range;

/// `out` (m, n) = `a` (m, k) · `b` (k, n), or `out` += with `accumulate`.
pub fn matmul(out: MatMut, a: Mat, b: Mat, accumulate: bool) {
    let (m, n, k) = (a.rows(), b.cols(), a.cols());
    assert!((out.rows(), out.cols(), b.rows()) == (m, n, k), "({m}, {k}) times ({}, {n}) into ({}, {})", b.rows(), out.rows(), out.cols());
    let stride = |s: usize| s as isize;
    // SAFETY: the constructors checked that every element of the three views lies inside its slice, `out` is borrowed mutably and
    // so does not overlap `a` or `b`, and its rows do not overlap each other.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data.as_mut_ptr(),
            1,
            stride(out.row_stride),
            accumulate,
            a.data.as_ptr(),
            stride(a.col_stride),
            stride(a.row_stride),
            b.data.as_ptr(),
            stride(b.col_stride),
            stride(b.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub enum Onto<'a> {
    /// Nothing: the previous output is ignored.
    Zeros,
    /// This row, for every row of the output; the previous output is ignored.
    Row(&'a [f32]),
    /// The previous output.
    Output,
}

/// [`matmul`] of matrices rounded to 16 bits, added up in f32 (and, in a block, exactly in i32 for [`Format::Int16`]).
///
/// [`Format::Int16`]: crate::packed::Format::Int16
pub fn matmul_packed(mut out: MatMut, left: &Left, right: &Right, onto: Onto) {
    let (a, b) = (&left.panels, &right.panels);
    assert!(a.format == b.format, "a product of {:?} and {:?}", a.format, b.format);
    assert!(
        (out.rows(), out.cols(), b.depth) == (a.width, b.width, a.depth),
        "({}, {}) times ({}, {}) into ({}, {})",
        a.width,
        a.depth,
        b.depth,
        b.width,
        out.rows(),
        out.cols()
    );
    if let Onto::Row(row) = onto {
        assert!(row.len() == out.cols(), "a row of {} onto which to add rows of {}", row.len(), out.cols());
    }
    if a.depth == 0 || b.count == 0 {
        return (0..out.rows()).for_each(|i| onto.write(out.row_mut(i)));
    }
    for blocks in ranges(a.blocks(), CACHED_BLOCKS) {
        // Some left panels stay in the second-level cache while all right panels pass by.
        for lefts in ranges(a.count, (CACHED_PANELS / blocks.len()).max(1)) {
            let mut place = Some(Place { block: blocks.start, left: lefts.start, right: 0 });
            while let Some(here) = place {
                place = here.next(&blocks, &lefts, b.count);
                let tile = here.tile(&out, left, b, onto, place.unwrap_or(here));
                tile.compute(&mut out.data[here.first(out.row_stride)..], out.row_stride);
            }
        }
    }
}

impl<'a> Onto<'a> {
    /// The row as it is before the product.
    fn write(&self, row: &mut [f32]) {
        match self {
            Onto::Zeros => row.fill(0.0),
            Onto::Row(start) => row.copy_from_slice(start),
            Onto::Output => {}
        }
    }

    /// What the results of the `cols` columns from `first` are added to; nothing if to themselves.
    fn columns(&self, first: usize, cols: usize) -> Option<&'a [f32]> {
        match self {
            Onto::Zeros => Some(&[0.0; RIGHT_PANEL][..cols]),
            Onto::Row(row) => Some(&row[first..][..cols]),
            Onto::Output => None,
        }
    }
}

/// Blocks along the depth that are worked on before the next ones: their results are read and written once.
const CACHED_BLOCKS: usize = 8;
/// Left panels (of 4 KiB) that are used again for every right panel: half a MiB.
const CACHED_PANELS: usize = 128;

/// Which tile of a product: its block along the depth, its panels.
#[derive(Clone, Copy)]
struct Place {
    block: usize,
    left: usize,
    right: usize,
}

/// 0..n in pieces of `size`.
fn ranges(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(size).map(move |start| start..n.min(start + size))
}

impl Place {
    /// The place after this one among some blocks and left panels: along the depth, then down the left panels, then across the right ones.
    fn next(self, blocks: &Range<usize>, lefts: &Range<usize>, rights: usize) -> Option<Place> {
        if self.block + 1 < blocks.end {
            Some(Place { block: self.block + 1, ..self })
        } else if self.left + 1 < lefts.end {
            Some(Place { block: blocks.start, left: self.left + 1, ..self })
        } else {
            (self.right + 1 < rights).then_some(Place { block: blocks.start, left: lefts.start, right: self.right + 1 })
        }
    }

    /// Where the first result lies in an output whose rows begin `row_stride` numbers apart.
    fn first(&self, row_stride: usize) -> usize {
        self.left * LEFT_PANEL * row_stride + self.right * RIGHT_PANEL
    }

    /// The tile of a product with its operands; prefetches those of the `next` one.
    fn tile<'a>(&self, out: &MatMut, left: &'a Left, right: &'a Panels, onto: Onto<'a>, next: Place) -> Tile<'a> {
        let (row, col) = (self.left * LEFT_PANEL, self.right * RIGHT_PANEL);
        let (left_lines, left_scales) = left.panels.panel(self.block, self.left, LEFT_PLACES);
        let (right_lines, right_scales) = right.panel(self.block, self.right, RIGHT_PANEL);
        let cols = RIGHT_PANEL.min(out.cols() - col);
        Tile {
            format: right.format,
            order: left.order,
            left: left_lines,
            left_scales,
            right: right_lines,
            right_scales,
            rows: LEFT_PANEL.min(out.rows() - row),
            cols,
            pairs: (right.depth - self.block * BLOCK).min(BLOCK).div_ceil(2),
            onto: if self.block == 0 { onto.columns(col, cols) } else { None },
            ahead: Ahead {
                left: left.panels.panel(next.block, next.left, LEFT_PLACES).0,
                right: right.panel(next.block, next.right, RIGHT_PANEL).0,
                out: out.data.as_ptr().wrapping_add(next.first(out.row_stride)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::Format;
    use crate::testing::{assert_close, random};

    #[test]
    fn agrees_with_the_plain_product() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (1, 33, 2), (17, 1, 9), (40, 64, 33)] {
            let (a, b) = (random(m * k, 1), random(k * n, 2));
            let mut out = random(m * n, 3);
            let expected: Vec<f64> = (0..m * n)
                .map(|e| out[e] as f64 + (0..k).map(|l| a[e / n * k + l] as f64 * b[l * n + e % n] as f64).sum::<f64>())
                .collect();
            matmul(MatMut::new(&mut out, n), Mat::new(&a, k), Mat::new(&b, n), true);
            assert_close(&out, &expected, 1e-5);
        }
    }

    #[test]
    fn strided_and_transposed() {
        let a: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut out = vec![-1.0; 8];
        // Columns 1..3 of a (3, 4) matrix, transposed, times columns 0..2.
        matmul(MatMut::strided(&mut out[1..], 2, 2, 4), Mat::strided(&a[1..], 3, 2, 4).t(), Mat::strided(&a, 3, 2, 4), false);
        assert_eq!(out, [-1.0, 92.0, 107.0, -1.0, -1.0, 104.0, 122.0, -1.0]);
    }

    /// Rounded products against exact ones: the error of a sum of k products is about √k roundings.
    #[test]
    fn packed_agrees_with_the_plain_product() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (14, 128, 32), (17, 129, 33), (29, 300, 70), (240, 1100, 70), (5, 40, 3)] {
            let (a, b) = (random(m * k, 1), random(k * n, 2));
            let a_t: Vec<f32> = (0..a.len()).map(|i| a[i % m * k + i / m]).collect();
            let b_t: Vec<f32> = (0..b.len()).map(|i| b[i % k * n + i / k]).collect();
            let before = random(m * (n + 2), 3);
            for (format, error) in [(Format::Int16, 4e-4), (Format::Bf16, 4e-3)] {
                let (mut left, mut right) = (Left::default(), Right::default());
                for (a, b) in [(Mat::new(&a, k), Mat::new(&b, n)), (Mat::new(&a_t, m).t(), Mat::new(&b_t, k).t())] {
                    left.pack(a, format);
                    right.pack(b, format);
                    for onto in [Onto::Zeros, Onto::Row(&before[1..][..n]), Onto::Output] {
                        let (mut out, mut exact) = (before.clone(), before.clone());
                        let rows = |out: &mut [f32], product: &dyn Fn(MatMut)| product(MatMut::strided(out, m, n, n + 2));
                        rows(&mut out, &|out| matmul_packed(out, &left, &right, onto));
                        exact.chunks_mut(n + 2).for_each(|row| onto.write(&mut row[..n]));
                        rows(&mut exact, &|out| matmul(out, a, b, true));
                        assert_close(&out, &crate::testing::wide(&exact), error * (k as f64).sqrt());
                    }
                }
            }
        }
    }

    /// A block that is not finite makes its row NaN and no other, whatever it is multiplied by.
    #[test]
    fn packed_products_of_what_is_not_finite() {
        for strange in [f32::NAN, f32::INFINITY] {
            let (mut a, b) = (random(3 * 200, 1), vec![0.0; 200 * 5]);
            a[250] = strange;
            let (mut left, mut right, mut out) = (Left::default(), Right::default(), vec![1.0; 15]);
            left.pack(Mat::new(&a, 200), Format::Int16);
            right.pack(Mat::new(&b, 5), Format::Int16);
            matmul_packed(MatMut::new(&mut out, 5), &left, &right, Onto::Zeros);
            assert!(out[5..10].iter().all(|x| x.is_nan()) && out[..5].iter().chain(&out[10..]).all(|&x| x == 0.0), "{out:?}");
        }
    }

    #[test]
    fn packed_products_without_depth_or_rows() {
        let (mut left, mut right, mut out) = (Left::default(), Right::default(), [1.0; 6]);
        left.pack(Mat::strided(&[], 2, 0, 0), Format::Int16);
        right.pack(Mat::strided(&[], 0, 3, 3), Format::Int16);
        for (onto, expected) in
            [(Onto::Output, [1.0; 6]), (Onto::Zeros, [0.0; 6]), (Onto::Row(&[1.0, 2.0, 3.0]), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0])]
        {
            matmul_packed(MatMut::new(&mut out, 3), &left, &right, onto);
            assert_eq!(out, expected);
        }
    }
}
