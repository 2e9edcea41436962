//! Files on disk: written whole, mapped, hashed. Knows nothing of what is in them.

pub mod home;
pub mod lines;
pub mod sha256;
pub mod whole;
