//! Logits that stay on an NVIDIA GPU: a sampler of each sequence keeps llama.cpp from copying them, and a kernel of ours reads there what
//! requests ask for.
//!
//! llama.cpp lets a sampler add to the graph of a batch. Ours adds nothing and asks for nothing, so nothing is copied; it sees the padded
//! logits of the whole batch, and remembers the tensor that they come from, which lasts until the next batch.

use std::ptr::{NonNull, null_mut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lacuna_cuda::{CudaError, Device, Head, Heads, Logits, Want};
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_sys_2 as sys;

use super::raw::raw_params;
use crate::generator::prefix::Token;

/// A GPU that several workers use in turn.
#[derive(Clone)]
pub(super) struct SharedGpu(Arc<Mutex<Arc<Device>>>);

impl SharedGpu {
    pub(super) fn new(device: Arc<Device>) -> Self {
        SharedGpu(Arc::new(Mutex::new(device)))
    }

    /// Whether its memory is the host's, as in tests.
    fn on_host(&self) -> bool {
        self.lock().is_emulated()
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Device>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request reads of a row of logits.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ask {
    /// All of them.
    Whole,
    /// The likeliest tokens, and these besides.
    Head { want: Want, also: Vec<Token> },
    /// These tokens, in ascending order.
    Tokens(Vec<Token>),
}

/// What was found.
pub(super) enum Found {
    Whole(Vec<f32>),
    Head {
        head: Head,
        /// (also)
        also: Vec<f32>,
    },
    Tokens(Vec<f32>),
}

/// The logits of one context's batches.
pub(super) struct InPlace {
    seen: NonNull<Seen>,
    chains: Vec<sys::llama_sampler_seq_config>,
    gpu: SharedGpu,
    heads: Heads,
    vocabulary: usize,
}

/// What the samplers see. It is reached through the pointer of [`InPlace`] and those of its samplers, from the thread that decodes.
struct Seen {
    logits: *mut sys::ggml_tensor,
    interface: sys::llama_sampler_i,
}

// SAFETY: the pointers are owned, and used by one thread at a time.
unsafe impl Send for InPlace {}

impl InPlace {
    /// For a context with so many sequences, on this GPU.
    ///
    /// # Errors
    /// Too little memory on the GPU.
    pub(super) fn new(gpu: &SharedGpu, sequences: usize, rows: usize, vocabulary: usize) -> Result<Self, CudaError> {
        let heads = Heads::new(&gpu.lock(), rows)?;
        let seen = NonNull::from(Box::leak(Box::new(Seen { logits: null_mut(), interface: interface() })));
        let chain = |seq_id: usize| {
            // SAFETY: the interface and what it sees live until the samplers are freed, in `drop`.
            let sampler = unsafe {
                let chain = sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params());
                let own = sys::llama_sampler_init(&raw mut (*seen.as_ptr()).interface, seen.as_ptr().cast());
                sys::llama_sampler_chain_add(chain, own);
                chain
            };
            sys::llama_sampler_seq_config { seq_id: seq_id as i32, sampler }
        };
        Ok(InPlace { seen, chains: (0..sequences).map(chain).collect(), gpu: gpu.clone(), heads, vocabulary })
    }

    /// Has a context with these parameters leave its logits.
    ///
    /// # Safety
    /// The context must be dropped first.
    pub(super) unsafe fn attach(&mut self, params: &mut LlamaContextParams) {
        let raw = raw_params(params);
        raw.samplers = self.chains.as_mut_ptr();
        raw.n_samplers = self.chains.len();
    }

    /// Answers what is asked of rows of the last batch, which the context must have been waited for.
    ///
    /// # Errors
    /// llama.cpp did not lay its logits out as expected; the GPU fails.
    pub(super) fn read(&mut self, rows: usize, asks: &[(usize, Ask)]) -> Result<Vec<Found>, String> {
        let logits = self.logits(rows)?;
        let gpu = self.gpu.clone();
        let _alone = gpu.lock();
        let wants: Vec<Want> = asks.iter().filter_map(|(row, ask)| of_head(ask).map(|want| Want { row: *row as u32, ..want })).collect();
        let picks: Vec<[u32; 2]> =
            asks.iter().flat_map(|(row, ask)| single(ask).iter().map(|&token| [*row as u32, token as u32])).collect();
        let failed = |error: CudaError| error.to_string();
        let mut heads = self.heads.heads(logits, &wants).map_err(failed)?.into_iter();
        let picked = self.heads.picks(logits, &picks).map_err(failed)?;
        let mut picked = picked.as_slice();
        let mut found = |(row, ask): &(usize, Ask)| {
            let (own, rest) = picked.split_at(single(ask).len());
            picked = rest;
            Ok(match (ask, of_head(ask).and_then(|_| heads.next().flatten())) {
                (Ask::Tokens(_), _) => Found::Tokens(own.to_vec()),
                (_, Some(head)) => Found::Head { head, also: own.to_vec() },
                _ => Found::Whole(self.heads.row(logits, *row).map_err(failed)?),
            })
        };
        asks.iter().map(&mut found).collect()
    }

    /// A whole row of the last batch.
    ///
    /// # Errors
    /// The GPU fails.
    pub(super) fn row(&mut self, rows: usize, row: usize) -> Result<Vec<f32>, String> {
        let logits = self.logits(rows)?;
        let _alone = self.gpu.lock();
        self.heads.row(logits, row).map_err(|error| error.to_string())
    }

    /// The logits (rows, vocabulary) of the last batch.
    fn logits(&self, rows: usize) -> Result<Logits, String> {
        // SAFETY: the callback has left a tensor of the context's graph, which lasts until the next batch.
        let tensor = unsafe { self.seen.as_ref().logits.as_ref() }.ok_or("llama.cpp did not show where its logits are")?;
        let shape = [tensor.ne[0], tensor.ne[1], tensor.ne[2] * tensor.ne[3]];
        let whole = tensor.nb[0] == 4 && tensor.nb[1] == 4 * self.vocabulary;
        // SAFETY: a tensor that was computed has a buffer.
        if tensor.buffer.is_null() || unsafe { sys::ggml_backend_buffer_is_host(tensor.buffer) } != self.gpu.on_host() {
            return Err("llama.cpp computes its logits elsewhere".into());
        }
        if tensor.type_ != sys::GGML_TYPE_F32 || shape != [self.vocabulary as i64, rows as i64, 1] || !whole || tensor.data.is_null() {
            return Err(format!("llama.cpp's logits have the shape {shape:?}, expected are {rows} rows of {}", self.vocabulary));
        }
        // SAFETY: an F32 tensor of this shape, on the GPU that the heads were made for.
        Ok(unsafe { Logits::at(tensor.data as u64, self.vocabulary) })
    }
}

fn of_head(ask: &Ask) -> Option<Want> {
    if let Ask::Head { want, .. } = ask { Some(*want) } else { None }
}

/// The single tokens that are asked for.
fn single(ask: &Ask) -> &[Token] {
    match ask {
        Ask::Whole => &[],
        Ask::Head { also: tokens, .. } | Ask::Tokens(tokens) => tokens,
    }
}

impl Drop for InPlace {
    fn drop(&mut self) {
        // SAFETY: the context, which used the samplers, is gone; a chain frees its samplers. Then nobody sees what they saw.
        unsafe {
            self.chains.iter().for_each(|chain| sys::llama_sampler_free(chain.sampler));
            drop(Box::from_raw(self.seen.as_ptr()));
        }
    }
}

fn interface() -> sys::llama_sampler_i {
    sys::llama_sampler_i {
        name: None,
        accept: None,
        apply: Some(apply),
        reset: None,
        clone: None,
        free: None,
        backend_init: Some(init),
        backend_accept: None,
        backend_apply: Some(remember),
        backend_set_input: None,
        backend_reset: None,
        copy_state: None,
    }
}

/// Never called: nothing is sampled on the host.
unsafe extern "C" fn apply(_: *mut sys::llama_sampler, _: *mut sys::llama_token_data_array) {}

unsafe extern "C" fn init(_: *mut sys::llama_sampler, _: sys::ggml_backend_buffer_type_t, _: u32) -> bool {
    true
}

/// Remembers the tensor of the batch's logits, and asks for nothing.
unsafe extern "C" fn remember(
    sampler: *mut sys::llama_sampler,
    _: *mut sys::ggml_context,
    _: *mut sys::ggml_cgraph,
    data: *mut sys::llama_sampler_data,
) {
    // SAFETY: llama.cpp gives a sampler of ours, whose context is a `Seen`, and a view into the padded logits.
    unsafe {
        let seen = (*sampler).ctx.cast::<Seen>();
        let padded = (*(*data).logits).view_src;
        if !padded.is_null() && (*padded).op == sys::GGML_OP_PAD {
            (*seen).logits = (*padded).src[0];
        }
        *data = sys::llama_sampler_data { logits: null_mut(), probs: null_mut(), sampled: null_mut(), candidates: null_mut() };
    }
}

/// The GPU behind a device of ggml's, if our kernels run there; they are tried once.
pub(super) fn open(ggml_name: &str) -> Option<SharedGpu> {
    let number = ggml_name.strip_prefix("CUDA")?.parse().ok()?;
    let opened = Device::gpu(number).and_then(|device| try_out(&device).map(|()| device));
    match opened {
        Ok(device) => Some(SharedGpu::new(device)),
        Err(error) => {
            tracing::warn!("logits are copied from {ggml_name}: {error}");
            None
        }
    }
}

/// Whether the kernels find the likeliest tokens of a row.
fn try_out(device: &Arc<Device>) -> Result<(), CudaError> {
    let row: Vec<f32> = (0..5000).map(|i| (i * 7919 % 5003) as f32 * 1e-3).collect();
    let memory = device.uploaded(&row)?;
    let want = Want { row: 0, top_k: 40, top_p: 1.0, distance: f32::INFINITY };
    // SAFETY: one row of 5,000 numbers, which live as long as `memory`.
    let found = Heads::new(device, 1)?.heads(unsafe { Logits::at(memory.address(), row.len()) }, &[want])?;
    let expected = |head: &Head| row.iter().zip(0..).filter(|(x, _)| **x >= head.floor).map(|(&x, token)| (x, token)).collect::<Vec<_>>();
    match found.first().and_then(Option::as_ref) {
        Some(head) if head.tokens.len() >= 40 && head.tokens == expected(head) => Ok(()),
        other => Err(CudaError(format!("the kernel that reads logits disagrees with the host: {other:?}"))),
    }
}
