//! Matrices rounded to 16 bits and laid out in pairs along the depth of a product, as the dot-product instructions of CPUs read them.
//!
//! Two formats. [`Format::Bf16`] drops the lower half of each f32. [`Format::Int16`] is block floating point: [`BLOCK`] neighbours along
//! the depth share one f32 scale and are integers of 13 bits, so that their products add up in 32 bits without overflow. It needs
//! no more than AVX512_VNNI, and its rounding error is below that of bf16 unless a block spans more than five powers of two in size.
//!
//! A panel is what one tile of the product reads of one block: [`PAIRS`] pairs of [`LEFT_PANEL`] rows (kept as 16) of the left matrix or of
//! [`RIGHT_PANEL`] columns of the right one. A block with a number that is not finite makes all products of its row or column NaN.

use crate::approx::{ROUND, fma};
use crate::mat::Mat;
use crate::vectorised;
use std::ops::Range;

/// Neighbours along the depth that share a scale.
pub const BLOCK: usize = 128;
/// Pairs in a block.
pub const PAIRS: usize = BLOCK / 2;
/// Rows of the left matrix in a panel.
pub const LEFT_PANEL: usize = 14;
/// Columns of the right matrix in a panel.
pub const RIGHT_PANEL: usize = 32;
/// Places for rows in a left panel: a power of two keeps panels aligned.
pub(crate) const LEFT_PLACES: usize = 16;

/// The largest integer of [`Format::Int16`]: `BLOCK` products of two of them fit into an i32.
const LARGEST: f32 = 4095.0;
/// A block without larger magnitudes is taken for zeros: `LARGEST` divided by its largest magnitude would overflow.
const SMALLEST: f32 = 1e-30;

/// How numbers are rounded to 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The upper half of an f32, rounded to nearest even: 8 significant bits for every number.
    Bf16,
    /// Integers of 13 bits with a scale for each [`BLOCK`]: an error of at most 1/8190 of the block's largest number.
    Int16,
}

impl Format {
    /// Whether this CPU multiplies the format with instructions of its own; elsewhere it works, slower than f32.
    pub fn is_fast(self) -> bool {
        match self {
            Format::Bf16 => crate::cpu::has_bf16(),
            Format::Int16 => crate::cpu::has_vnni(),
        }
    }
}

/// One cache line of pairs. The first of a pair lies first in memory.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [u32; 16]);

const ZERO: Line = Line([0; 16]);

/// Where the pairs of a left panel lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// All pairs of a row, then those of the next row.
    Rows,
    /// The first pair of every row, then the second ones.
    Pairs,
}

/// The left matrix (rows, depth) of a product.
#[derive(Clone, Debug)]
pub struct Left {
    pub(crate) panels: Panels,
    pub(crate) order: Order,
}

/// The right matrix (depth, columns) of a product.
#[derive(Clone, Debug)]
pub struct Right {
    pub(crate) panels: Panels,
}

/// The panels of either side; panel `p` of block `b` is number `b * count + p`.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    pub format: Format,
    /// Rows of a left matrix, columns of a right one.
    pub width: usize,
    pub depth: usize,
    /// Panels of a block.
    pub count: usize,
    /// The pairs; there may be more lines than the panels need.
    pub lines: Vec<Line>,
    /// A scale for every place of every panel; empty for bf16.
    pub scales: Vec<f32>,
}

impl Panels {
    const EMPTY: Panels = Panels { format: Format::Bf16, width: 0, depth: 0, count: 0, lines: Vec::new(), scales: Vec::new() };

    /// Room for a matrix; `step` of the `places` of a panel hold one of its rows or columns.
    fn reset(&mut self, format: Format, width: usize, depth: usize, step: usize, places: usize) {
        let (count, blocks) = (width.div_ceil(step), depth.div_ceil(BLOCK));
        *self = Panels { format, width, depth, count, lines: std::mem::take(&mut self.lines), scales: std::mem::take(&mut self.scales) };
        // Never shrunk: lines that come back would be cleared first.
        self.lines.resize(self.lines.len().max(blocks * count * places * PAIRS / 16), ZERO);
        self.scales.resize(if format == Format::Int16 { blocks * count * places } else { 0 }, 0.0);
    }

    pub fn blocks(&self) -> usize {
        self.depth.div_ceil(BLOCK)
    }

    /// The pairs and the scales of a panel.
    pub fn panel(&self, block: usize, panel: usize, places: usize) -> (&[Line], &[f32]) {
        let i = block * self.count + panel;
        let size = places * PAIRS / 16;
        (&self.lines[i * size..][..size], self.scales.get(i * places..(i + 1) * places).unwrap_or_default())
    }

    /// Every panel with its block, its number in the block, its pairs and its scales.
    fn each(&mut self, places: usize) -> impl Iterator<Item = (usize, usize, &mut [Line], &mut [f32])> {
        let (panels, size) = (self.blocks() * self.count, places * PAIRS / 16);
        let (count, mut scales) = (self.count.max(1), &mut self.scales[..]);
        self.lines[..panels * size].chunks_exact_mut(size).enumerate().map(move |(i, lines)| {
            let scales = scales.split_off_mut(..places.min(scales.len())).unwrap_or_default();
            (i / count, i % count, lines, scales)
        })
    }
}

impl Default for Left {
    fn default() -> Self {
        Left { panels: Panels::EMPTY, order: Order::Rows }
    }
}

impl Default for Right {
    fn default() -> Self {
        Right { panels: Panels::EMPTY }
    }
}

impl Left {
    /// Rounds `mat` (rows, depth), which may be transposed; reuses the memory of an earlier matrix.
    pub fn pack(&mut self, mat: Mat, format: Format) {
        self.panels.reset(format, mat.rows(), mat.cols(), LEFT_PANEL, LEFT_PLACES);
        self.order = if mat.is_transposed() { Order::Pairs } else { Order::Rows };
        pack_left(&mut self.panels, mat, self.order);
    }
}

impl Right {
    /// Rounds `mat` (depth, columns), which may be transposed; reuses the memory of an earlier matrix.
    pub fn pack(&mut self, mat: Mat, format: Format) {
        self.panels.reset(format, mat.cols(), mat.rows(), RIGHT_PANEL, RIGHT_PANEL);
        pack_right(&mut self.panels, mat);
    }

    /// The format that it was rounded to.
    pub fn format(&self) -> Format {
        self.panels.format
    }
}

vectorised! {
    fn pack_left(panels: &mut Panels, mat: Mat, order: Order) {
        match order {
            Order::Rows => pack_rows::<FMA>(panels, mat),
            Order::Pairs => pack_columns::<FMA, LEFT_PLACES, LEFT_PANEL>(panels, mat.t()),
        }
    }
}

vectorised! {
    fn pack_right(panels: &mut Panels, mat: Mat) {
        match mat.is_transposed() {
            true => pack_transposed::<FMA>(panels, mat.t()),
            false => pack_columns::<FMA, RIGHT_PANEL, RIGHT_PANEL>(panels, mat),
        }
    }
}

/// The rows of a (rows, depth) matrix into panels in [`Order::Rows`].
#[inline(always)]
fn pack_rows<const FMA: bool>(panels: &mut Panels, mat: Mat) {
    let format = panels.format;
    for (block, panel, lines, scales) in panels.each(LEFT_PLACES) {
        let depth = block * BLOCK..mat.cols().min((block + 1) * BLOCK);
        for (place, row) in lines.chunks_exact_mut(PAIRS / 16).enumerate() {
            let i = panel * LEFT_PANEL + place;
            let x = if place < LEFT_PANEL && i < mat.rows() { &mat.row(i)[depth.clone()] } else { &[] };
            let scale = round_row::<FMA>(format, x, halves(row));
            scales.get_mut(place).into_iter().for_each(|s| *s = scale);
        }
    }
}

/// The columns of a (depth, columns) matrix into panels of `PLACES`, `STEP` of them used, pair by pair.
#[inline(always)]
fn pack_columns<const FMA: bool, const PLACES: usize, const STEP: usize>(panels: &mut Panels, mat: Mat) {
    let format = panels.format;
    let (mut largest, mut edge) = (vec![0; mat.cols()], [[0.0; PLACES]; BLOCK]);
    for (block, panel, lines, scales) in panels.each(PLACES) {
        let (depth, first) = (block * BLOCK..mat.rows().min((block + 1) * BLOCK), panel * STEP);
        if panel == 0 && format == Format::Int16 {
            // Whole rows at a time: panels alone would read one cache line of each row.
            largest_of_columns(mat, depth.clone(), &mut largest);
        }
        let mut inverses = [0.0; PLACES];
        for c in 0..scales.len() {
            (scales[c], inverses[c]) = scale_of(largest.get(first + c).copied().unwrap_or(0));
        }
        let reaches_over = first + PLACES > mat.cols();
        for (i, row) in edge[..depth.len()].iter_mut().enumerate().take_while(|_| reaches_over) {
            let rest = &mat.row(depth.start + i)[first..];
            row[..rest.len()].copy_from_slice(rest);
            row[rest.len()..].fill(0.0);
        }
        let row = |i: usize| -> &[f32; PLACES] {
            match mat.row(depth.start + i)[first..].first_chunk() {
                Some(chunk) if !reaches_over => chunk,
                _ => &edge[i],
            }
        };
        match format {
            Format::Bf16 => interleave(lines, depth.len(), row, |x, _| bf16(x)),
            Format::Int16 => interleave(lines, depth.len(), row, |x, c| fma::<FMA>(x, inverses[c], ROUND).to_bits() & 0xffff),
        }
    }
}

/// The magnitude of the largest number of each column in some rows.
#[inline(always)]
fn largest_of_columns(mat: Mat, rows: Range<usize>, largest: &mut [u32]) {
    largest.fill(0);
    for i in rows {
        largest.iter_mut().zip(mat.row(i)).for_each(|(l, &x)| *l = (*l).max(magnitude(x)));
    }
}

/// Rows 0 and 1, column by column, then rows 2 and 3, up to `rows`; zeros after them.
#[inline(always)]
fn interleave<'a, const PLACES: usize>(
    lines: &mut [Line],
    rows: usize,
    row: impl Fn(usize) -> &'a [f32; PLACES],
    round: impl Fn(f32, usize) -> u32,
) {
    let (even_rows, zeros) = (rows / 2, [0.0; PLACES]);
    for (pair, lines) in lines.chunks_exact_mut(PLACES / 16).enumerate() {
        if 2 * pair >= rows {
            lines.fill(ZERO);
            continue;
        }
        let (even, odd) = (row(2 * pair), if pair < even_rows { row(2 * pair + 1) } else { &zeros });
        for (l, line) in lines.iter_mut().enumerate() {
            for c in 0..16 {
                let at = l * 16 + c;
                line.0[c] = (round(even[at], at) | round(odd[at], at) << 16).to_le();
            }
        }
    }
}

/// The rows of a (columns, depth) matrix as columns.
#[inline(always)]
fn pack_transposed<const FMA: bool>(panels: &mut Panels, mat: Mat) {
    let format = panels.format;
    let mut square = [[ZERO; PAIRS / 16]; RIGHT_PANEL];
    for (block, panel, lines, scales) in panels.each(RIGHT_PANEL) {
        let depth = block * BLOCK..mat.cols().min((block + 1) * BLOCK);
        for (c, row) in square.iter_mut().enumerate() {
            let column = panel * RIGHT_PANEL + c;
            let x = if column < mat.rows() { &mat.row(column)[depth.clone()] } else { &[] };
            let scale = round_row::<FMA>(format, x, halves(row));
            scales.get_mut(c).into_iter().for_each(|s| *s = scale);
        }
        for (pair, lines) in lines.chunks_exact_mut(RIGHT_PANEL / 16).enumerate() {
            for c in 0..RIGHT_PANEL {
                lines[c / 16].0[c % 16] = square[c][pair / 16].0[pair % 16];
            }
        }
    }
}

/// Rounds up to [`BLOCK`] numbers of one row, with zeros after them; returns their scale.
#[inline(always)]
fn round_row<const FMA: bool>(format: Format, x: &[f32], out: &mut [u16]) -> f32 {
    let (out, rest) = out.split_at_mut(x.len());
    rest.fill(0);
    match format {
        Format::Bf16 => {
            out.iter_mut().zip(x).for_each(|(o, &x)| *o = bf16(x) as u16);
            1.0
        }
        Format::Int16 => {
            let (scale, inverse) = scale_of(x.iter().fold(0, |largest, &x| largest.max(magnitude(x))));
            out.iter_mut().zip(x).for_each(|(o, &x)| *o = fma::<FMA>(x, inverse, ROUND).to_bits() as u16);
            scale
        }
    }
}

/// Bits that order numbers by size, with infinity and NaN above all others.
#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// The scale of a block whose largest number has this magnitude, and the factor that makes integers of its numbers.
#[inline(always)]
fn scale_of(magnitude: u32) -> (f32, f32) {
    let largest = f32::from_bits(magnitude);
    if magnitude >= f32::INFINITY.to_bits() {
        (f32::NAN, 0.0)
    } else if largest < SMALLEST {
        (0.0, 0.0)
    } else {
        (largest / LARGEST, LARGEST / largest)
    }
}

/// The upper half of an f32, rounded to nearest even; NaN stays NaN.
#[inline(always)]
fn bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if x.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

/// Lines as single numbers of 16 bits, in the order of memory.
#[inline(always)]
pub(crate) fn halves(lines: &mut [Line]) -> &mut [u16] {
    // SAFETY: a line is 32 numbers of 16 bits without padding, of a stricter alignment; every bit pattern is a u16.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 32) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    /// What a packed matrix holds, (width, depth), as f32 numbers.
    fn unpack(panels: &Panels, step: usize, places: usize, order: Order) -> Vec<f32> {
        let mut out = vec![0.0; panels.width * panels.depth];
        for (i, out) in out.iter_mut().enumerate() {
            let (column, depth) = (i / panels.depth, i % panels.depth);
            let (lines, scales) = panels.panel(depth / BLOCK, column / step, places);
            let (place, pair) = (column % step, depth % BLOCK / 2);
            let at = if order == Order::Rows { place * PAIRS + pair } else { pair * places + place };
            let word = u32::from_le(lines[at / 16].0[at % 16]);
            let half = (word >> (16 * (depth % 2))) as u16;
            *out = match panels.format {
                Format::Bf16 => f32::from_bits(u32::from(half) << 16),
                Format::Int16 => f32::from(half as i16) * scales[place],
            };
        }
        out
    }

    /// Every layout holds the matrix, rounded within the bound of its format.
    #[test]
    fn rounds_within_the_bound() {
        for (width, depth) in [(1, 1), (14, 128), (15, 129), (31, 7), (33, 255), (64, 300)] {
            let x: Vec<f32> = random(width * depth, 1).iter().enumerate().map(|(i, x)| x * [1.0, 1e-3, 1e5][i % 3]).collect();
            let transposed: Vec<f32> = (0..x.len()).map(|i| x[i % width * depth + i / width]).collect();
            for format in [Format::Bf16, Format::Int16] {
                let mut left = [Left::default(), Left::default()];
                left[0].pack(Mat::new(&x, depth), format);
                left[1].pack(Mat::new(&transposed, width).t(), format);
                let mut right = [Right::default(), Right::default()];
                right[0].pack(Mat::new(&transposed, width), format);
                right[1].pack(Mat::new(&x, depth).t(), format);
                let unpacked = left.iter().map(|l| unpack(&l.panels, LEFT_PANEL, LEFT_PLACES, l.order));
                for found in unpacked.chain(right.iter().map(|r| unpack(&r.panels, RIGHT_PANEL, RIGHT_PANEL, Order::Pairs))) {
                    for (i, (found, x_i)) in found.iter().zip(&x).enumerate() {
                        let block = i / depth * depth + i % depth / BLOCK * BLOCK;
                        let neighbours = &x[block..(block + BLOCK).min(i / depth * depth + depth)];
                        let largest = neighbours.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                        let bound = if format == Format::Bf16 { x_i.abs() / 256.0 } else { largest / 8180.0 };
                        assert!((found - x_i).abs() <= bound, "{format:?} {width} x {depth}: {found}, expected {x_i}");
                    }
                }
            }
        }
    }

    #[test]
    fn bf16_of_strange_numbers() {
        let round = |x: f32| f32::from_bits(bf16(x) << 16);
        assert_eq!([1.0, -0.0, f32::INFINITY, f32::NEG_INFINITY].map(round), [1.0, -0.0, f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!(round(f32::MAX), f32::INFINITY);
        // Halfway between two: the even one.
        assert_eq!([257.0 / 256.0, 259.0 / 256.0].map(round), [1.0, 1.015_625]);
        assert!(round(f32::NAN).is_nan() && round(f32::from_bits(0x7fff_ffff)).is_nan());
    }

    #[test]
    fn scales_of_strange_blocks() {
        let scale = |x: &[f32]| round_row::<false>(Format::Int16, x, &mut [0; BLOCK]);
        assert_eq!(scale(&[0.0, -1e-38]), 0.0);
        assert_eq!(scale(&[-8190.0, 1.0]), 2.0);
        assert!(scale(&[1.0, f32::NAN]).is_nan() && scale(&[f32::NEG_INFINITY, 0.0]).is_nan());
        assert!(scale(&[f32::MAX]).is_finite());
    }
}
