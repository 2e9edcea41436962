//! The quantised formats as types, for the compiler to specialise the kernels by.

use crate::format::Format;
use crate::packed::{BLOCK, Codes, Packing, Scales};

/// A format whose weights are codes.
pub(super) trait Quantised {
    const FORMAT: Format;
    const PACKING: (Codes, Scales) = match Self::FORMAT.packing() {
        Packing::Codes(codes, scales) => (codes, scales),
        Packing::Floats => panic!("floats have a kernel of their own"),
    };
    const CODES: Codes = Self::PACKING.0;
    const SCALES: Scales = Self::PACKING.1;
    /// Blocks after a head.
    const RUN: usize = Self::FORMAT.block_len() / BLOCK;

    /// Where the head before block `b` and the block itself begin in a panel.
    #[inline(always)]
    fn places(b: usize) -> (usize, usize) {
        let head = b / Self::RUN * Self::FORMAT.packed_run_len();
        (head, head + Self::SCALES.head_len() + b % Self::RUN * Self::FORMAT.packed_block_len())
    }
}

macro_rules! quantised {
    ($($format:ident)*) => {
        $(
            #[allow(non_camel_case_types)]
            pub(super) struct $format;
            impl Quantised for $format {
                const FORMAT: Format = Format::$format;
            }
        )*
    };
}
quantised!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Iq4Nl Q4K Q5K Q6K);
