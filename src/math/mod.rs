//! Numerics and randomness that several rooms share.

pub mod convex;
pub mod random;
pub mod vectors;
