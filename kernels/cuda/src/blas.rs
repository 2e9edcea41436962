//! Matrix products by cublasLt; how it does one is asked once for each shape, with numbers of tokens rounded up.

use crate::device::Number;
use crate::error::{CudaError, failed};
use crate::memory::Place;
use crate::product::{Dimension, Operand, Product};
use cudarc::cublaslt::result;
use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtEpilogue_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t,
    cublasLtMatmulPreferenceAttributes_t as Preference, cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t, cudaDataType,
};
use cudarc::driver::CudaStream;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;

/// Bytes that a product may use besides its matrices.
const WORKSPACE: usize = 32 << 20;

/// cublasLt with what it said about the products seen so far.
pub struct Blas {
    handle: cublasLtHandle_t,
    workspace: u64,
    plans: HashMap<Key, Plan>,
}

// SAFETY: cublasLt's handle and descriptions may be used by any thread with the context bound, one at a time.
unsafe impl Send for Blas {}

/// What a plan depends on.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    shape: [usize; 6],
    varies: Dimension,
    transposed: [bool; 2],
    numbers: [Number; 2],
    has_bias: bool,
    accumulate: bool,
    alignment: u32,
}

/// How cublasLt does a product; kept as long as the handle. Its matrices have columns, so that it computes cᵀ = bᵀ aᵀ. The number of
/// tokens is a number of columns in all of them: it is set anew for each product.
struct Plan {
    product: cublasLtMatmulDesc_t,
    a: cublasLtMatrixLayout_t,
    b: cublasLtMatrixLayout_t,
    c: cublasLtMatrixLayout_t,
    algorithm: cublasLtMatmulAlgo_t,
}

/// A number of tokens, rounded up so that few products need a plan of their own.
fn rounded_up(tokens: usize) -> usize {
    match tokens {
        ..=128 => tokens.next_multiple_of(16),
        129..=1024 => tokens.next_multiple_of(128),
        _ => tokens.next_multiple_of(512),
    }
}

/// The product for whose shape cublasLt is asked.
fn asked(p: &Product) -> Product {
    match p.varies {
        Dimension::M => Product { m: rounded_up(p.m), ..*p },
        Dimension::K => Product { k: rounded_up(p.k), ..*p },
    }
}

impl Key {
    /// Of a product with its number of tokens rounded up.
    fn new(p: &Product) -> Self {
        let addresses = p.a.place.0 | p.b.place.0 | p.c.0 | 256;
        Key {
            shape: [p.m, p.n, p.k, p.a.stride, p.b.stride, p.c_stride],
            varies: p.varies,
            transposed: [p.a.transposed, p.b.transposed],
            numbers: [p.number, p.c_number],
            has_bias: !p.bias.is_none(),
            accumulate: p.accumulate,
            alignment: 1 << addresses.trailing_zeros(),
        }
    }
}

impl Plan {
    /// What cublasLt has for a product.
    fn new(handle: cublasLtHandle_t, p: &Product, alignment: u32) -> Result<Plan, CudaError> {
        let product = result::create_matmul_desc(cublasComputeType_t::CUBLAS_COMPUTE_32F, cudaDataType::CUDA_R_32F)
            .map_err(failed("a description"))?;
        use cublasLtMatmulDescAttributes_t as Attribute;
        describe(product, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &operation(p.b))?;
        describe(product, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &operation(p.a))?;
        if !p.bias.is_none() {
            describe(product, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS)?;
            set_bias(product, p.bias)?;
        }
        let a = layout(p.b, p.k, p.n, p.number)?;
        let b = layout(p.a, p.m, p.k, p.number)?;
        let c = layout(Operand::rows(p.c, p.c_stride), p.m, p.n, p.c_number)?;
        let preference = result::create_matmul_pref().map_err(failed("a preference"))?;
        prefer(preference, Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE)?;
        for least in [
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            prefer(preference, least, &alignment)?;
        }
        // SAFETY: all handles were made above.
        let found = unsafe { result::get_matmul_algo_heuristic(handle, product, a, b, c, c, preference) };
        // SAFETY: made above, and not used any more.
        unsafe { result::destroy_matmul_pref(preference) }.map_err(failed("a preference"))?;
        Ok(Plan { product, a, b, c, algorithm: found.map_err(failed("the heuristic"))?.algo })
    }

    fn set_tokens(&self, p: &Product) -> Result<(), CudaError> {
        match p.varies {
            Dimension::M => columns(self.b, p.m).and_then(|()| columns(self.c, p.m)),
            Dimension::K => columns(self.a, p.k).and_then(|()| columns(self.b, p.k)),
        }
    }

    /// Does a product of this shape.
    fn run(&self, (handle, workspace): (cublasLtHandle_t, u64), product: &Product, stream: &CudaStream) -> Result<(), CudaError> {
        let (one, beta) = (1.0f32, if product.accumulate { 1.0f32 } else { 0.0 });
        let pointer = |place: Place| place.0 as *mut c_void;
        // SAFETY: the plan is one for these shapes; whoever made the product sees to the sizes of its matrices.
        let done = unsafe {
            result::matmul(
                handle,
                self.product,
                std::ptr::from_ref(&one).cast(),
                std::ptr::from_ref(&beta).cast(),
                pointer(product.b.place),
                self.a,
                pointer(product.a.place),
                self.b,
                pointer(product.c),
                self.c,
                pointer(product.c),
                self.c,
                &self.algorithm,
                workspace as *mut c_void,
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        };
        done.map_err(failed("the product"))
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and not used any more. An error here is that of an earlier call.
        let _ = unsafe { result::destroy_matmul_desc(self.product) };
        for layout in [self.a, self.b, self.c] {
            // SAFETY: as above.
            let _ = unsafe { result::destroy_matrix_layout(layout) };
        }
    }
}

impl Blas {
    /// In the current context.
    pub fn new() -> Result<Self, CudaError> {
        let handle = result::create_handle().map_err(failed("cublasLt cannot be used"))?;
        let mut blas = Blas { handle, workspace: 0, plans: HashMap::new() };
        // SAFETY: freed when `blas` is dropped.
        blas.workspace = unsafe { cudarc::driver::result::malloc_sync(WORKSPACE) }.map_err(failed("GPU memory for products"))?;
        Ok(blas)
    }

    pub fn multiply(&mut self, product: &Product, stream: &CudaStream) -> Result<(), CudaError> {
        let asked = asked(product);
        let done = self.multiply_as(&asked, product, stream);
        // A way to do a somewhat larger product may not do this one: then one for its very shape is asked for.
        let exact = |error| if Key::new(&asked) == Key::new(product) { Err(error) } else { self.multiply_as(product, product, stream) };
        done.or_else(exact).map_err(|e| CudaError(format!("cublasLt cannot do {product:?}: {}", e.0)))
    }

    /// Does a product in the way that cublasLt has for `asked`, which has no fewer tokens.
    fn multiply_as(&mut self, asked: &Product, product: &Product, stream: &CudaStream) -> Result<(), CudaError> {
        let with = (self.handle, self.workspace);
        let plan = match self.plans.entry(Key::new(asked)) {
            Entry::Occupied(plan) => plan.into_mut(),
            Entry::Vacant(vacant) => {
                let plan = Plan::new(self.handle, asked, vacant.key().alignment)?;
                vacant.insert(plan)
            }
        };
        plan.set_tokens(product)?;
        if !product.bias.is_none() {
            set_bias(plan.product, product.bias)?;
        }
        plan.run(with, product, stream)
    }
}

impl Drop for Blas {
    /// In the current context, when no product runs any more.
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: made in `new`; 0 is no place. An error here is that of an earlier call.
        let _ = unsafe { cudarc::driver::result::free_sync(self.workspace) };
        // SAFETY: as above.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

fn columns(layout: cublasLtMatrixLayout_t, columns: usize) -> Result<(), CudaError> {
    let columns = columns as u64;
    let attribute = cublasLtMatrixLayoutAttribute_t::CUBLASLT_MATRIX_LAYOUT_COLS;
    // SAFETY: the attribute is a number of 64 bits.
    unsafe { result::set_matrix_layout_attribute(layout, attribute, std::ptr::from_ref(&columns).cast(), size_of::<u64>()) }
        .map_err(failed("a layout"))
}

/// CUBLAS_OP_N or CUBLAS_OP_T.
fn operation(operand: Operand) -> i32 {
    operand.transposed.into()
}

/// The layout of an operand of (rows, columns): as it lies in memory, and in cublasLt's eyes transposed.
fn layout(operand: Operand, rows: usize, columns: usize, number: Number) -> Result<cublasLtMatrixLayout_t, CudaError> {
    let (rows, columns) = if operand.transposed { (columns, rows) } else { (rows, columns) };
    let number = if number == Number::F32 { cudaDataType::CUDA_R_32F } else { cudaDataType::CUDA_R_16BF };
    result::create_matrix_layout(number, columns as u64, rows as u64, operand.stride as i64).map_err(failed("a layout"))
}

fn set_bias(product: cublasLtMatmulDesc_t, bias: Place) -> Result<(), CudaError> {
    describe(product, cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias.0)
}

fn describe<T>(product: cublasLtMatmulDesc_t, attribute: cublasLtMatmulDescAttributes_t, value: &T) -> Result<(), CudaError> {
    // SAFETY: the value is of the type that the attribute has.
    unsafe { result::set_matmul_desc_attribute(product, attribute, std::ptr::from_ref(value).cast(), size_of::<T>()) }
        .map_err(failed("a description"))
}

fn prefer<T>(preference: cudarc::cublaslt::sys::cublasLtMatmulPreference_t, attribute: Preference, value: &T) -> Result<(), CudaError> {
    // SAFETY: the value is of the type that the attribute has.
    unsafe { result::set_matmul_pref_attribute(preference, attribute, std::ptr::from_ref(value).cast(), size_of::<T>()) }
        .map_err(failed("a preference"))
}
