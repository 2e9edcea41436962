//! Models and gold data by name: the registry, the cache, verification and downloads. The only room that may open a socket.

#[cfg(feature = "hub")]
mod archive;
#[cfg(feature = "hub")]
mod bring;
pub mod cache;
pub mod convert;
pub mod error;
pub mod event;
pub mod fetcher;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "hub")]
mod parts;
#[cfg(feature = "hub")]
mod pip;
#[cfg(feature = "hub")]
mod receive;
pub mod registry;
pub mod shared_cache;
pub mod source;
