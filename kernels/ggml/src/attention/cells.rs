//! Which cells of the KV cache a tile's tokens see: shared ones, and each token's own.

/// Tokens of a tile: as many as a `u64` has bits.
pub(super) const TILE: usize = 64;
/// Fewer tokens than this go through a cell one by one.
const FEWEST: u32 = 4;
/// Tokens and cells whose masks are read together: a bit for each token, a vector of cells.
const TOKENS: usize = 16;
const CELLS: usize = 32;
/// −∞ in half precision.
const HIDDEN: u16 = 0xfc00;

/// The cells of one tile, in memory that the caller lends.
pub(super) struct Cells {
    count: usize,
    /// By cell: a bit for each token that sees it.
    seen: *mut u64,
    /// Shared cells from the front.
    shared: *mut u32,
    shared_len: usize,
    /// The tokens' own cells, one token after the other.
    own: *mut u32,
    own_begin: [usize; TILE + 1],
    biased: bool,
}

impl Cells {
    /// Lays out the lists for `count` cells from `base`; also says how many bytes they take.
    pub(super) fn new(count: usize, base: *mut u8) -> (Cells, usize) {
        let shared = base.wrapping_add(count * 8);
        let own = shared.wrapping_add(count * 4);
        let cells = Cells {
            count,
            seen: base.cast(),
            shared: shared.cast(),
            shared_len: 0,
            own: own.cast(),
            own_begin: [0; TILE + 1],
            biased: false,
        };
        // A cell that is not shared is seen by less than a quarter of a tile, or by less than FEWEST.
        (cells, count * (8 + 4 + 4 * (TILE / 4)))
    }

    /// Reads the mask: `row(t)` points to the half-precision numbers of token `t`, one for each cell.
    ///
    /// # Safety
    /// The memory lent to `new` is there and so are the rows; `tokens` is at most [`TILE`].
    #[inline(always)]
    pub(super) unsafe fn classify(&mut self, tokens: usize, row: impl Fn(usize) -> *mut u16) {
        // SAFETY: as the caller says.
        let seen = unsafe { std::slice::from_raw_parts_mut(self.seen, self.count) };
        seen.fill(0);
        let mut biased = 0;
        for first in (0..tokens).step_by(TOKENS) {
            for (i, seen) in seen.chunks_mut(CELLS).enumerate() {
                let (mut bits, mut rest) = ([0u16; CELLS], [0u16; CELLS]);
                for t in first..tokens.min(first + TOKENS) {
                    // SAFETY: as the caller says.
                    let row = unsafe { std::slice::from_raw_parts(row(t).cast_const().add(i * CELLS), seen.len()) };
                    match row.first_chunk() {
                        // The same with a length that the compiler knows.
                        Some(row) => look::<[u16; CELLS]>(row, t - first, &mut bits, &mut rest),
                        None => look(row, t - first, &mut bits, &mut rest),
                    }
                }
                seen.iter_mut().zip(bits).for_each(|(seen, bits)| *seen |= u64::from(bits) << first);
                biased |= rest.into_iter().fold(0, |all, rest| all | rest);
            }
        }
        self.biased = biased != 0;
        let least = FEWEST.max(tokens as u32 / 4);
        // SAFETY: `shared` has room for every cell, `own` for all that are not shared.
        unsafe { self.list(seen, tokens, least) };
    }

    /// Fills the lists: cells that at least `least` tokens see, and the others by token.
    #[inline(always)]
    unsafe fn list(&mut self, seen: &[u64], tokens: usize, least: u32) {
        let mut counts = [0usize; TILE];
        self.shared_len = 0;
        for (cell, &bits) in seen.iter().enumerate() {
            if bits == 0 {
                continue;
            }
            if bits.count_ones() >= least {
                // SAFETY: at most one entry a cell.
                unsafe { *self.shared.add(self.shared_len) = cell as u32 };
                self.shared_len += 1;
            } else {
                ones(bits).for_each(|t| counts[t] += 1);
            }
        }
        for (t, count) in counts.iter().enumerate().take(tokens) {
            self.own_begin[t + 1] = self.own_begin[t] + count;
        }
        let mut next = self.own_begin;
        for (cell, &bits) in seen.iter().enumerate().filter(|(_, bits)| (1..least).contains(&bits.count_ones())) {
            ones(bits).for_each(|t| {
                // SAFETY: as counted above.
                unsafe { *self.own.add(next[t]) = cell as u32 };
                next[t] += 1;
            });
        }
    }

    /// Cells that many tokens see.
    pub(super) fn shared(&self) -> &[u32] {
        // SAFETY: `classify` wrote them.
        unsafe { std::slice::from_raw_parts(self.shared, self.shared_len) }
    }

    /// The other cells that token `t` of the tile sees.
    pub(super) fn own(&self, t: usize) -> &[u32] {
        // SAFETY: `classify` wrote them.
        unsafe { std::slice::from_raw_parts(self.own.add(self.own_begin[t]), self.own_begin[t + 1] - self.own_begin[t]) }
    }

    /// The tokens that see a cell, a bit each.
    pub(super) fn seen_by(&self, cell: u32) -> u64 {
        assert!((cell as usize) < self.count);
        // SAFETY: checked above; `classify` wrote it.
        unsafe { *self.seen.add(cell as usize) }
    }

    /// Whether the mask adds something other than 0 to a score.
    pub(super) fn biased(&self) -> bool {
        self.biased
    }
}

/// Sets bit `t` of the cells that a row of the mask makes visible, and collects the values that it adds to their scores.
#[inline(always)]
fn look<R: AsRef<[u16]> + ?Sized>(row: &R, t: usize, bits: &mut [u16; CELLS], rest: &mut [u16; CELLS]) {
    for ((&mask, bits), rest) in row.as_ref().iter().zip(bits).zip(rest) {
        *bits |= u16::from(mask != HIDDEN) << t;
        *rest |= if mask == HIDDEN { 0 } else { mask & 0x7fff };
    }
}

/// The places of the bits that are set.
#[inline(always)]
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (at < 64).then_some(at)
    })
}
