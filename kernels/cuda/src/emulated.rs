//! The host in the place of a GPU: the same kernels, one thread after the other. For tests.

use crate::device::{Backend, Kernel, Number};
use crate::error::CudaError;
use crate::memory::Place;
use crate::product::{Operand, Product};
use std::alloc::{Layout, alloc, dealloc};
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::{Mutex, PoisonError};

/// The host.
pub struct Emulated;

/// The kernels share their fibers and their shared memory.
static RUNNING: Mutex<()> = Mutex::new(());

/// Memory begins with its size, this many bytes before the place.
const HEADER: usize = 256;

#[repr(C)]
struct Table {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn lacuna_emulated_f32() -> *const Table;
    fn lacuna_emulated_bf16() -> *const Table;
    fn lacuna_emulated_reverse(on: c_int);
    fn lacuna_emulated_launch(
        table: *const Table,
        name: *const c_char,
        grid: *const u32,
        threads: u32,
        arguments: *const c_void,
        size: u32,
    ) -> c_int;
}

/// In which order the threads of a block take turns: a kernel that lacks a barrier gives other results in another order.
pub fn reverse_threads(on: bool) {
    let _alone = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: no kernel runs.
    unsafe { lacuna_emulated_reverse(on.into()) };
}

fn layout(bytes: usize) -> Result<Layout, CudaError> {
    Layout::from_size_align(HEADER + bytes, HEADER).map_err(|e| CudaError(e.to_string()))
}

impl Backend for Emulated {
    fn name(&self) -> String {
        "emulated".into()
    }

    fn is_emulated(&self) -> bool {
        true
    }

    /// As if it had no end.
    fn free_memory(&self) -> Result<usize, CudaError> {
        Ok(1 << 40)
    }

    fn allocate(&self, bytes: usize) -> Result<Place, CudaError> {
        // SAFETY: the layout is not empty. Bits of NaN show what is read before it is written.
        unsafe {
            let start = alloc(layout(bytes)?);
            start.write_bytes(0xff, HEADER + bytes);
            start.cast::<usize>().write(bytes);
            Ok(Place(start.add(HEADER) as u64))
        }
    }

    fn free(&self, place: Place) {
        // SAFETY: the place comes from `allocate`, which left the size before it.
        unsafe {
            let start = (place.0 as *mut u8).sub(HEADER);
            if let Ok(layout) = layout(start.cast::<usize>().read()) {
                dealloc(start, layout);
            }
        }
    }

    fn zero(&self, place: Place, bytes: usize) -> Result<(), CudaError> {
        // SAFETY: whoever made the place sees to its size.
        unsafe { (place.0 as *mut u8).write_bytes(0, bytes) };
        Ok(())
    }

    fn upload(&self, place: Place, from: &[u8]) -> Result<(), CudaError> {
        // SAFETY: as for `zero`.
        unsafe { (place.0 as *mut u8).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        Ok(())
    }

    fn download(&self, place: Place, to: &mut [u8]) -> Result<(), CudaError> {
        // SAFETY: as for `zero`.
        unsafe { (place.0 as *const u8).copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn copy(&self, from: Place, to: Place, bytes: usize) -> Result<(), CudaError> {
        // SAFETY: as for `zero`; two memories do not overlap.
        unsafe { (from.0 as *const u8).copy_to_nonoverlapping(to.0 as *mut u8, bytes) };
        Ok(())
    }

    fn launch(&self, kernel: Kernel, grid: [u32; 3], threads: u32, arguments: *const c_void, size: usize) -> Result<(), CudaError> {
        let _alone = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let name = CString::new(kernel.name).map_err(|e| CudaError(e.to_string()))?;
        // SAFETY: the arguments are of the size that the kernel expects, or it does not run; their places are whoever's made them.
        let status = unsafe {
            let table = if kernel.number == Number::F32 { lacuna_emulated_f32() } else { lacuna_emulated_bf16() };
            lacuna_emulated_launch(table, name.as_ptr(), grid.as_ptr(), threads, arguments, size as u32)
        };
        match status {
            0 => Ok(()),
            1 => Err(CudaError(format!("there is no kernel `{}`", kernel.name))),
            2 => Err(CudaError(format!("the arguments of `{}` have another size than {size} bytes", kernel.name))),
            _ => Err(CudaError(format!("`{}` cannot run with {threads} threads", kernel.name))),
        }
    }

    fn multiply(&self, p: &Product) -> Result<(), CudaError> {
        let a = read(p.a, p.m, p.k, p.number);
        let b = read(p.b, p.k, p.n, p.number);
        for i in 0..p.m {
            let mut row = vec![0.0; p.n];
            for (a, b) in a[i * p.k..][..p.k].iter().zip(b.chunks_exact(p.n)) {
                row.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
            }
            for (j, &sum) in row.iter().enumerate() {
                let at = p.c.numbers(i * p.c_stride + j, p.c_number);
                let bias = if p.bias.is_none() { 0.0 } else { get(p.bias.numbers(j, p.number), p.number) };
                let before = if p.accumulate { get(at, p.c_number) } else { 0.0 };
                put(at, p.c_number, sum + bias + before);
            }
        }
        Ok(())
    }
}

/// The operand's (rows, columns) numbers.
fn read(operand: Operand, rows: usize, columns: usize, number: Number) -> Vec<f32> {
    let offset = |i: usize, j: usize| if operand.transposed { j * operand.stride + i } else { i * operand.stride + j };
    (0..rows * columns).map(|i| get(operand.place.numbers(offset(i / columns, i % columns), number), number)).collect()
}

fn get(place: Place, number: Number) -> f32 {
    // SAFETY: whoever made the product sees to the sizes of its matrices.
    unsafe {
        match number {
            Number::F32 => (place.0 as *const f32).read(),
            Number::Bf16 => f32::from_bits(u32::from((place.0 as *const u16).read()) << 16),
        }
    }
}

fn put(place: Place, number: Number, x: f32) {
    let bits = x.to_bits();
    // SAFETY: as for `get`.
    unsafe {
        match number {
            Number::F32 => (place.0 as *mut f32).write(x),
            Number::Bf16 if x.is_nan() => (place.0 as *mut u16).write((bits >> 16 | 0x40) as u16),
            Number::Bf16 => (place.0 as *mut u16).write((bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16),
        }
    }
}
