//! A device that runs the kernels: a GPU or, for tests, the host in its place.

use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::memory::{Memory, Place};
use crate::product::Product;
use std::ffi::c_void;
use std::sync::Arc;

/// The number format of activations and of the operands of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    F32,
    Bf16,
}

impl Number {
    pub fn bytes(self) -> usize {
        match self {
            Number::F32 => 4,
            Number::Bf16 => 2,
        }
    }
}

/// A kernel, by its name and the format of its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    pub name: &'static str,
    pub number: Number,
}

/// What a device can do. Calls run in their order; only `download` waits for them.
pub(crate) trait Backend: Send + Sync {
    fn name(&self) -> String;
    fn is_emulated(&self) -> bool {
        false
    }
    fn free_memory(&self) -> Result<usize, CudaError>;
    fn allocate(&self, bytes: usize) -> Result<Place, CudaError>;
    fn free(&self, place: Place);
    fn zero(&self, place: Place, bytes: usize) -> Result<(), CudaError>;
    fn upload(&self, place: Place, from: &[u8]) -> Result<(), CudaError>;
    fn download(&self, place: Place, to: &mut [u8]) -> Result<(), CudaError>;
    fn copy(&self, from: Place, to: Place, bytes: usize) -> Result<(), CudaError>;
    /// `arguments` points to the kernel's one argument, a structure of `size` bytes.
    fn launch(&self, kernel: Kernel, grid: [u32; 3], threads: u32, arguments: *const c_void, size: usize) -> Result<(), CudaError>;
    fn multiply(&self, product: &Product) -> Result<(), CudaError>;
}

/// A device. It is used by one thread at a time: whoever shares it takes care of that.
pub struct Device {
    backend: Box<dyn Backend>,
}

/// Numbers without padding, of which every bit pattern is valid.
pub trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for u32 {}
impl Plain for f32 {}
impl Plain for f64 {}

impl Device {
    /// The GPU of this number.
    ///
    /// # Errors
    /// A driver or cublasLt that cannot be loaded; no such GPU, or one that is too old.
    pub fn gpu(number: usize) -> Result<Arc<Self>, CudaError> {
        Ok(Arc::new(Device { backend: Box::new(Gpu::open(number)?) }))
    }

    /// The host in the place of a GPU.
    #[cfg(feature = "emulated")]
    pub fn emulated() -> Arc<Self> {
        Arc::new(Device { backend: Box::new(crate::emulated::Emulated) })
    }

    /// Whether it is the host in the place of a GPU.
    pub fn is_emulated(&self) -> bool {
        self.backend.is_emulated()
    }

    /// What it is called by its maker.
    pub fn name(&self) -> String {
        self.backend.name()
    }

    /// Bytes of its memory that nobody uses.
    pub fn free_memory(&self) -> Result<usize, CudaError> {
        self.backend.free_memory()
    }

    /// Memory of arbitrary content.
    pub fn memory(self: &Arc<Self>, bytes: usize) -> Result<Memory, CudaError> {
        Ok(Memory::new(self.clone(), self.backend.allocate(bytes.max(1))?, bytes))
    }

    pub(crate) fn free(&self, place: Place) {
        self.backend.free(place);
    }

    /// Memory of zeros.
    pub fn zeros(self: &Arc<Self>, bytes: usize) -> Result<Memory, CudaError> {
        let memory = self.memory(bytes)?;
        self.zero(memory.place(), bytes)?;
        Ok(memory)
    }

    /// Memory with these numbers.
    pub fn uploaded<T: Plain>(self: &Arc<Self>, values: &[T]) -> Result<Memory, CudaError> {
        let memory = self.memory(size_of_val(values))?;
        self.upload(memory.place(), values)?;
        Ok(memory)
    }

    /// A copy of memory.
    pub fn copied(self: &Arc<Self>, from: &Memory) -> Result<Memory, CudaError> {
        let memory = self.memory(from.bytes())?;
        self.backend.copy(from.place(), memory.place(), from.bytes())?;
        Ok(memory)
    }

    pub fn zero(&self, place: Place, bytes: usize) -> Result<(), CudaError> {
        if bytes == 0 { Ok(()) } else { self.backend.zero(place, bytes) }
    }

    pub fn upload<T: Plain>(&self, place: Place, values: &[T]) -> Result<(), CudaError> {
        if values.is_empty() {
            return Ok(());
        }
        // SAFETY: plain numbers have no padding; the bytes are those of the slice.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
        self.backend.upload(place, bytes)
    }

    /// Fills `values` after all that was asked of the device before.
    pub fn download<T: Plain>(&self, place: Place, values: &mut [T]) -> Result<(), CudaError> {
        if values.is_empty() {
            return Ok(());
        }
        // SAFETY: plain numbers take every bit pattern; the bytes are those of the slice.
        let bytes = unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), size_of_val(values)) };
        self.backend.download(place, bytes)
    }

    /// Runs a kernel over a grid of blocks; an empty grid is none.
    pub(crate) fn launch<A: Copy>(
        &self,
        name: &'static str,
        number: Number,
        grid: [usize; 3],
        threads: u32,
        arguments: &A,
    ) -> Result<(), CudaError> {
        if grid.contains(&0) {
            return Ok(());
        }
        let kernel = Kernel { name, number };
        self.backend.launch(kernel, grid.map(|n| n as u32), threads, std::ptr::from_ref(arguments).cast(), size_of::<A>())
    }

    pub fn multiply(&self, product: &Product) -> Result<(), CudaError> {
        if product.m == 0 || product.n == 0 { Ok(()) } else { self.backend.multiply(product) }
    }
}
