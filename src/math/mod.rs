//! Numerics that more than one part of lacuna needs: short vectors, and smooth convex problems.

pub mod convex;
pub mod vectors;
