//! Which file of a crate imports which: an arrow for each `use` and each path that begins with `crate`, `super` or a child module.
//!
//! Tests within a file do not count. A module that re-exports its own descendants (`pub use`) is a door, not a room: an import
//! through it is an arrow to the file behind it.

mod graph;
mod paths;

pub use graph::Graph;
