//! An NVIDIA GPU through the driver's interface.

use crate::blas::Blas;
use crate::device::{Backend, Kernel, Number};
use crate::error::{CudaError, failed};
use crate::memory::Place;
use crate::product::Product;
use crate::profile;
use cudarc::driver::sys::{CUdevice_attribute, CUevent_flags, CUfunction, CUmodule};
use cudarc::driver::{CudaContext, CudaStream, result};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, PoisonError};

const PTX: [(Number, &str); 2] = [(Number::F32, include_str!("../ptx/f32.ptx")), (Number::Bf16, include_str!("../ptx/bf16.ptx"))];

/// Bytes of the host's memory that copies to the GPU go through.
const STAGING: usize = 4 << 20;

/// A GPU with its stream and the kernels on it.
pub struct Gpu {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// Loaded when first needed: the driver takes seconds to translate one, at its first time on a machine.
    modules: Mutex<HashMap<Number, Module>>,
    functions: Mutex<HashMap<Kernel, Function>>,
    /// These two are made when first needed: only who multiplies takes cublasLt's work space.
    blas: Mutex<Option<Blas>>,
    staging: Mutex<Option<Staging>>,
}

/// Gives back the memory of the two while their context is there.
impl Drop for Gpu {
    fn drop(&mut self) {
        // An error here is that of an earlier call.
        let _ = self.bind().map(|()| self.stream.synchronize());
        self.blas.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        self.staging.get_mut().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Memory of the host that the GPU can read: a copy from other memory would wait for all that runs. `taken` bytes of it may still be read.
struct Staging {
    bytes: *mut u8,
    taken: usize,
}

// SAFETY: the memory belongs to this structure alone.
unsafe impl Send for Staging {}

impl Staging {
    /// In the current context.
    fn new() -> Result<Self, CudaError> {
        // SAFETY: the memory is freed when this is dropped.
        let bytes = unsafe { result::malloc_host(STAGING, 0) }.map_err(failed("memory of the host for copies"))?;
        Ok(Staging { bytes: bytes.cast(), taken: 0 })
    }

    /// A copy of `from` that stays until `taken` is set back; none if there is no room.
    fn copy(&mut self, from: &[u8]) -> Option<&[u8]> {
        if self.taken + from.len() > STAGING {
            return None;
        }
        // SAFETY: there is room for it, and nobody reads it.
        let place = unsafe { std::slice::from_raw_parts_mut(self.bytes.add(self.taken), from.len()) };
        place.copy_from_slice(from);
        self.taken += from.len().next_multiple_of(16);
        Some(place)
    }
}

impl Drop for Staging {
    /// In the current context, when no copy runs any more.
    fn drop(&mut self) {
        // SAFETY: the memory comes from `malloc_host`. An error here is that of an earlier call.
        let _ = unsafe { result::free_host(self.bytes.cast()) };
    }
}

/// What is there, made with `make` if nothing is.
fn made<T>(there: &mut Option<T>, make: impl FnOnce() -> Result<T, CudaError>) -> Result<&mut T, CudaError> {
    let it = there.take().map_or_else(make, Ok)?;
    Ok(there.insert(it))
}

/// A module stays on the GPU until the process ends.
struct Module(CUmodule);
#[derive(Clone, Copy)]
struct Function(CUfunction);

// SAFETY: handles of the driver, which may be used by any thread with the context bound.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}
// SAFETY: as above.
unsafe impl Send for Function {}

impl Gpu {
    pub fn open(number: usize) -> Result<Self, CudaError> {
        check_libraries()?;
        let context = CudaContext::new(number).map_err(failed("the GPU cannot be opened"))?;
        check_age(&context)?;
        let stream = context.new_stream().map_err(failed("a stream cannot be made"))?;
        Ok(Gpu {
            context,
            stream,
            modules: Mutex::default(),
            functions: Mutex::default(),
            blas: Mutex::default(),
            staging: Mutex::default(),
        })
    }

    fn bind(&self) -> Result<(), CudaError> {
        self.context.bind_to_thread().map_err(failed("the GPU cannot be used by this thread"))
    }

    /// Does `work`, and times it if a profile is wanted.
    fn timed(&self, name: impl FnOnce() -> String, work: impl FnOnce() -> Result<(), CudaError>) -> Result<(), CudaError> {
        if !profile::is_on() {
            return work();
        }
        let mark = || self.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(failed("an event"));
        let start = mark()?;
        work()?;
        let ms = start.elapsed_ms(&mark()?).map_err(failed("the time of a launch"))?;
        profile::add(name(), ms.into());
        Ok(())
    }

    fn module(&self, number: Number) -> Result<CUmodule, CudaError> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(&number) {
            return Ok(module.0);
        }
        let (_, source) = PTX.iter().find(|(of, _)| *of == number).ok_or_else(|| CudaError(format!("no kernels for {number:?}")))?;
        let module = load(source)?;
        Ok(modules.entry(number).or_insert(module).0)
    }

    fn function(&self, kernel: Kernel) -> Result<CUfunction, CudaError> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(&kernel) {
            return Ok(function.0);
        }
        let module = self.module(kernel.number)?;
        let name = CString::new(kernel.name).map_err(failed("a kernel's name"))?;
        // SAFETY: the module is loaded and stays so.
        let function = unsafe { result::module::get_function(module, name) }.map_err(failed(kernel.name))?;
        functions.insert(kernel, Function(function));
        Ok(function)
    }
}

/// Whether the two libraries can be loaded: cudarc panics where they cannot. Without a driver the other one, which is large, is not tried.
fn check_libraries() -> Result<(), CudaError> {
    // SAFETY: it only loads a library.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Err(CudaError("there is no NVIDIA driver: libcuda cannot be loaded".into()));
    }
    // SAFETY: as above.
    if !unsafe { cudarc::cublaslt::sys::is_culib_present() } {
        return Err(CudaError(
            "libcublasLt cannot be loaded: install CUDA's cuBLAS, or put its folder (PyTorch has one: nvidia/cu13/lib) on LD_LIBRARY_PATH"
                .into(),
        ));
    }
    Ok(())
}

/// The kernels need bf16 in hardware, from compute capability 8.0 on.
fn check_age(context: &CudaContext) -> Result<(), CudaError> {
    let major = context
        .attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
        .map_err(failed("the GPU does not say what it can do"))?;
    if major >= 8 { Ok(()) } else { Err(CudaError(format!("the GPU is too old: compute capability {major}, and 8 is needed"))) }
}

fn load(source: &str) -> Result<Module, CudaError> {
    let source = CString::new(source).map_err(failed("the kernels' PTX"))?;
    // SAFETY: the image is a string that ends with a zero.
    let module = unsafe { result::module::load_data(source.as_ptr().cast()) };
    module.map(Module).map_err(failed("the driver does not take the kernels; it must be of version 580 or newer"))
}

impl Backend for Gpu {
    fn name(&self) -> String {
        self.context.name().unwrap_or_default()
    }

    fn free_memory(&self) -> Result<usize, CudaError> {
        self.bind()?;
        let (free, _) = result::mem_get_info().map_err(failed("the GPU does not say how much memory is free"))?;
        Ok(free)
    }

    fn allocate(&self, bytes: usize) -> Result<Place, CudaError> {
        self.bind()?;
        // SAFETY: the memory is freed by `free` alone.
        let place = unsafe { result::malloc_sync(bytes) };
        place.map(Place).map_err(|e| CudaError(format!("{} MiB of GPU memory cannot be had: {e:?}; use smaller batches", bytes >> 20)))
    }

    fn free(&self, place: Place) {
        // SAFETY: the place comes from `allocate`. The driver waits for what still runs. An error here is that of an earlier call.
        let _ = self.bind().map(|()| unsafe { result::free_sync(place.0) });
    }

    fn zero(&self, place: Place, bytes: usize) -> Result<(), CudaError> {
        self.bind()?;
        // SAFETY: whoever made the place sees to its size.
        unsafe { result::memset_d8_async(place.0, 0, bytes, self.stream.cu_stream()) }.map_err(failed("zeros on the GPU"))
    }

    fn upload(&self, place: Place, from: &[u8]) -> Result<(), CudaError> {
        self.bind()?;
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let staging = made(&mut staging, Staging::new)?;
        // SAFETY: as for `zero`. The copy stays until the stream was waited for; of other memory the driver has taken the bytes when the
        // call returns.
        unsafe { result::memcpy_htod_async(place.0, staging.copy(from).unwrap_or(from), self.stream.cu_stream()) }
            .map_err(failed("a copy to the GPU"))
    }

    fn download(&self, place: Place, to: &mut [u8]) -> Result<(), CudaError> {
        self.bind()?;
        // SAFETY: as for `zero`; the slice is not touched before the stream has been waited for.
        unsafe { result::memcpy_dtoh_async(to, place.0, self.stream.cu_stream()) }.map_err(failed("a copy from the GPU"))?;
        self.stream.synchronize().map_err(failed("the GPU failed"))?;
        // All copies from there are done.
        self.staging.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().for_each(|staging| staging.taken = 0);
        Ok(())
    }

    fn copy(&self, from: Place, to: Place, bytes: usize) -> Result<(), CudaError> {
        self.bind()?;
        // SAFETY: as for `zero`.
        unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, self.stream.cu_stream()) }.map_err(failed("a copy on the GPU"))
    }

    fn launch(&self, kernel: Kernel, grid: [u32; 3], threads: u32, arguments: *const c_void, _: usize) -> Result<(), CudaError> {
        self.bind()?;
        let (function, stream) = (self.function(kernel)?, self.stream.cu_stream());
        let (grid, block) = ((grid[0], grid[1], grid[2]), (threads, 1, 1));
        // SAFETY: the kernel takes one structure, laid out in C on both sides; its places are whoever's made them.
        let launch = || unsafe { result::launch_kernel(function, grid, block, 0, stream, &mut [arguments.cast_mut()]) };
        self.timed(|| kernel.name.into(), || launch().map_err(failed(kernel.name)))
    }

    fn multiply(&self, product: &Product) -> Result<(), CudaError> {
        self.bind()?;
        let Product { m, n, k, accumulate, .. } = product;
        let name = || format!("product ({m}, {k}) ({k}, {n}){}", if *accumulate { " added" } else { "" });
        let mut blas = self.blas.lock().unwrap_or_else(PoisonError::into_inner);
        let blas = made(&mut blas, Blas::new)?;
        self.timed(name, || blas.multiply(product, &self.stream))
    }
}
