//! The kernels and their arguments, laid out as the sources in `cu/` have them; shapes are there.
//!
//! Places must be of live memory that is as large as the shapes say. An argument that the sources call "or null" may be [`Place::NONE`].

use crate::device::{Device, Number};
use crate::error::CudaError;
use crate::memory::Place;
use lacuna_kernels::dropout;

type Done = Result<(), CudaError>;

/// The largest hidden size of the kernels.
pub const WIDEST: usize = 1024;
/// The longest row that attention and span heads take.
pub const LONGEST: usize = 512;
/// Tokens in a tile of attention.
pub const TILE: usize = 64;
/// Partial sums of the gradient norm; the loss comes behind them.
pub const SQUARES: usize = 256;
/// Numbers in a piece of the dense parameters at most.
pub const PIECE: usize = 4096;
/// Word rows that a block updates.
const WORD_ROWS: usize = 16;

/// The masks of one place in one step; see `lacuna_kernels::dropout`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Dropout {
    key: u64,
    first_row: u32,
    threshold: u32,
    scale: f32,
}

impl Dropout {
    /// Keeps everything.
    pub const OFF: Dropout = Dropout { key: 0, first_row: 0, threshold: 0, scale: 1.0 };

    pub fn is_off(&self) -> bool {
        self.threshold == 0
    }
}

impl From<dropout::Dropout> for Dropout {
    fn from(dropout: dropout::Dropout) -> Self {
        let (key, first_row, threshold, scale) = dropout.words();
        Dropout { key, first_row: first_row as u32, threshold, scale }
    }
}

/// The name of the kernel for a hidden size.
fn of_width(hidden: u32, names: [&'static str; 3]) -> Result<&'static str, CudaError> {
    match hidden as usize {
        ..=384 => Ok(names[0]),
        385..=768 => Ok(names[1]),
        769..=WIDEST => Ok(names[2]),
        _ => Err(CudaError(format!("the GPU's kernels have no hidden size above {WIDEST}"))),
    }
}

/// The name of the kernel for a head size.
fn of_head(head_size: usize, names: [&'static str; 2]) -> Result<&'static str, CudaError> {
    match head_size {
        32 => Ok(names[0]),
        64 => Ok(names[1]),
        _ => Err(CudaError(format!("the GPU's kernels have heads of 32 and 64 numbers, not of {head_size}"))),
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Embed {
    pub words: Place,
    pub positions: Place,
    pub types: Place,
    pub ids: Place,
    pub position_ids: Place,
    pub type_ids: Place,
    pub rows: Place,
    pub weight: Place,
    pub bias: Place,
    pub x_hat: Place,
    pub rstd: Place,
    pub y: Place,
    pub firsts: Place,
    pub drop: Dropout,
    pub eps: f32,
    pub tokens: u32,
    pub hidden: u32,
}

impl Embed {
    pub fn run(&self, device: &Device, number: Number) -> Done {
        let name = of_width(self.hidden, ["embed_6", "embed_12", "embed_16"])?;
        device.launch(name, number, [self.tokens.div_ceil(4) as usize, 1, 1], 128, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ResidualNorm {
    pub x: Place,
    pub residual: Place,
    pub position_ids: Place,
    pub rows: Place,
    pub weight: Place,
    pub bias: Place,
    pub rstd: Place,
    pub y: Place,
    pub firsts: Place,
    pub drop: Dropout,
    pub eps: f32,
    pub tokens: u32,
    pub hidden: u32,
}

impl ResidualNorm {
    pub fn run(&self, device: &Device, number: Number) -> Done {
        let name = of_width(self.hidden, ["residual_norm_6", "residual_norm_12", "residual_norm_16"])?;
        device.launch(name, number, [self.tokens.div_ceil(4) as usize, 1, 1], 128, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NormBackward {
    pub dy: Place,
    pub dfirsts: Place,
    pub x_hat: Place,
    pub rstd: Place,
    pub weight: Place,
    pub position_ids: Place,
    pub rows: Place,
    pub dx: Place,
    pub branch: Place,
    pub partials: Place,
    pub after: Dropout,
    pub before: Dropout,
    pub tokens: u32,
    pub hidden: u32,
}

impl NormBackward {
    /// Partial sums that it leaves for each column: it works in so many blocks.
    pub fn blocks(tokens: usize) -> usize {
        tokens.div_ceil(8).min(132)
    }

    pub fn run(&self, device: &Device, number: Number) -> Done {
        let name = of_width(self.hidden, ["norm_backward_6", "norm_backward_12", "norm_backward_16"])?;
        device.launch(name, number, [NormBackward::blocks(self.tokens as usize), 1, 1], 256, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Gelu {
    pub x: Place,
    pub activated: Place,
    pub pairs: u64,
    pub with_slope: u32,
}

impl Gelu {
    pub fn run(&self, device: &Device, number: Number) -> Done {
        device.launch("gelu_forward", number, [self.pairs.div_ceil(256).min(4096) as usize, 1, 1], 256, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GeluBackward {
    pub d: Place,
    pub slope: Place,
    pub partials: Place,
    pub tokens: u32,
    pub columns: u32,
    pub tokens_a_block: u32,
}

impl GeluBackward {
    /// Partial sums that it leaves for each column.
    pub fn blocks(tokens: usize) -> usize {
        tokens.div_ceil(GeluBackward::tokens_a_block(tokens))
    }

    /// Tokens that a block sums up.
    pub fn tokens_a_block(tokens: usize) -> usize {
        tokens.div_ceil(64).max(32)
    }

    pub fn run(&self, device: &Device, number: Number) -> Done {
        let grid = [self.columns.div_ceil(64) as usize, GeluBackward::blocks(self.tokens as usize), 1];
        device.launch("gelu_backward", number, grid, 256, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Attention {
    pub q: Place,
    pub k: Place,
    pub v: Place,
    pub context: Place,
    pub lse: Place,
    pub cu_seqlens: Place,
    pub tiles: Place,
    /// None where distances add nothing.
    pub bias: Place,
    pub drop: Dropout,
    pub scale: f32,
    pub q_stride: u32,
    pub kv_stride: u32,
    pub hidden: u32,
    pub queries: u32,
    pub first_only: u32,
    pub longest: u32,
}

impl Attention {
    pub fn run(&self, device: &Device, number: Number, tiles: usize, head_size: usize) -> Done {
        let names = match self.bias.is_none() {
            true => ["attention_32", "attention_64"],
            false => ["attention_biased_32", "attention_biased_64"],
        };
        let name = of_head(head_size, names)?;
        device.launch(name, number, [tiles, self.hidden as usize / head_size, 1], 128, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AttentionBackward {
    pub forward: Attention,
    pub dcontext: Place,
    pub dq: Place,
    pub dk: Place,
    pub dv: Place,
    pub partials: Place,
    pub buckets: Place,
    pub bias_partials: Place,
    pub bucket_count: u32,
}

impl AttentionBackward {
    pub fn run(&self, device: &Device, number: Number, tiles: usize, head_size: usize) -> Done {
        let names = match self.forward.bias.is_none() {
            true => ["attention_backward_32", "attention_backward_64"],
            false => ["attention_backward_biased_32", "attention_backward_biased_64"],
        };
        let name = of_head(head_size, names)?;
        device.launch(name, number, [tiles, self.forward.hidden as usize / head_size, 2], 128, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RelativeBias {
    pub table: Place,
    pub buckets: Place,
    pub bias: Place,
    pub scale: f32,
    pub heads: u32,
    pub distances: u32,
}

impl RelativeBias {
    pub fn run(&self, device: &Device) -> Done {
        let blocks = (self.heads * self.distances).div_ceil(128) as usize;
        device.launch("relative_bias", Number::F32, [blocks, 1, 1], 128, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Classify {
    pub pooled: Place,
    pub weight: Place,
    pub bias: Place,
    pub targets: Place,
    pub weights: Place,
    pub kept: Place,
    pub logits: Place,
    pub dlogits: Place,
    pub losses: Place,
    pub dpooled: Place,
    pub drop: Dropout,
    pub loss_scale: f32,
    pub hidden: u32,
    pub labels: u32,
    /// Whether a row may have several labels, each with a sigmoid and a loss of its own.
    pub several: u32,
    pub activation: Activation,
}

/// What the head for labels applies to the dense layer's output.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Activation {
    Relu = 0,
    Tanh = 1,
    Gelu = 2,
}

impl Classify {
    pub fn run(&self, device: &Device, number: Number, rows: usize) -> Done {
        device.launch("classify", number, [rows, 1, 1], 256, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ClassifyGradients {
    pub kept: Place,
    pub dlogits: Place,
    pub dpooled: Place,
    pub dweight: Place,
    pub dbias: Place,
    pub dpooler_bias: Place,
    pub rows: u32,
    pub hidden: u32,
    pub labels: u32,
    pub accumulate: u32,
}

impl ClassifyGradients {
    pub fn run(&self, device: &Device, number: Number) -> Done {
        let grid = [self.labels as usize + 1, self.hidden.div_ceil(256) as usize, 1];
        device.launch("classify_gradients", number, grid, 256, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Spans {
    pub last: Place,
    pub weight: Place,
    pub bias: Place,
    pub logits: Place,
    pub cu_seqlens: Place,
    pub answers: Place,
    pub losses: Place,
    pub dlast: Place,
    pub partials: Place,
    pub drop: Dropout,
    pub loss_scale: f32,
    pub hidden: u32,
}

impl Spans {
    pub fn run(&self, device: &Device, number: Number, rows: usize) -> Done {
        device.launch("spans", number, [rows, 1, 1], 256, self)
    }
}

/// Tokens that took the same row; see `sums.cu`.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub start: u32,
    pub count: u32,
    pub to: u32,
    pub flags: u32,
}

/// The sum is added to what is there.
pub const ADD: u32 = 1;
/// The sum goes to the partial sums.
pub const PARTIAL: u32 = 2;

impl Segment {
    pub fn words(self) -> [u32; 4] {
        [self.start, self.count, self.to, self.flags]
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Scatter {
    pub d: Place,
    pub order: Place,
    pub segments: Place,
    pub grads: Place,
    pub partials: Place,
    pub hidden: u32,
}

impl Scatter {
    pub fn run(&self, device: &Device, number: Number, segments: usize) -> Done {
        device.launch("scatter", number, [segments, 1, 1], 128, self)
    }
}

/// A column sum whose parts lie in the partial sums; see `sums.cu`.
#[derive(Clone, Copy, Debug)]
pub struct Sum {
    pub from: u32,
    pub count: u32,
    pub stride: u32,
    pub columns: u32,
    pub to: u32,
    pub flags: u32,
}

impl Sum {
    pub fn words(self) -> [u32; 6] {
        [self.from, self.count, self.stride, self.columns, self.to, self.flags]
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Reduce {
    pub partials: Place,
    pub sums: Place,
    pub grads: Place,
}

impl Reduce {
    /// `widest`: the most columns that one of the sums has.
    pub fn run(&self, device: &Device, number: Number, sums: usize, widest: usize) -> Done {
        device.launch("reduce", number, [sums, widest.div_ceil(32), 1], 256, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Squares {
    pub grads: Place,
    pub touched: Place,
    pub stamps: Place,
    pub losses: Place,
    pub partials: Place,
    pub words: u64,
    pub length: u64,
    pub touched_count: u32,
    pub hidden: u32,
    pub stamp: u32,
    pub loss_count: u32,
}

impl Squares {
    pub fn run(&self, device: &Device) -> Done {
        device.launch("squares", Number::F32, [SQUARES, 1, 1], 256, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Update {
    pub params: Place,
    pub m: Place,
    pub v: Place,
    pub grads: Place,
    pub rounded: Place,
    pub stamps: Place,
    pub pieces: Place,
    pub partials: Place,
    pub outcome: Place,
    pub max_norm: f64,
    pub words: u64,
    pub rate: f32,
    pub root: f32,
    pub keep: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    pub vocabulary: u32,
    pub hidden: u32,
    pub stamp: u32,
    pub word_blocks: u32,
}

impl Update {
    /// Blocks that take the word rows.
    pub fn word_blocks(vocabulary: usize) -> u32 {
        vocabulary.div_ceil(WORD_ROWS) as u32
    }

    pub fn run(&self, device: &Device, pieces: usize) -> Done {
        device.launch("update", Number::F32, [self.word_blocks as usize + pieces, 1, 1], 256, self)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Round {
    pub from: Place,
    pub to: Place,
    pub length: u64,
}

impl Round {
    pub fn run(&self, device: &Device) -> Done {
        device.launch("round_weights", Number::F32, [self.length.div_ceil(256) as usize, 1, 1], 256, self)
    }
}
