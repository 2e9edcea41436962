//! A GGUF language model through llama.cpp. Only this folder uses llama-cpp-2.

mod answers;
mod backend;
mod config;
mod copies;
mod crash;
mod format_trial;
mod gguf;
mod gpu;
mod guard;
mod host;
mod in_place;
mod load;
mod memory;
mod model;
mod outline;
mod placement;
mod probe;
mod raw;
mod readers;
mod refusal;
mod requantise;
mod serve;
mod shared_library;
mod tap;
mod tokenise;
mod weights;
mod workers;

#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod tests;

pub use backend::Unavailable;
pub use config::{ALL_LAYERS, Kernels, KvFormat, LlamaConfig, Settings, Wishes};
pub use format_trial::Measured;
pub use gguf::{is_gguf, parts_of};
pub use gpu::{
    BackEnd, broken as broken_back_ends, free_memory_of_gpus as gpu_memory, how_to_get_one, load_what_is_there as load_back_ends,
};
pub use host::{Device, Fit, Host};
pub use memory::{available as free_memory, largest as largest_memory};
pub use model::{Description, Llama, Stats};
pub use outline::Outline;
pub use placement::{fits_on_gpus, needs_gpu};
pub use refusal::first_part;
pub use weights::{Choice, Weights, fastest_weights, q4_0_copy};
