//! Which vector instructions the kernels may use on this machine.

/// An instruction set that there are kernels for, from the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// 512-bit vectors with 8-bit dot products: Ice Lake, Zen 4 and later servers.
    Avx512Vnni,
}

impl Isa {
    /// Every instruction set that this machine has, the fastest first.
    pub fn available() -> Vec<Isa> {
        [Isa::Avx512Vnni].into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// What it is called by people.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512Vnni => "AVX-512 VNNI",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        match self {
            Isa::Avx512Vnni => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        false
    }
}
