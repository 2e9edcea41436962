//! A device that was opened, and its work space.

use super::arena::Arena;
use crate::ModelError;
use crate::config::Config;
use crate::device::Device;
use lacuna_cuda::kernels::{LONGEST, WIDEST};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A device with the work space that all models on it share.
pub struct Session {
    pub device: Arc<lacuna_cuda::Device>,
    arena: Mutex<Arena>,
}

/// A device that was asked for, and its session or why there is none.
struct Asked {
    device: Device,
    session: Result<Arc<Session>, String>,
}

/// Every device is asked for once.
static SESSIONS: Mutex<Vec<Asked>> = Mutex::new(Vec::new());

impl Session {
    /// The session of a device, opened when first asked for; `None` for a device that is not of this kind.
    pub fn open(device: Device) -> Option<Result<Arc<Session>, ModelError>> {
        let mut sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
        if !sessions.iter().any(|asked| asked.device == device) {
            let opened = open(device)?;
            sessions.push(Asked { device, session: opened.map(Session::new) });
        }
        let asked = sessions.iter().find(|asked| asked.device == device)?;
        Some(asked.session.clone().map_err(|reason| ModelError::Device(format!("{device} cannot be used: {reason}"))))
    }

    pub fn new(device: Arc<lacuna_cuda::Device>) -> Arc<Self> {
        Arc::new(Session { arena: Mutex::new(Arena::new(device.clone())), device })
    }

    /// Bytes of the device's memory that nobody uses: what the work space has can be had too.
    pub fn free_memory(&self) -> Result<usize, ModelError> {
        let arena = self.lock();
        Ok(self.device.free_memory()? + arena.bytes())
    }

    /// The work space, empty. One thread at a time uses the device, as long as it has this.
    pub fn lock(&self) -> MutexGuard<'_, Arena> {
        let mut arena = self.arena.lock().unwrap_or_else(PoisonError::into_inner);
        arena.clear();
        arena
    }
}

/// None for a device of another kind.
fn open(device: Device) -> Option<Result<Arc<lacuna_cuda::Device>, String>> {
    match device {
        Device::Cuda(number) => Some(lacuna_cuda::Device::gpu(number).map_err(|e| e.to_string())),
        #[cfg(feature = "emulated")]
        Device::Emulated => Some(Ok(lacuna_cuda::Device::emulated())),
        _ => None,
    }
}

/// Whether the kernels have the sizes of a model, and take its longest rows.
pub fn check(config: &Config) -> Result<(), ModelError> {
    let (hidden, head, longest) = (config.hidden_size, config.head_size(), config.max_position_embeddings);
    let (embedding, name) = (config.embedding_size, config.architecture.name());
    let widths = [hidden, embedding, config.intermediate_size];
    let reason = if !config.has_positions() {
        format!("there are no kernels for NVIDIA GPUs of {name}'s layers yet: use the CPU")
    } else if hidden.max(embedding) > WIDEST || ![32, 64].contains(&head) {
        format!(
            "the kernels for NVIDIA GPUs have heads of 32 or 64 numbers and hidden sizes up to {WIDEST}; this model has heads of {head} \
             and a hidden size of {hidden}: use the CPU"
        )
    } else if widths.iter().any(|width| !width.is_multiple_of(8)) {
        format!("the kernels for NVIDIA GPUs have widths that are multiples of 8; this model's are {widths:?}: use the CPU")
    } else if config.num_hidden_layers == 0 || (embedding != hidden && config.num_hidden_layers == 1) {
        // The first tokens of a layer's input are kept apart where the last layer reads them alone; a projection does not.
        format!("the kernels for NVIDIA GPUs take no {name} of {} layers: use the CPU", config.num_hidden_layers)
    } else if longest > LONGEST {
        format!("the kernels for NVIDIA GPUs take rows of up to {LONGEST} tokens; this model's may have {longest}: use the CPU")
    } else {
        return Ok(());
    };
    Err(ModelError::Device(reason))
}
