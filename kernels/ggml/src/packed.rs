//! How the kernels hold weights: panels of 32 rows, so that one vector holds the same place of 16 rows.
//!
//! A panel is a sequence of blocks along k, 32 weights of each of its rows:
//!
//! ```text
//! scales   what turns codes into weights, see [`Scales`]
//! codes    8 steps of 4 weights, (row, weight), a byte each
//!          or, for codes of 4 to 6 bits: 4 double steps, the second in the high halves of the bytes,
//!          then for each further bit 8 steps of (row, weight), a bit each
//!          or, for floats of 16 bits: 32 steps of one weight of each row
//! ```
//!
//! Formats with 256 weights in a block have a head of 8 such blocks. Missing rows of the last panel have scale 0. Codes are
//! unsigned: the 8-bit dot product takes unsigned times signed. The size is that of the format itself, or up to 3 % more.

use crate::format::{Format, six_bit_pair};

/// Rows of a panel.
pub const PANEL: usize = 32;
/// Weights of a row in a block of a panel.
pub const BLOCK: usize = 32;

/// How the codes of a block lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// Four bits each, and this number of further bits.
    Nibble { more: usize },
    /// Four bits that index [`crate::format::IQ4_NL_VALUES`]; the kernels add 128 to the values.
    Table,
    /// A byte each.
    Byte,
}

/// How codes become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scales {
    /// scale · (code − zero). Block: 32 scales in half precision.
    Half,
    /// scale · code + minimum. Block: 32 scales, 32 minimums in half precision.
    HalfMin,
    /// scale · s · code − minimum · m. Head: 32 scales, 32 minimums in half precision. Block: 32 bytes s, 32 bytes m.
    Super,
    /// scale · s · (code − zero), with another s for each 16 weights. Head: 32 scales in half precision. Block: 2 x 32 signed bytes.
    SuperHalves,
}

/// What a block of a panel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Codes(Codes, Scales),
    /// A float of 16 bits for each weight.
    Floats,
}

impl Codes {
    /// Bytes of a block's codes.
    pub const fn byte_len(self) -> usize {
        match self {
            Codes::Nibble { more } => PANEL * BLOCK / 2 + more * PANEL * BLOCK / 8,
            Codes::Table => PANEL * BLOCK / 2,
            Codes::Byte => PANEL * BLOCK,
        }
    }
}

impl Scales {
    /// Bytes before a block's codes.
    pub const fn byte_len(self) -> usize {
        match self {
            Scales::Half | Scales::Super | Scales::SuperHalves => PANEL * 2,
            Scales::HalfMin => PANEL * 4,
        }
    }

    /// Bytes before a run of blocks.
    pub const fn head_len(self) -> usize {
        match self {
            Scales::Half | Scales::HalfMin => 0,
            Scales::Super => PANEL * 4,
            Scales::SuperHalves => PANEL * 2,
        }
    }
}

impl Format {
    /// How its weights are packed.
    pub const fn packing(self) -> Packing {
        match self {
            Format::Q4_0 => Packing::Codes(Codes::Nibble { more: 0 }, Scales::Half),
            Format::Q4_1 => Packing::Codes(Codes::Nibble { more: 0 }, Scales::HalfMin),
            Format::Q4K => Packing::Codes(Codes::Nibble { more: 0 }, Scales::Super),
            Format::Q5_0 => Packing::Codes(Codes::Nibble { more: 1 }, Scales::Half),
            Format::Q5_1 => Packing::Codes(Codes::Nibble { more: 1 }, Scales::HalfMin),
            Format::Q5K => Packing::Codes(Codes::Nibble { more: 1 }, Scales::Super),
            Format::Q6K => Packing::Codes(Codes::Nibble { more: 2 }, Scales::SuperHalves),
            Format::Iq4Nl => Packing::Codes(Codes::Table, Scales::Half),
            Format::Q8_0 => Packing::Codes(Codes::Byte, Scales::Half),
            Format::F16 | Format::Bf16 => Packing::Floats,
        }
    }

    /// The code that stands for the weight 0, where there is no minimum.
    pub const fn zero(self) -> i32 {
        match self {
            Format::Q4_0 => 8,
            Format::Q5_0 => 16,
            Format::Q6K => 32,
            Format::Q8_0 | Format::Iq4Nl => 128,
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K | Format::F16 | Format::Bf16 => 0,
        }
    }

    /// Bytes of a packed block.
    pub const fn packed_block_len(self) -> usize {
        match self.packing() {
            Packing::Codes(codes, scales) => scales.byte_len() + codes.byte_len(),
            Packing::Floats => 2 * PANEL * BLOCK,
        }
    }

    /// Bytes of a head and its blocks.
    pub const fn packed_run_len(self) -> usize {
        let head = match self.packing() {
            Packing::Codes(_, scales) => scales.head_len(),
            Packing::Floats => 0,
        };
        head + self.block_len() / BLOCK * self.packed_block_len()
    }

    /// Bytes of a packed panel of rows of `k` weights.
    pub const fn panel_len(self, k: usize) -> usize {
        k / self.block_len() * self.packed_run_len()
    }

    /// Bytes of `rows` packed rows of `k` weights.
    pub const fn packed_len(self, rows: usize, k: usize) -> usize {
        rows.div_ceil(PANEL) * self.panel_len(k)
    }

    /// Packs `rows` rows of `k` weights from ggml's layout.
    pub fn pack(self, source: &[u8], rows: usize, k: usize, packed: &mut [u8]) {
        assert_eq!(source.len(), rows * self.row_bytes(k));
        assert_eq!(packed.len(), self.packed_len(rows, k));
        let panels = source.chunks(PANEL * self.row_bytes(k)).zip(packed.chunks_exact_mut(self.panel_len(k)));
        for (rows, panel) in panels {
            panel.fill(0);
            for (r, row) in rows.chunks_exact(self.row_bytes(k)).enumerate() {
                let runs = panel.chunks_exact_mut(self.packed_run_len());
                row.chunks_exact(self.block_bytes()).zip(runs).for_each(|(block, run)| self.pack_run(block, r, run));
            }
        }
    }

    /// Puts one of ggml's blocks of row `r` of a panel into its places.
    fn pack_run(self, block: &[u8], r: usize, run: &mut [u8]) {
        let Packing::Codes(codes, scales) = self.packing() else { return pack_floats(block, r, run) };
        let (head, blocks) = run.split_at_mut(scales.head_len());
        match scales {
            Scales::Half | Scales::HalfMin => {}
            Scales::Super => {
                head[2 * r..][..2].copy_from_slice(&block[..2]);
                head[2 * (PANEL + r)..][..2].copy_from_slice(&block[2..4]);
            }
            Scales::SuperHalves => head[2 * r..][..2].copy_from_slice(&block[208..]),
        }
        for (sub, packed) in blocks.chunks_exact_mut(self.packed_block_len()).enumerate() {
            let (packed_scales, packed_codes) = packed.split_at_mut(scales.byte_len());
            scales.pack(block, sub, r, packed_scales);
            codes.pack(&self.packed_codes_of(block, sub), r, packed_codes);
        }
    }

    /// The codes that are packed: those that the kernels compute with, but for a table the places in it.
    fn packed_codes_of(self, block: &[u8], sub: usize) -> [u8; BLOCK] {
        // The table's format is Q4_0's with another meaning of the codes.
        if self == Format::Iq4Nl { Format::Q4_0.codes_of(block, sub) } else { self.codes_of(block, sub) }
    }
}

impl Scales {
    /// Puts the scales of the 32 weights `sub` of one of ggml's blocks, of row `r` of a panel, into their places.
    fn pack(self, block: &[u8], sub: usize, r: usize, scales: &mut [u8]) {
        match self {
            Scales::Half => scales[2 * r..][..2].copy_from_slice(&block[..2]),
            Scales::HalfMin => {
                scales[2 * r..][..2].copy_from_slice(&block[..2]);
                scales[2 * (PANEL + r)..][..2].copy_from_slice(&block[2..4]);
            }
            Scales::Super => (scales[r], scales[PANEL + r]) = six_bit_pair(&block[4..16], sub),
            Scales::SuperHalves => (scales[r], scales[PANEL + r]) = (block[192 + 2 * sub], block[193 + 2 * sub]),
        }
    }
}

impl Codes {
    /// Puts the codes of a block of row `r` of a panel into their places.
    fn pack(self, own: &[u8; BLOCK], r: usize, codes: &mut [u8]) {
        let more = match self {
            Codes::Byte => {
                for (step, four) in own.chunks_exact(4).enumerate() {
                    codes[(step * PANEL + r) * 4..][..4].copy_from_slice(four);
                }
                return;
            }
            Codes::Table => 0,
            Codes::Nibble { more } => more,
        };
        let (nibbles, bits) = codes.split_at_mut(PANEL * BLOCK / 2);
        for (i, &code) in own.iter().enumerate() {
            let (step, weight) = (i / 4, i % 4);
            nibbles[(step / 2 * PANEL + r) * 4 + weight] |= (code & 15) << (step % 2 * 4);
            for plane in 0..more {
                let at = (plane * 8 + step) * PANEL * 4 + r * 4 + weight;
                bits[at / 8] |= (code >> (4 + plane) & 1) << (at % 8);
            }
        }
    }
}

/// The 32 floats of row `r` of a panel, each with its neighbours of other rows.
fn pack_floats(block: &[u8], r: usize, packed: &mut [u8]) {
    for (weight, row) in block.chunks_exact(2).zip(packed.chunks_exact_mut(2 * PANEL)) {
        row[2 * r..][..2].copy_from_slice(weight);
    }
}
