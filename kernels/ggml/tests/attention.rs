//! Attention on every instruction set of this machine against plain softmax in F64, with masks of all kinds.

use lacuna_ggml_kernels::Isa;
use lacuna_ggml_kernels::attention::{Attention, Strided, attention};
use lacuna_kernels::half;
use proptest::prelude::*;

/// The kinds of attention masks: which tokens see which cells.
#[derive(Clone, Copy, Debug)]
enum Mask {
    /// A token sees a cell by chance, this often in 100.
    Chance(u32),
    /// A prefix that all see, and cells of each token's own; the rest is seen by nobody.
    SharedPrefix,
    /// Two groups of tokens with a prefix each.
    TwoPrefixes,
    /// Each token sees one cell more than the one before.
    Causal,
    /// As `Causal`, with numbers that are added.
    Biased,
}

#[derive(Clone, Debug)]
struct Case {
    key_dim: usize,
    value_dim: usize,
    tokens: usize,
    group: usize,
    kv_heads: usize,
    cells: usize,
    streams: usize,
    threads: usize,
    mask: Mask,
    size: f32,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let mask = prop_oneof![
        (0..101u32).prop_map(Mask::Chance),
        Just(Mask::SharedPrefix),
        Just(Mask::TwoPrefixes),
        Just(Mask::Causal),
        Just(Mask::Biased)
    ];
    let shape = (1..9usize, 1..9usize, prop_oneof![1..12usize, 1..140usize], 1..6usize, 1..3usize, 1..300usize);
    let rest = (1..3usize, 1..4usize, mask, prop_oneof![Just(0.1f32), Just(1.0), Just(20.0)], any::<u64>());
    (shape, rest).prop_map(|((dk, dv, tokens, group, kv_heads, cells), (streams, threads, mask, size, seed))| Case {
        key_dim: 16 * dk,
        value_dim: 16 * dv,
        tokens,
        group,
        kv_heads,
        cells,
        streams,
        threads,
        mask,
        size,
        seed,
    })
}

struct Random(u64);

impl Random {
    fn draw(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// Half-precision numbers between 1/8 and 4 in size, of either sign.
    fn halves(&mut self, n: usize) -> Vec<u16> {
        (0..n).map(|_| (((12 + self.draw() % 5) << 10) | (self.draw() % 1024) | ((self.draw() % 2) << 15)) as u16).collect()
    }
}

const HIDDEN: u16 = 0xfc00;

/// Half-precision inputs and the mask, all contiguous: q as if it were F32, (streams, heads, tokens, key_dim), and so on.
struct Inputs {
    q: Vec<f32>,
    k: Vec<u16>,
    v: Vec<u16>,
    mask: Vec<u16>,
}

impl Case {
    fn heads(&self) -> usize {
        self.group * self.kv_heads
    }

    fn inputs(&self) -> Inputs {
        let mut random = Random(self.seed);
        let q = random.halves(self.streams * self.heads() * self.tokens * self.key_dim);
        let k = random.halves(self.streams * self.kv_heads * self.cells * self.key_dim);
        let v = random.halves(self.streams * self.kv_heads * self.cells * self.value_dim);
        let mask = (0..self.streams * self.tokens * self.cells)
            .map(|i| self.mask(i / self.cells % self.tokens, i % self.cells, &mut random))
            .collect();
        Inputs { q: q.into_iter().map(|bits| self.size * half::to_f32(bits)).collect(), k, v, mask }
    }

    fn mask(&self, token: usize, cell: usize, random: &mut Random) -> u16 {
        let prefix = self.cells / 2;
        let own = cell >= prefix && cell % (self.tokens + 1) == token;
        let sees = match self.mask {
            Mask::Chance(percent) => random.draw() % 100 < percent,
            Mask::SharedPrefix => cell < prefix || own,
            Mask::TwoPrefixes => (cell < prefix && cell % 2 == token % 2) || own,
            Mask::Causal | Mask::Biased => cell + self.tokens <= self.cells.max(self.tokens) + token,
        };
        match (sees, self.mask) {
            (false, _) => HIDDEN,
            (true, Mask::Biased) => random.halves(1)[0],
            (true, _) => 0,
        }
    }

    /// (streams, tokens, heads, value_dim)
    fn run(&self, isa: Isa, inputs: &Inputs) -> Vec<f32> {
        let (dk, dv, heads, tokens, cells) = (self.key_dim, self.value_dim, self.heads(), self.tokens, self.cells);
        let mut out = vec![f32::NAN; self.streams * tokens * heads * dv];
        let strided = |base: *const u8, strides| Strided { base: base.cast_mut(), strides };
        let operation = Attention {
            key_dim: dk,
            value_dim: dv,
            tokens,
            heads,
            kv_heads: self.kv_heads,
            cells,
            streams: self.streams,
            scale: 0.3,
            q: strided(inputs.q.as_ptr().cast(), [4 * dk, 4 * dk * tokens, 4 * dk * tokens * heads]),
            k: strided(inputs.k.as_ptr().cast(), [2 * dk, 2 * dk * cells, 2 * dk * cells * self.kv_heads]),
            v: strided(inputs.v.as_ptr().cast(), [2 * dv, 2 * dv * cells, 2 * dv * cells * self.kv_heads]),
            mask: strided(inputs.mask.as_ptr().cast(), [2 * cells, 0, 2 * cells * tokens]),
            out: strided(out.as_mut_ptr().cast(), [4 * dv * heads, 4 * dv, 4 * dv * heads * tokens]),
        };
        // NaN, so that reading unwritten memory is noticed.
        let mut work = vec![0xffu8; operation.work_len(self.threads)];
        for thread in 0..self.threads {
            // SAFETY: the description is that of the inputs and the output; the parts run one after the other.
            unsafe { attention(isa, &operation, (thread, self.threads), work.as_mut_ptr()) };
        }
        out
    }

    /// Softmax of one token and head, and the weighted sum of values; with it the weighted sum of their sizes.
    fn expected(&self, inputs: &Inputs, stream: usize, token: usize, head: usize) -> (Vec<f64>, Vec<f64>) {
        let (dk, dv) = (self.key_dim, self.value_dim);
        let q = &inputs.q[((stream * self.heads() + head) * self.tokens + token) * dk..][..dk];
        let cell_at = |cell: usize| (stream * self.kv_heads + head / self.group) * self.cells + cell;
        let mask = &inputs.mask[(stream * self.tokens + token) * self.cells..][..self.cells];
        let seen: Vec<usize> = (0..self.cells).filter(|&cell| mask[cell] != HIDDEN).collect();
        let score = |&cell: &usize| {
            let key = &inputs.k[cell_at(cell) * dk..][..dk];
            let dot: f64 = q.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(half::to_f32(k))).sum();
            dot * f64::from(0.3f32) + f64::from(half::to_f32(mask[cell]))
        };
        let scores: Vec<f64> = seen.iter().map(score).collect();
        let largest = scores.iter().fold(f64::MIN, |a, &b| a.max(b));
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let (mut sums, mut sizes) = (vec![0.0; dv], vec![0.0; dv]);
        for (&cell, weight) in seen.iter().zip(&weights) {
            for d in 0..dv {
                let value = f64::from(half::to_f32(inputs.v[cell_at(cell) * dv + d])) * weight / total;
                sums[d] += value;
                sizes[d] += value.abs();
            }
        }
        (sums, sizes)
    }
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let inputs = case.inputs();
    // Scores grow with the queries, and with them what rounding does to a weight.
    let largest_score = 0.3 * 4.0 * 4.0 * f64::from(case.size) * case.key_dim as f64;
    let tolerance = 1e-6 * (8.0 + largest_score);
    for isa in Isa::available() {
        let out = case.run(isa, &inputs);
        for (at, got) in out.chunks(case.value_dim).enumerate() {
            let (stream, token, head) = (at / case.heads() / case.tokens, at / case.heads() % case.tokens, at % case.heads());
            let (expected, sizes) = case.expected(&inputs, stream, token, head);
            for d in 0..case.value_dim {
                let error = (f64::from(got[d]) - expected[d]).abs();
                prop_assert!(error <= tolerance * sizes[d].max(0.1), "{isa:?}: token {token}, head {head}: {} for {}", got[d], expected[d]);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn attention_is_softmax_over_what_the_mask_shows(case in cases()) {
        check(&case)?;
    }
}

/// A few tokens and cells.
const SMALL: Case = Case {
    key_dim: 64,
    value_dim: 32,
    tokens: 9,
    group: 3,
    kv_heads: 2,
    cells: 40,
    streams: 1,
    threads: 1,
    mask: Mask::Chance(0),
    size: 1.0,
    seed: 1,
};

/// A key that is not a number, of a damaged file or an overflow, is seen in what attends to it, as in ggml.
#[test]
fn what_is_not_a_number_is_not_swallowed() {
    for at in [0, 17, 39] {
        let case = Case { mask: Mask::Chance(100), ..SMALL };
        let mut inputs = case.inputs();
        inputs.k[at * case.key_dim] = 0x7e00;
        for isa in Isa::available() {
            let out = case.run(isa, &inputs);
            let (heads, dv) = (case.heads(), case.value_dim);
            let of_head = |head: usize| (0..case.tokens).flat_map(move |token| (0..dv).map(move |d| (token * heads + head) * dv + d));
            assert!((0..case.group).flat_map(of_head).all(|i| out[i].is_nan()), "{isa:?}, cell {at}");
            assert!((case.group..heads).flat_map(of_head).all(|i| out[i].is_finite()), "{isa:?}, cell {at}: another head's keys");
        }
    }
}

#[test]
fn tokens_that_see_nothing_get_zeros() {
    let case = SMALL;
    let inputs = case.inputs();
    for isa in Isa::available() {
        assert!(case.run(isa, &inputs).iter().all(|&x| x == 0.0), "{isa:?}");
    }
}
