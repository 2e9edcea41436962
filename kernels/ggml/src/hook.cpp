// The one place that sees ggml's internal C++ classes: an "extra buffer type" of its CPU backend that hands weights, products and
// attention to the functions of hook.rs. What it decides is written there.
//
// It is compiled with every variant of the CPU backend (see build.rs) and belongs to that one: LACUNA_CPU names what it offers.

#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "traits.h"

static_assert(GGML_BACKEND_API_VERSION == 3, "ggml's backend structs changed: compare hook.cpp with ggml-backend-impl.h");

extern "C" {

// Mirrors `Callbacks` of callbacks.rs.
struct lacuna_callbacks {
    // Whether a weight may be packed into our buffers; asked while a model loads.
    bool (*weight_supported)(const ggml_tensor * weight);
    // Bytes of a packed weight.
    size_t (*packed_size)(const ggml_tensor * weight);
    // Packs a whole weight from ggml's layout into weight->data.
    void (*pack)(ggml_tensor * weight, const void * data);
    // Bytes of scratch for an operation; false leaves it to ggml.
    bool (*work_size)(ggml_tensor * op, int n_threads, size_t * size);
    // One thread's part of an operation; false leaves it to ggml.
    bool (*compute)(ggml_tensor * op, int ith, int nth, void * wdata, size_t wsize, ggml_threadpool * threadpool);
};

// Mirrors `Functions` of variant.rs.
struct lacuna_cpu {
    ggml_backend_reg_t (*registration)();
    ggml_status (*compute)(ggml_context * context, ggml_cgraph * graph, int n_threads);
    void (*install)(const lacuna_callbacks * callbacks);
    void (*barrier)(ggml_threadpool * threadpool);
};

extern const lacuna_cpu LACUNA_CPU;
}

namespace {

lacuna_callbacks rust;

ggml_backend_buffer_type * packed_type();

bool is_packed(const ggml_tensor * tensor) {
    return tensor && tensor->buffer && tensor->buffer->buft == packed_type();
}

struct traits : ggml::cpu::tensor_traits {
    bool work_size(int n_threads, const ggml_tensor * op, size_t & size) override {
        return rust.work_size(const_cast<ggml_tensor *>(op), n_threads, &size);
    }
    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        return rust.compute(op, params->ith, params->nth, params->wdata, params->wsize, params->threadpool);
    }
};

struct extra : ggml::cpu::extra_buffer_type {
    traits kernels;

    // Asked for every operation with one of our weights: a product with F32 activations in host memory, nothing else.
    bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) override {
        const ggml_tensor * x = op->src[1];
        return op->op == GGML_OP_MUL_MAT && is_packed(op->src[0]) && !op->src[0]->view_src && x->type == GGML_TYPE_F32 &&
               (!x->buffer || ggml_backend_buft_is_host(x->buffer->buft)) && rust.weight_supported(op->src[0]);
    }
    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * op) override {
        const bool ours = op->op == GGML_OP_FLASH_ATTN_EXT || (op->op == GGML_OP_MUL_MAT && is_packed(op->src[0]));
        return ours ? &kernels : nullptr;
    }
};

void set_tensor(ggml_backend_buffer_t, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    GGML_ASSERT(offset == 0 && size == ggml_nbytes(tensor) && "a packed weight is written whole");
    rust.pack(tensor, data);
}

const char * name(ggml_backend_buffer_type_t) {
    return "CPU_LACUNA";
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    if (buffer) {
        buffer->buft             = type;
        buffer->iface.set_tensor = set_tensor;
        buffer->iface.get_tensor = nullptr;
        buffer->iface.cpy_tensor = nullptr;
    }
    return buffer;
}

size_t alignment(ggml_backend_buffer_type_t) {
    return 64;
}

size_t alloc_size(ggml_backend_buffer_type_t, const ggml_tensor * tensor) {
    return rust.packed_size(tensor);
}

ggml_backend_buffer_type * packed_type() {
    static extra                    kernels;
    static ggml_backend_buffer_type type = [] {
        ggml_backend_buffer_type t = {};
        t.iface.get_name       = name;
        t.iface.alloc_buffer   = alloc_buffer;
        t.iface.get_alignment  = alignment;
        t.iface.get_alloc_size = alloc_size;
        t.device               = ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
        t.context              = static_cast<ggml::cpu::extra_buffer_type *>(&kernels);
        return t;
    }();
    return &type;
}

// Puts our buffer type first, so that the loader prefers it to ggml's own repacking. The loader copies the list at its first use:
// call this once, before any model is loaded.
void install(const lacuna_callbacks * callbacks) {
    rust       = *callbacks;
    auto & all = ggml_backend_cpu_get_extra_buffer_types();
    all.insert(all.begin(), packed_type());
}

}  // namespace

const lacuna_cpu LACUNA_CPU = { ggml_backend_cpu_reg, ggml_graph_compute_with_ctx, install, ggml_barrier };
