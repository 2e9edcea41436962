//! Files on disk: written whole, mapped, hashed. Knows nothing of what is in them.

pub mod content;
pub mod home;
pub mod kept_sum;
pub mod lock;
pub mod sha256;
pub mod whole;
