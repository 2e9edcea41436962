//! Sums that kernels leave in parts, and the list of where they belong: one kernel adds them all up at the end of a backward.

use super::arena::Arena;
use crate::ModelError;
use lacuna_cuda::kernels::{ADD, Reduce, Sum};
use lacuna_cuda::{Device, Number, Place};

/// A buffer of partial sums, taken from its begin.
pub struct Partials {
    pub place: Place,
    capacity: usize,
    taken: usize,
    sums: Vec<Sum>,
    /// Whether sums are added to the gradients of parts before.
    accumulate: bool,
}

impl Partials {
    pub fn new(arena: &mut Arena, capacity: usize, accumulate: bool) -> Result<Self, ModelError> {
        Ok(Partials { place: arena.floats(capacity)?, capacity, taken: 0, sums: Vec::new(), accumulate })
    }

    /// Room for `n` numbers: where it begins.
    pub fn take(&mut self, n: usize) -> Result<usize, ModelError> {
        let start = self.taken;
        self.taken += n;
        if self.taken > self.capacity {
            return Err(ModelError::Device(format!("{} partial sums, but room for {}: a bug of lacuna", self.taken, self.capacity)));
        }
        Ok(start)
    }

    /// The sum over `count` rows of `columns` numbers, `stride` apart from `from` on, belongs to `to` in the flat gradients.
    pub fn sum(&mut self, from: usize, [count, stride, columns]: [usize; 3], to: usize) {
        let flags = if self.accumulate { ADD } else { 0 };
        let [from, count, stride, columns, to] = [from, count, stride, columns, to].map(|n| n as u32);
        self.sums.push(Sum { from, count, stride, columns, to, flags });
    }

    /// Adds all up into `grads`, the flat gradients.
    pub fn reduce(&self, device: &Device, arena: &mut Arena, grads: Place) -> Result<(), ModelError> {
        let table: Vec<u32> = self.sums.iter().flat_map(|sum| sum.words()).collect();
        let widest = self.sums.iter().map(|sum| sum.columns as usize).max().unwrap_or(0);
        let sums = arena.take(4 * table.len())?;
        device.upload(sums, &table)?;
        Ok(Reduce { partials: self.place, sums, grads }.run(device, Number::F32, self.sums.len(), widest)?)
    }
}
