//! Numerics and randomness that several rooms share.

pub mod random;
