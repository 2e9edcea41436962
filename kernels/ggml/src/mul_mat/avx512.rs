//! The product in 512-bit vectors: 32 rows by up to 8 columns, sums of a block in integers, sums of blocks in floats.

use super::{Job, MAGIC, ROUNDED};
use crate::format::{Format, IQ4_NL_VALUES};
use crate::packed::{BLOCK, Codes, PANEL, Scales};
use std::arch::x86_64::*;

/// Steps of four weights in a block.
const STEPS: usize = BLOCK / 4;

/// Rounds the columns of group `g` to 8 bits.
///
/// # Safety
/// As [`super::mul_mat`]; nobody else uses this group's rounded activations.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn round(job: &Job, g: usize) {
    let (begin, end) = (job.groups.begin(g), job.groups.begin(g + 1));
    let (width, zero, halves) = (end - begin, job.weights.format.zero(), job.weights.format.scales() == Scales::SuperHalves);
    for c in 0..width {
        let x = job.x.at(begin + c);
        for b in 0..job.blocks() {
            // SAFETY: a column has `blocks` times 32 numbers; a group has `width * ROUNDED` bytes for each block.
            unsafe { round_block(x.add(b * BLOCK), zero, halves, job.rounded_group(g).add(b * width * ROUNDED), c, width) };
        }
    }
}

/// Rounds 32 numbers into column `c` of a rounded block of `width` columns; `halves` says that each 16 have their own scale.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn round_block(x: *const f32, zero: i32, halves: bool, block: *mut u8, c: usize, width: usize) {
    // SAFETY: the caller gives 32 numbers and a block of `width` columns.
    unsafe {
        let (low, high) = (_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(16)));
        let largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
        // Below this the inverse overflows; such a block counts as zeros.
        let inverse = if largest > 1e-30 { 127.0 / largest } else { 0.0 };
        let scale = if largest > 1e-30 { largest / 127.0 } else { largest * 0.0 };
        let rounded = |x| _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(inverse)));
        let (low, high) = (rounded(low), rounded(high));
        let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
        let of_low = if halves { _mm512_reduce_add_epi32(low) } else { sum };
        let numbers = block.cast::<i32>().add(c);
        numbers.write(MAGIC.to_bits() as i32 - zero * of_low);
        numbers.add(width).write(MAGIC.to_bits() as i32 - zero * (sum - of_low));
        numbers.add(2 * width).cast::<f32>().write(scale);
        numbers.add(3 * width).cast::<f32>().write(scale * sum as f32);
        let mut codes = [0i32; STEPS];
        _mm_storeu_si128(codes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(low));
        _mm_storeu_si128(codes.as_mut_ptr().add(4).cast(), _mm512_cvtepi32_epi8(high));
        for (step, four) in codes.into_iter().enumerate() {
            numbers.add((4 + step) * width).write(four);
        }
    }
}

/// Computes the rows of panel `p` for all columns.
///
/// # Safety
/// As [`super::mul_mat`]; all groups are rounded; nobody else writes these rows or this job's scratch.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn panel(job: &Job, p: usize) {
    // SAFETY: as the caller says.
    unsafe {
        match job.weights.format {
            Format::Q4_0 => panel_of::<Q4_0>(job, p),
            Format::Q4_1 => panel_of::<Q4_1>(job, p),
            Format::Q5_0 => panel_of::<Q5_0>(job, p),
            Format::Q5_1 => panel_of::<Q5_1>(job, p),
            Format::Q8_0 => panel_of::<Q8_0>(job, p),
            Format::Iq4Nl => panel_of::<Iq4Nl>(job, p),
            Format::Q4K => panel_of::<Q4K>(job, p),
            Format::Q5K => panel_of::<Q5K>(job, p),
            Format::Q6K => panel_of::<Q6K>(job, p),
        }
    }
}

/// A format, for the compiler to specialise a kernel by.
trait Kind {
    const FORMAT: Format;
    const CODES: Codes = Self::FORMAT.codes();
    const SCALES: Scales = Self::FORMAT.scales();
    /// Blocks after a head.
    const RUN: usize = Self::FORMAT.block_len() / BLOCK;

    /// Where the head before block `b` and the block itself begin in a panel.
    #[inline(always)]
    fn places(b: usize) -> (usize, usize) {
        let head = b / Self::RUN * Self::FORMAT.packed_run_len();
        (head, head + Self::SCALES.head_len() + b % Self::RUN * Self::FORMAT.packed_block_len())
    }
}

macro_rules! kinds {
    ($($kind:ident)*) => { $(
        #[allow(non_camel_case_types)]
        struct $kind;
        impl Kind for $kind {
            const FORMAT: Format = Format::$kind;
        }
    )* };
}
kinds!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Iq4Nl Q4K Q5K Q6K);

/// For one group of columns codes are unpacked as they are used, for more once before.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn panel_of<K: Kind>(job: &Job, p: usize) {
    let panel = job.weights.packed[p * job.weights.format.panel_len(job.weights.k)..].as_ptr();
    // SAFETY: the packed weights have `rows` rows; scratch holds a panel's codes as bytes.
    unsafe {
        if job.groups.count == 1 || matches!(K::CODES, Codes::Byte) {
            (0..job.groups.count).for_each(|g| group::<K, false>(job, p, g, panel));
        } else {
            for b in 0..job.blocks() {
                let codes = panel.add(K::places(b).1 + K::SCALES.len());
                unpack::<K>(codes, job.scratch.add(b * Codes::Byte.len()));
            }
            (0..job.groups.count).for_each(|g| group::<K, true>(job, p, g, panel));
        }
    }
}

/// The codes of a block as bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn unpack<K: Kind>(codes: *const u8, bytes: *mut u8) {
    for step in 0..STEPS {
        // SAFETY: the caller gives a block's codes and room for 1024 bytes.
        unsafe {
            let [low, high] = step_codes::<K, false>(codes, step);
            _mm512_storeu_si512(bytes.add(step * 128).cast(), low);
            _mm512_storeu_si512(bytes.add(step * 128 + 64).cast(), high);
        }
    }
}

/// Four codes of each of 32 rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn step_codes<K: Kind, const UNPACKED: bool>(codes: *const u8, step: usize) -> [__m512i; 2] {
    // SAFETY: `codes` points to a block's codes, of which `step` is one of eight.
    let load = |at: usize| unsafe { _mm512_loadu_si512(codes.add(at).cast()) };
    if UNPACKED {
        return [load(step * 128), load(step * 128 + 64)];
    }
    let nibble = |half: usize| {
        let bytes = load(step / 2 * 128 + half * 64);
        let shifted = if step % 2 == 1 { _mm512_srli_epi16::<4>(bytes) } else { bytes };
        _mm512_and_si512(shifted, _mm512_set1_epi8(15))
    };
    let with_bit = |codes_so_far: __m512i, plane: usize, half: usize| {
        // SAFETY: after the nibbles each plane has 16 bytes for a step.
        let bits = unsafe { codes.add(PANEL * BLOCK / 2 + plane * 128 + step * 16 + half * 8).cast::<u64>().read_unaligned() };
        _mm512_mask_add_epi8(codes_so_far, bits, codes_so_far, _mm512_set1_epi8(16 << plane))
    };
    let one = |half: usize| match K::CODES {
        Codes::Byte => load(step * 128 + half * 64),
        Codes::Table => _mm512_shuffle_epi8(table(), nibble(half)),
        Codes::Nibble { more: 0 } => nibble(half),
        Codes::Nibble { more: 1 } => with_bit(nibble(half), 0, half),
        Codes::Nibble { .. } => with_bit(with_bit(nibble(half), 0, half), 1, half),
    };
    [one(0), one(1)]
}

/// What the codes of IQ4_NL stand for, plus 128, four times.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn table() -> __m512i {
    const VALUES: [u8; 16] = {
        let (mut values, mut i) = ([0; 16], 0);
        while i < 16 {
            values[i] = IQ4_NL_VALUES[i].wrapping_add(-128) as u8;
            i += 1;
        }
        values
    };
    // SAFETY: the array has sixteen bytes.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(VALUES.as_ptr().cast()) })
}

/// One panel times one group of columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn group<K: Kind, const UNPACKED: bool>(job: &Job, p: usize, g: usize, panel: *const u8) {
    // SAFETY: the number of columns is the group's own; the rest as the caller says.
    unsafe {
        match job.groups.begin(g + 1) - job.groups.begin(g) {
            1 => tile::<K, UNPACKED, 1>(job, p, g, panel),
            2 => tile::<K, UNPACKED, 2>(job, p, g, panel),
            3 => tile::<K, UNPACKED, 3>(job, p, g, panel),
            4 => tile::<K, UNPACKED, 4>(job, p, g, panel),
            5 => tile::<K, UNPACKED, 5>(job, p, g, panel),
            6 => tile::<K, UNPACKED, 6>(job, p, g, panel),
            7 => tile::<K, UNPACKED, 7>(job, p, g, panel),
            _ => tile::<K, UNPACKED, 8>(job, p, g, panel),
        }
    }
}

/// One panel times `C` columns.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile<K: Kind, const UNPACKED: bool, const C: usize>(job: &Job, p: usize, g: usize, panel: *const u8) {
    let mut sums = [[_mm512_setzero_ps(); 2]; C];
    let mut rounded = job.rounded_group(g).cast_const();
    for b in 0..job.blocks() {
        // SAFETY: there are `blocks` blocks of weights, of unpacked codes, and of activations.
        unsafe {
            let (head, scales) = K::places(b);
            let codes = if UNPACKED { job.scratch.add(b * Codes::Byte.len()) } else { panel.add(scales + K::SCALES.len()).cast_mut() };
            add_block::<K, UNPACKED, C>(panel.add(head), panel.add(scales), codes, rounded, &mut sums);
            rounded = rounded.add(C * ROUNDED);
        }
    }
    let rows = job.weights.rows - p * PANEL;
    let mask = |first: usize| (if rows >= first + 16 { 0xffff } else { (1u32 << rows.saturating_sub(first)) - 1 }) as u16;
    for (c, [low, high]) in sums.into_iter().enumerate() {
        // SAFETY: a column of y has `rows` numbers; the mask leaves out what is beyond.
        unsafe {
            let y = job.y.at(job.groups.begin(g) + c).add(p * PANEL);
            _mm512_mask_storeu_ps(y, mask(0), low);
            _mm512_mask_storeu_ps(y.wrapping_add(16), mask(16), high);
        }
    }
}

/// Adds the products of one block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add_block<K: Kind, const UNPACKED: bool, const C: usize>(
    head: *const u8,
    scales: *const u8,
    codes: *const u8,
    rounded: *const u8,
    sums: &mut [[__m512; 2]; C],
) {
    // SAFETY: a rounded block has twelve numbers of four bytes for each column.
    let number = |row: usize, c: usize| unsafe { rounded.cast::<i32>().add(row * C + c).read_unaligned() };
    let float = |row: usize, c: usize| _mm512_set1_ps(f32::from_bits(number(row, c) as u32));
    let parts = if matches!(K::SCALES, Scales::SuperHalves) { 2 } else { 1 };
    for part in 0..parts {
        let mut dots = [[_mm512_setzero_si512(); 2]; C];
        for c in 0..C {
            dots[c] = [_mm512_set1_epi32(number(part, c)); 2];
        }
        for step in part * STEPS / parts..(part + 1) * STEPS / parts {
            // SAFETY: the caller gives a block's codes.
            let [low, high] = unsafe { step_codes::<K, UNPACKED>(codes, step) };
            for c in 0..C {
                let x = _mm512_set1_epi32(number(4 + step, c));
                dots[c] = [_mm512_dpbusd_epi32(dots[c][0], low, x), _mm512_dpbusd_epi32(dots[c][1], high, x)];
            }
        }
        for half in 0..2 {
            // SAFETY: the caller gives a block's scales and the head before it.
            let scale = unsafe { scale::<K>(head, scales, part, half) };
            // The dots are floats that begin at MAGIC: dot · scale − MAGIC · scale is exact before its one rounding, because the
            // scale has at most 19 bits.
            let offset = _mm512_mul_ps(scale, _mm512_set1_ps(MAGIC));
            for c in 0..C {
                let product = _mm512_fmsub_ps(_mm512_castsi512_ps(dots[c][half]), scale, offset);
                sums[c][half] = _mm512_fmadd_ps(product, float(2, c), sums[c][half]);
            }
        }
    }
    if matches!(K::SCALES, Scales::HalfMin | Scales::Super) {
        for half in 0..2 {
            // SAFETY: as above.
            let minimum = unsafe { minimum::<K>(head, scales, half) };
            for c in 0..C {
                sums[c][half] = _mm512_fmadd_ps(minimum, float(3, c), sums[c][half]);
            }
        }
    }
}

/// Sixteen half-precision numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn halves(from: *const u8) -> __m512 {
    // SAFETY: the caller gives 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
}

/// The scales of 16 rows; `part` is the half of the block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn scale<K: Kind>(head: *const u8, scales: *const u8, part: usize, half: usize) -> __m512 {
    // SAFETY: the caller gives a block's scales and its head; see `Scales` for what they hold.
    unsafe {
        let bytes = |at: usize| _mm_loadu_si128(scales.add(at).cast());
        match K::SCALES {
            Scales::Half | Scales::HalfMin => halves(scales.add(half * 32)),
            Scales::Super => {
                let own = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes(half * 16)));
                _mm512_mul_ps(halves(head.add(half * 32)), own)
            }
            Scales::SuperHalves => {
                let own = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes(part * 32 + half * 16)));
                _mm512_mul_ps(halves(head.add(half * 32)), own)
            }
        }
    }
}

/// What is added for each unit of the sum of activations.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn minimum<K: Kind>(head: *const u8, scales: *const u8, half: usize) -> __m512 {
    // SAFETY: as `scale`.
    unsafe {
        if matches!(K::SCALES, Scales::HalfMin) {
            return halves(scales.add(64 + half * 32));
        }
        let own = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(scales.add(32 + half * 16).cast())));
        _mm512_mul_ps(_mm512_sub_ps(_mm512_setzero_ps(), halves(head.add(64 + half * 32))), own)
    }
}
