//! The product of a panel of packed weights with a few columns, generic over the vectors: sums of a block are integers, sums of blocks
//! floats.

// Arrays of registers are indexed by column and row, as in the mathematics.
#![allow(clippy::needless_range_loop)]

use super::job::Job;
use super::quantised::Quantised;
use super::rounded::{Codes32, MAGIC, Rounded, STEPS};
use super::vector::Vector;
use crate::packed::{BLOCK, Codes, PANEL, Packing, Scales};

/// Computes the rows of panel `p` for all columns. Codes are unpacked as they are used for one group of columns, once before for more.
///
/// # Safety
/// As [`super::panel::panel`].
pub(super) unsafe fn panel<V: Vector, K: Quantised>(job: &Job, p: usize) {
    // SAFETY: as the caller says.
    unsafe {
        if job.groups.count == 1 || matches!(K::CODES, Codes::Byte) {
            (0..job.groups.count).for_each(|g| group::<V, K, false>(job, p, g));
        } else {
            V::unpack::<K>(job, p);
            (0..job.groups.count).for_each(|g| group::<V, K, true>(job, p, g));
        }
    }
}

/// One panel times one group of columns.
unsafe fn group<V: Vector, K: Quantised, const UNPACKED: bool>(job: &Job, p: usize, g: usize) {
    // SAFETY: the number of columns is the group's own; the rest as the caller says.
    unsafe {
        match job.groups.begin(g + 1) - job.groups.begin(g) {
            1 => V::tile::<K, UNPACKED, 1>(job, p, g),
            2 => V::tile::<K, UNPACKED, 2>(job, p, g),
            3 => V::tile::<K, UNPACKED, 3>(job, p, g),
            4 => V::tile::<K, UNPACKED, 4>(job, p, g),
            5 => V::tile::<K, UNPACKED, 5>(job, p, g),
            6 => V::tile::<K, UNPACKED, 6>(job, p, g),
            7 => V::tile::<K, UNPACKED, 7>(job, p, g),
            _ => V::tile::<K, UNPACKED, 8>(job, p, g),
        }
    }
}

/// Writes the codes of panel `p` to the scratch, a byte each.
///
/// # Safety
/// As [`panel`]; the caller enables the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn unpack<V: Vector, K: Quantised>(job: &Job, p: usize) {
    for b in 0..job.blocks() {
        // SAFETY: the panel has this block, the scratch room for its codes.
        unsafe {
            let codes = job.panel(p).add(K::places(b).1 + K::SCALES.byte_len());
            let bytes = job.scratch.add(b * Codes::Byte.byte_len());
            for step in 0..STEPS {
                for row in (0..PANEL).step_by(V::ROWS) {
                    V::store_bytes(codes_of::<V, K, false>(codes, step, row), bytes.add((step * PANEL + row) * 4));
                }
            }
        }
    }
}

/// Four codes of each row of a vector, from row `row` of the panel on.
#[inline(always)]
unsafe fn codes_of<V: Vector, K: Quantised, const UNPACKED: bool>(codes: *const u8, step: usize, row: usize) -> V::Int {
    // SAFETY: the caller gives a block's codes; see `packed.rs` for where they lie.
    unsafe {
        if UNPACKED || matches!(K::CODES, Codes::Byte) {
            return V::bytes(codes.add((step * PANEL + row) * 4));
        }
        let pair = V::bytes(codes.add((step / 2 * PANEL + row) * 4));
        let nibbles = if step.is_multiple_of(2) { V::low_nibbles(pair) } else { V::high_nibbles(pair) };
        let bits = |plane: usize| codes.add(PANEL * BLOCK / 2 + ((plane * STEPS + step) * PANEL + row) / 2);
        match K::CODES {
            Codes::Byte | Codes::Nibble { more: 0 } => nibbles,
            Codes::Table => V::lookup(nibbles),
            Codes::Nibble { more: 1 } => V::add_bits::<16>(nibbles, bits(0)),
            Codes::Nibble { .. } => V::add_bits::<32>(V::add_bits::<16>(nibbles, bits(0)), bits(1)),
        }
    }
}

/// One panel times `C` columns.
///
/// # Safety
/// As [`panel`]; group `g` has `C` columns; the caller enables the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn tile<V: Vector, K: Quantised, const UNPACKED: bool, const C: usize>(job: &Job, p: usize, g: usize) {
    let panel = job.panel(p);
    let next = panel.wrapping_add(job.weights.format.panel_len(job.weights.k));
    for first in (0..PANEL).step_by(2 * V::ROWS) {
        let mut ahead = Ahead::new::<V>(job, g, first);
        // SAFETY: there are `blocks` blocks of weights, of unpacked codes and of activations; a column of y has `rows` numbers.
        unsafe {
            let mut sums = [[V::splat(0.0); 2]; C];
            let mut rounded = job.rounded_group(g).cast_const();
            for b in 0..job.blocks() {
                let (head, scales) = K::places(b);
                let packed = panel.add(scales + K::SCALES.byte_len());
                let codes = if UNPACKED { job.scratch.add(b * Codes::Byte.byte_len()).cast_const() } else { packed };
                let block = Block { head: panel.add(head), scales: panel.add(scales), codes, rounded };
                add_block::<V, K, UNPACKED, C>(block, first, &mut sums);
                rounded = rounded.add(C);
                ahead.step(next);
            }
            job.write::<V, C>(p, g, first, sums);
        }
    }
}

impl Job<'_> {
    /// Writes the sums of two vectors of rows, from row `first` of panel `p` on, for the columns of group `g`.
    ///
    /// # Safety
    /// As [`panel`]; the caller enables the instructions of `V`.
    #[inline(always)]
    pub(super) unsafe fn write<V: Vector, const C: usize>(&self, p: usize, g: usize, first: usize, sums: [[V::Float; 2]; C]) {
        let rows = self.weights.rows - p * PANEL;
        for (c, sums) in sums.into_iter().enumerate() {
            let y = self.y.at(self.groups.begin(g) + c).wrapping_add(p * PANEL);
            for (half, sums) in sums.into_iter().enumerate() {
                let row = first + half * V::ROWS;
                // SAFETY: no more than the rows that there are.
                unsafe { V::store(sums, y.wrapping_add(row), rows.saturating_sub(row).min(V::ROWS)) };
            }
        }
    }
}

/// Where a block of weights and activations lies.
#[derive(Clone, Copy)]
struct Block {
    head: *const u8,
    scales: *const u8,
    codes: *const u8,
    rounded: *const Rounded,
}

/// Adds the products of one block for the two vectors of rows from `first` on.
#[inline(always)]
unsafe fn add_block<V: Vector, K: Quantised, const UNPACKED: bool, const C: usize>(
    block: Block,
    first: usize,
    sums: &mut [[V::Float; 2]; C],
) {
    let parts = if matches!(K::SCALES, Scales::SuperHalves) { 2 } else { 1 };
    // SAFETY: the caller gives a block.
    unsafe {
        let columns: [*const Rounded; C] = std::array::from_fn(|c| block.rounded.wrapping_add(c));
        for part in 0..parts {
            let mut dots = [[V::splat_int(0); 2]; C];
            for c in 0..C {
                dots[c] = [V::splat_int((*columns[c]).init[part]); 2];
            }
            for step in part * STEPS / parts..(part + 1) * STEPS / parts {
                let low = codes_of::<V, K, UNPACKED>(block.codes, step, first);
                let high = codes_of::<V, K, UNPACKED>(block.codes, step, first + V::ROWS);
                for c in 0..C {
                    let x = V::splat_int((*columns[c]).codes[step]);
                    dots[c] = [V::dot::<K>(dots[c][0], low, x), V::dot::<K>(dots[c][1], high, x)];
                }
            }
            for half in 0..2 {
                let scale = scale::<V, K>(block, part, first + half * V::ROWS);
                // The dots are floats that begin at MAGIC: dot · scale − MAGIC · scale is exact before its one rounding, because
                // the scale has at most 19 bits.
                let offset = V::mul(scale, V::splat(MAGIC));
                for c in 0..C {
                    let product = V::mul_sub(V::as_float(dots[c][half]), scale, offset);
                    sums[c][half] = V::mul_add(product, V::splat((*columns[c]).scale), sums[c][half]);
                }
            }
        }
        if matches!(K::SCALES, Scales::HalfMin | Scales::Super) {
            for half in 0..2 {
                let minimum = minimum::<V, K>(block, first + half * V::ROWS);
                for c in 0..C {
                    sums[c][half] = V::mul_add(minimum, V::splat((*columns[c]).sum), sums[c][half]);
                }
            }
        }
    }
}

/// Which part of the next panel is prefetched while a tile is computed. Weights come from main memory in order, and few lines can be in
/// flight at once, so each block of the first tiles prefetches the same number of them.
pub(super) struct Ahead {
    at: usize,
    /// Bytes for each block.
    step: usize,
    end: usize,
}

impl Ahead {
    /// Groups of columns whose tiles prefetch.
    const GROUPS: usize = 4;

    #[inline(always)]
    pub(super) fn new<V: Vector>(job: &Job, g: usize, first: usize) -> Self {
        let (parts, len) = (PANEL / (2 * V::ROWS), job.weights.format.panel_len(job.weights.k));
        let (tiles, tile) = (job.groups.count.min(Self::GROUPS) * parts, g * parts + first / (2 * V::ROWS));
        let step = len.div_ceil(tiles * job.blocks()).next_multiple_of(LINE);
        let at = tile * job.blocks() * step;
        Ahead { at, step, end: if g < Self::GROUPS { len } else { 0 } }
    }

    #[inline(always)]
    pub(super) fn step(&mut self, panel: *const u8) {
        let end = self.end.min(self.at + self.step);
        while self.at < end {
            lacuna_kernels::prefetch::soon(panel.wrapping_add(self.at));
            self.at += LINE;
        }
    }
}

/// Bytes that come from memory together.
const LINE: usize = 64;

/// The scales of a vector of rows; `part` is the half of the block.
#[inline(always)]
unsafe fn scale<V: Vector, K: Quantised>(block: Block, part: usize, row: usize) -> V::Float {
    // SAFETY: the caller gives a block; see `Scales` for what its scales hold.
    unsafe {
        match K::SCALES {
            Scales::Half | Scales::HalfMin => V::halves(block.scales.add(2 * row)),
            Scales::Super => V::mul(V::halves(block.head.add(2 * row)), V::unsigned(block.scales.add(row))),
            Scales::SuperHalves => V::mul(V::halves(block.head.add(2 * row)), V::signed(block.scales.add(part * PANEL + row))),
        }
    }
}

/// What is added for each unit of the sum of activations.
#[inline(always)]
unsafe fn minimum<V: Vector, K: Quantised>(block: Block, row: usize) -> V::Float {
    // SAFETY: as `scale`.
    unsafe {
        if matches!(K::SCALES, Scales::HalfMin) {
            return V::halves(block.scales.add(2 * (PANEL + row)));
        }
        let minimum = V::mul(V::halves(block.head.add(2 * (PANEL + row))), V::unsigned(block.scales.add(PANEL + row)));
        V::mul(minimum, V::splat(-1.0))
    }
}

/// Rounds the columns of group `g` to 8 bits.
///
/// # Safety
/// As [`super::mul_mat`]; nobody else uses this group's rounded activations; the caller enables the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn round<V: Vector>(job: &Job, g: usize) {
    let (begin, end) = (job.groups.begin(g), job.groups.begin(g + 1));
    let width = end - begin;
    let format = job.weights.format;
    // Floats are not rounded.
    let Packing::Codes(codes, scales) = format.packing() else { return };
    // Where bytes are dotted as signed numbers they stand for themselves.
    let signed = V::SIGNED_BYTES && matches!(codes, Codes::Byte | Codes::Table);
    let zero = if signed { 0 } else { format.zero() };
    let halves = scales == Scales::SuperHalves;
    for c in 0..width {
        let x = job.x.at(begin + c);
        let put = |b: usize, Codes32 { codes, scale, sums: [first, second] }: Codes32| {
            let sum = first.wrapping_add(second);
            let init = if halves { [first, second] } else { [sum, 0] };
            let init = init.map(|sum| (MAGIC.to_bits() as i32).wrapping_sub(zero.wrapping_mul(sum)));
            // SAFETY: a group has `width` rounded blocks for each block of a column.
            unsafe { job.rounded_group(g).add(b * width + c).write(Rounded { init, scale, sum: scale * sum as f32, codes }) };
        };
        let fours = job.blocks() / 4 * 4;
        // SAFETY: a column has `blocks` times 32 numbers.
        unsafe {
            for b in (0..fours).step_by(4) {
                V::round4(x.add(b * BLOCK)).into_iter().enumerate().for_each(|(i, codes)| put(b + i, codes));
            }
            for b in fours..job.blocks() {
                put(b, V::round(x.add(b * BLOCK)));
            }
        }
    }
}
