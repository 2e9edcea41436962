//! The error of kernels that cannot be used.

use std::fmt;

/// Why our kernels cannot be used; ggml's own are used instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// There are no kernels for this processor.
    Processor,
    /// A kernel's result differed from ggml's.
    SelfTest(String),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Unavailable::Processor => match std::env::var("LACUNA_ISA").as_deref() {
                Ok("portable") => write!(f, "LACUNA_ISA is \"portable\""),
                _ => write!(f, "no kernels for this processor"),
            },
            Unavailable::SelfTest(found) => write!(f, "the self-test failed: {found}"),
        }
    }
}

impl std::error::Error for Unavailable {}
