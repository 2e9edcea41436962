//! The operations of a small transformer, forward and backward, over packed tokens.
