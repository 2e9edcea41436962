//! A model's place on an NVIDIA GPU: its parameters there, and what the host knows of them.

use super::pass::Pass;
use super::plan::Plan;
use super::session::{self, Session};
use super::weights::Weights;
use crate::ModelError;
use crate::batch::PackedBatch;
use crate::device::Device;
use crate::parameters::Parameters;
use lacuna_cuda::Number;
use std::sync::{Arc, OnceLock};

/// How many bytes the activations of one piece of a batch may take in inference.
const ACTIVATIONS: usize = 1 << 30;

/// The device, and the parameters there once they are needed.
#[derive(Clone)]
pub struct Placed {
    pub session: Arc<Session>,
    /// Clones of a model share them until one of them is trained.
    weights: OnceLock<Arc<Weights>>,
    /// Whether those on the device are newer than the host's; then the host's copy of them, once it was fetched.
    newer: Option<OnceLock<Vec<f32>>>,
}

impl Placed {
    /// On a device that was opened.
    pub fn new(session: Arc<Session>) -> Self {
        Placed { session, weights: OnceLock::new(), newer: None }
    }

    /// None for a device of another kind.
    pub fn open(device: Device, params: &Parameters) -> Result<Option<Self>, ModelError> {
        let Some(session) = Session::open(device) else { return Ok(None) };
        session::check(&params.config).map_err(|e| ModelError::Device(format!("{device} cannot be used: {e}")))?;
        Ok(Some(Placed::new(session?)))
    }

    /// The parameters on the device, copied there if they are not. The session must be locked.
    fn weights(&self, params: &Parameters) -> Result<Arc<Weights>, ModelError> {
        if let Some(weights) = self.weights.get() {
            return Ok(weights.clone());
        }
        let weights = Weights::upload(&self.session.device, &params.layout, &params.flat)?;
        Ok(self.weights.get_or_init(|| weights.into()).clone())
    }

    /// The parameters, to be changed on the device alone: those that clones share are copied first.
    pub fn own_weights(&mut self, params: &Parameters) -> Result<Arc<Weights>, ModelError> {
        let weights = {
            let _alone = self.session.lock();
            let weights = self.weights(params)?;
            self.weights.take();
            match Arc::try_unwrap(weights) {
                Ok(weights) => weights,
                Err(shared) => shared.copy(&self.session.device)?,
            }
        };
        Ok(self.weights.get_or_init(|| weights.into()).clone())
    }

    /// The parameters for reading.
    pub fn shared_weights(&self, params: &Parameters) -> Result<Arc<Weights>, ModelError> {
        let _alone = self.session.lock();
        self.weights(params)
    }

    /// The parameters on the device have changed.
    pub fn changed_there(&mut self) {
        self.newer = Some(OnceLock::new());
    }

    /// Drops the parameters on the device: the host's have changed.
    pub fn forget(&mut self) {
        self.weights.take();
        self.newer = None;
    }

    /// The newest parameters, fetched from the device if need be; `host` are those of the host.
    pub fn newest<'a>(&'a self, host: &'a [f32]) -> Result<&'a [f32], ModelError> {
        let (Some(newer), Some(weights)) = (&self.newer, self.weights.get()) else { return Ok(host) };
        if newer.get().is_none() {
            let _alone = self.session.lock();
            let fetched = weights.flat.floats()?;
            return Ok(newer.get_or_init(|| fetched));
        }
        Ok(newer.get().map_or(host, Vec::as_slice))
    }

    /// The host's parameters, if there are newer ones than it has.
    pub fn take_newer(&mut self) -> Result<Option<Vec<f32>>, ModelError> {
        self.newest(&[])?;
        Ok(self.newer.take().and_then(OnceLock::into_inner))
    }

    /// The logits of a checked batch, without dropout.
    pub fn logits(&self, params: &Parameters, batch: &PackedBatch, number: Number) -> Result<Vec<f32>, ModelError> {
        let mut arena = self.session.lock();
        let (weights, device, hidden) = (self.weights(params)?, &*self.session.device, params.config.hidden_size);
        let token = (10 * hidden + 2 * params.config.intermediate_size) * number.bytes();
        let mut all = Vec::new();
        for shard in batch.shards((batch.tokens() * token).div_ceil(ACTIVATIONS)) {
            arena.clear();
            let plan = Plan::new(device, &mut arena, &shard, (&params.layout, &params.config), None)?;
            let pass = Pass { device, params, weights: &weights, shard: &shard, plan: &plan, number, masks: None };
            let forward = pass.forward(&mut arena)?;
            let place = pass.head(&mut arena, forward.last, None)?;
            let count = params.layout.logits(shard.rows(), shard.tokens());
            let mut logits = vec![0.0f32; count];
            device.download(place, &mut logits)?;
            all.extend(logits);
        }
        Ok(all)
    }
}
