//! The weight formats of GGUF files that our kernels know, and the plain reading of each.
//!
//! A row of weights is a sequence of blocks; the layouts are those of ggml's `ggml-common.h`.

use lacuna_kernels::half;
use llama_cpp_sys_2 as sys;

/// A format of weights.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 32 weights: scale, 4-bit codes around 8.
    Q4_0,
    /// 32 weights: scale, minimum, 4-bit codes.
    Q4_1,
    /// 32 weights: scale, 5-bit codes around 16.
    Q5_0,
    /// 32 weights: scale, minimum, 5-bit codes.
    Q5_1,
    /// 32 weights: scale, signed bytes.
    Q8_0,
    /// 32 weights: scale, 4-bit places in a table of bytes.
    Iq4Nl,
    /// 256 weights: scale and minimum scale, 6-bit scale and minimum of each 32, 4-bit codes.
    Q4K,
    /// 256 weights: as Q4_K, with 5-bit codes.
    Q5K,
    /// 256 weights: scale, 8-bit scale of each 16, 6-bit codes around 32.
    Q6K,
    /// Half precision; 32 weights count as a block.
    F16,
    /// The upper halves of F32 numbers; 32 weights count as a block.
    Bf16,
}

impl Format {
    /// Every format, for tests and benches.
    pub const ALL: [Format; 11] = [
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Iq4Nl,
        Format::Q4K,
        Format::Q5K,
        Format::Q6K,
        Format::F16,
        Format::Bf16,
    ];

    /// Whether weights are codes, whose products are those of rounded activations; the others are floats, as are the activations.
    pub const fn is_quantised(self) -> bool {
        !matches!(self, Format::F16 | Format::Bf16)
    }

    /// The format with ggml's number `ggml_type`, if it is one of ours.
    pub fn from_ggml(ggml_type: sys::ggml_type) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.to_ggml() == ggml_type)
    }

    /// ggml's number of it.
    pub fn to_ggml(self) -> sys::ggml_type {
        match self {
            Format::Q4_0 => sys::GGML_TYPE_Q4_0,
            Format::Q4_1 => sys::GGML_TYPE_Q4_1,
            Format::Q5_0 => sys::GGML_TYPE_Q5_0,
            Format::Q5_1 => sys::GGML_TYPE_Q5_1,
            Format::Q8_0 => sys::GGML_TYPE_Q8_0,
            Format::Iq4Nl => sys::GGML_TYPE_IQ4_NL,
            Format::Q4K => sys::GGML_TYPE_Q4_K,
            Format::Q5K => sys::GGML_TYPE_Q5_K,
            Format::Q6K => sys::GGML_TYPE_Q6_K,
            Format::F16 => sys::GGML_TYPE_F16,
            Format::Bf16 => sys::GGML_TYPE_BF16,
        }
    }

    /// Weights in a block.
    pub const fn block_len(self) -> usize {
        match self {
            Format::Q4K | Format::Q5K | Format::Q6K => 256,
            _ => 32,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Format::Q4_0 | Format::Iq4Nl => 18,
            Format::Q4_1 => 20,
            Format::Q5_0 => 22,
            Format::Q5_1 => 24,
            Format::Q8_0 => 34,
            Format::Q4K => 144,
            Format::Q5K => 176,
            Format::Q6K => 210,
            Format::F16 | Format::Bf16 => 64,
        }
    }

    /// Bytes of a row of `k` weights.
    pub const fn row_bytes(self, k: usize) -> usize {
        k / self.block_len() * self.block_bytes()
    }

    /// The weights of one block, (block_len).
    pub fn dequantise(self, block: &[u8]) -> Vec<f32> {
        assert_eq!(block.len(), self.block_bytes());
        let halves = || block.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes));
        match self {
            Format::F16 => return halves().map(half::to_f32).collect(),
            Format::Bf16 => return halves().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect(),
            _ => {}
        }
        let codes: Vec<i32> = (0..self.block_len() / 32).flat_map(|sub| self.codes_of(block, sub)).map(i32::from).collect();
        let weight = |i: usize| match self {
            Format::Q4_0 => half(block, 0) * (codes[i] - 8) as f32,
            Format::Q5_0 => half(block, 0) * (codes[i] - 16) as f32,
            Format::Q8_0 | Format::Iq4Nl => half(block, 0) * (codes[i] - 128) as f32,
            Format::Q4_1 | Format::Q5_1 => half(block, 0) * codes[i] as f32 + half(block, 2),
            Format::Q4K | Format::Q5K => {
                let (scale, minimum) = six_bit_pair(&block[4..16], i / 32);
                half(block, 0) * f32::from(scale) * codes[i] as f32 - half(block, 2) * f32::from(minimum)
            }
            Format::Q6K => half(block, 208) * f32::from(block[192 + i / 16] as i8) * (codes[i] - 32) as f32,
            Format::F16 | Format::Bf16 => unreachable!("floats have no codes"),
        };
        (0..self.block_len()).map(weight).collect()
    }

    /// The codes of the 32 weights `sub` of a block, all of them unsigned: signed bytes gain 128, places in a table become its
    /// values, which gain 128 too.
    pub(crate) fn codes_of(self, block: &[u8], sub: usize) -> [u8; 32] {
        match self {
            Format::Q4_0 => std::array::from_fn(|i| nibble(&block[2..], i)),
            Format::Q4_1 => std::array::from_fn(|i| nibble(&block[4..], i)),
            Format::Q5_0 => std::array::from_fn(|i| nibble(&block[6..], i) | bit(&block[2..], i) << 4),
            Format::Q5_1 => std::array::from_fn(|i| nibble(&block[8..], i) | bit(&block[4..], i) << 4),
            Format::Q8_0 => std::array::from_fn(|i| block[2 + i].wrapping_add(128)),
            Format::Iq4Nl => std::array::from_fn(|i| IQ4_NL_VALUES[nibble(&block[2..], i) as usize].wrapping_add(-128) as u8),
            Format::Q4K => std::array::from_fn(|i| block[16 + sub / 2 * 32 + i] >> (sub % 2 * 4) & 15),
            Format::Q5K => std::array::from_fn(|i| (block[48 + sub / 2 * 32 + i] >> (sub % 2 * 4) & 15) | (block[16 + i] >> sub & 1) << 4),
            Format::Q6K => {
                let (of_128, quarter) = (sub / 4, sub % 4);
                let low = |i: usize| block[of_128 * 64 + quarter % 2 * 32 + i] >> (quarter / 2 * 4) & 15;
                let high = |i: usize| block[128 + of_128 * 32 + i] >> (quarter * 2) & 3;
                std::array::from_fn(|i| low(i) | high(i) << 4)
            }
            Format::F16 | Format::Bf16 => unreachable!("floats have no codes"),
        }
    }
}

/// The values of the 4-bit codes of IQ4_NL.
pub(crate) const IQ4_NL_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The same plus 128, as unsigned bytes.
#[cfg(target_arch = "x86_64")]
pub(crate) const IQ4_NL_BYTES: [u8; 16] = {
    let (mut bytes, mut i) = ([0; 16], 0);
    while i < 16 {
        bytes[i] = IQ4_NL_VALUES[i].wrapping_add(-128) as u8;
        i += 1;
    }
    bytes
};

/// Code `i` of 32: the low halves of 16 bytes, then their high halves.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    bytes[i % 16] >> (i / 16 * 4) & 15
}

/// Bit `i` of 32.
fn bit(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 8] >> (i % 8) & 1
}

/// Scale and minimum `i` of the eight that Q4_K and Q5_K keep in twelve bytes, six bits each.
pub(crate) fn six_bit_pair(bytes: &[u8], i: usize) -> (u8, u8) {
    if i < 4 {
        (bytes[i] & 63, bytes[i + 4] & 63)
    } else {
        (bytes[i + 4] & 15 | bytes[i - 4] >> 6 << 4, bytes[i + 4] >> 4 | bytes[i] >> 6 << 4)
    }
}

/// The half-precision number at byte `at`.
pub(crate) fn half(bytes: &[u8], at: usize) -> f32 {
    half::to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}
