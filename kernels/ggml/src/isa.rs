//! Which vector instructions the kernels may use on this machine.

#[cfg(target_arch = "x86_64")]
use lacuna_kernels::cpu::{Level, level};

/// An instruction set that there are kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// 512-bit vectors with 8-bit dot products: Ice Lake, Zen 4 and later.
    Avx512Vnni,
    /// 256-bit vectors with 8-bit dot products: Alder Lake and later.
    AvxVnni,
    /// 256-bit vectors: Haswell, Zen and later.
    Avx2,
}

impl Isa {
    /// From the fastest.
    pub const ALL: [Isa; 3] = [Isa::Avx512Vnni, Isa::AvxVnni, Isa::Avx2];

    /// Every instruction set that this machine has, the fastest first.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The fastest that this machine has; `LACUNA_ISA` may name a slower one, to try it ("portable": none of them).
    pub fn best() -> Option<Isa> {
        let wanted = std::env::var("LACUNA_ISA").ok();
        let slower = Isa::ALL.into_iter().find(|isa| wanted.as_deref() == Some(isa.name()));
        Isa::available().into_iter().find(|&isa| slower.is_none_or(|slower| slower == isa))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512Vnni => "avx512-vnni",
            Isa::AvxVnni => "avx-vnni",
            Isa::Avx2 => "avx2",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        match self {
            Isa::Avx512Vnni => level() == Level::Avx512 && is_x86_feature_detected!("avx512vnni"),
            Isa::AvxVnni => level() >= Level::Avx2 && is_x86_feature_detected!("avxvnni"),
            Isa::Avx2 => level() >= Level::Avx2,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        false
    }
}
