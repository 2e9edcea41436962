//! Hidden states, copied out while llama.cpp computes a batch: its evaluation callback sees every named tensor of the graph.

use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_sys_2 as sys;

use super::raw::raw_params;
use crate::generator::scheduler::Step;

/// The states of some layers at the tokens of a batch whose logits were asked for.
pub(super) struct Tap(NonNull<Seen>);

/// What the callback knows and finds. It is reached through the pointer of [`Tap`] alone, from the thread that decodes.
struct Seen {
    /// The tensor of each layer, in the order in which llama.cpp computes them.
    names: Vec<CString>,
    /// Whether the last of them is the model's last layer, where llama.cpp keeps wanted tokens alone.
    ends: bool,
    /// Whether what lies above the last layer is left out; the logits are then not computed.
    cut: bool,
    /// Number of tokens in the batch.
    tokens: usize,
    /// Places in the batch of the tokens whose states are wanted.
    rows: Vec<usize>,
    /// For each layer (rows, hidden); empty until it was computed.
    states: Vec<Vec<f32>>,
    /// A tensor that is not as it should be.
    refused: Option<String>,
}

// The pointer is owned, and used by one thread at a time.
unsafe impl Send for Tap {}

impl Tap {
    /// For `layers`, numbered from 1 and ascending, of a model with `of` of them; the last layer's state is that after the final norm.
    pub(super) fn new(layers: &[usize], of: usize, cut: bool) -> Tap {
        let name = |&layer: &usize| if layer == of { "result_norm".to_string() } else { format!("l_out-{}", layer - 1) };
        let names: Vec<CString> = layers.iter().map(|layer| CString::new(name(layer)).expect("a name without a zero")).collect();
        let states = vec![Vec::new(); names.len()];
        let ends = layers.last() == Some(&of);
        let seen = Seen { names, ends, cut, tokens: 0, rows: Vec::new(), states, refused: None };
        Tap(NonNull::from(Box::leak(Box::new(seen))))
    }

    /// Lets a context with these parameters call it.
    ///
    /// # Safety
    /// The context must not decode after the tap is dropped.
    pub(super) unsafe fn attach(&self, params: &mut LlamaContextParams) {
        let raw = raw_params(params);
        raw.cb_eval = Some(see);
        raw.cb_eval_user_data = self.0.as_ptr().cast();
    }

    /// Before a batch is decoded.
    pub(super) fn begin(&mut self, step: &Step) {
        let seen = self.seen();
        seen.tokens = step.batch.len();
        seen.rows = (0..step.batch.len()).filter(|&row| step.batch[row].logits).collect();
        seen.states.iter_mut().for_each(Vec::clear);
        seen.refused = None;
    }

    /// After a batch was decoded.
    ///
    /// # Errors
    /// A layer that was not seen, or not as expected.
    pub(super) fn end(&mut self) -> Result<(), String> {
        let seen = self.seen();
        if let Some(reason) = seen.refused.take() {
            return Err(reason);
        }
        match seen.names.iter().zip(&seen.states).find(|(_, states)| !seen.rows.is_empty() && states.is_empty()) {
            Some((name, _)) => Err(format!("llama.cpp computed no tensor {name:?}: this architecture does not show its hidden states")),
            None => Ok(()),
        }
    }

    /// Whether logits are not computed.
    pub(super) fn cuts(&self) -> bool {
        // SAFETY: as in `seen`.
        unsafe { self.0.as_ref() }.cut
    }

    /// The state of each layer (layers, hidden) at a token of the batch.
    pub(super) fn states(&mut self, row: usize) -> Vec<Vec<f32>> {
        let seen = self.seen();
        let Some(place) = seen.rows.iter().position(|&wanted| wanted == row) else { return Vec::new() };
        let of_layer = |states: &Vec<f32>| {
            let width = states.len() / seen.rows.len();
            states[place * width..][..width].to_vec()
        };
        seen.states.iter().map(of_layer).collect()
    }

    fn seen(&mut self) -> &mut Seen {
        // SAFETY: the pointer came from a box and is freed in `drop` alone. The callback runs within `llama_decode`, when no such
        // reference is alive.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // SAFETY: it was leaked from a box in `new`.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// llama.cpp asks whether a tensor is wanted, and calls again when it is computed; the answer false then leaves out what comes after it.
unsafe extern "C" fn see(tensor: *mut sys::ggml_tensor, ask: bool, seen: *mut c_void) -> bool {
    // SAFETY: llama.cpp passes a tensor of its graph and the pointer that `attach` gave it.
    let (tensor, seen) = unsafe { (&*tensor, &mut *seen.cast::<Seen>()) };
    // SAFETY: ggml ends names with a zero.
    let name = unsafe { CStr::from_ptr(tensor.name.as_ptr()) };
    let Some(layer) = seen.names.iter().position(|wanted| wanted.as_c_str() == name) else { return false };
    if ask {
        return true;
    }
    match copy(tensor, seen, layer) {
        Ok(_) if !seen.states[layer].is_empty() => seen.refused = Some(format!("{name:?} was computed twice in a batch")),
        Ok(states) => seen.states[layer] = states,
        Err(reason) => seen.refused = Some(reason),
    }
    !(seen.cut && layer + 1 == seen.names.len())
}

/// The rows of a layer's tensor (tokens, hidden) that are wanted. The model's last layer has those rows alone, in order.
fn copy(tensor: &sys::ggml_tensor, seen: &Seen, layer: usize) -> Result<Vec<f32>, String> {
    let [width, rows] = [tensor.ne[0], tensor.ne[1]].map(|n| usize::try_from(n).unwrap_or(0));
    let bytes = width * size_of::<f32>();
    let plain = tensor.type_ == sys::GGML_TYPE_F32 && tensor.nb[1] == bytes && tensor.ne[2..] == [1, 1];
    let last = seen.ends && layer + 1 == seen.names.len();
    let places: Vec<usize> = if last { (0..seen.rows.len()).collect() } else { seen.rows.clone() };
    if !plain || rows != if last { seen.rows.len() } else { seen.tokens } {
        return Err(format!("hidden states of the shape {:?} where {} tokens were decoded", tensor.ne, seen.tokens));
    }
    let mut states = vec![0f32; places.len() * width];
    for (state, place) in states.chunks_exact_mut(width.max(1)).zip(places) {
        // SAFETY: the row lies within the tensor, and the state has as many bytes.
        unsafe { sys::ggml_backend_tensor_get(tensor, state.as_mut_ptr().cast(), place * bytes, bytes) };
    }
    Ok(states)
}
