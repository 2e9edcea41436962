//! Which vector instructions this CPU has, and plain loops compiled for each kind of them.

use std::sync::OnceLock;

/// The vectors that plain loops are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the build's target has.
    Portable,
    /// 256-bit vectors and fused multiply-add: Haswell, Zen and later.
    Avx2,
    /// 512-bit vectors: Skylake-X, Ice Lake, Zen 4 and later.
    Avx512,
}

/// The level of this processor; the environment variable `LACUNA_ISA` may lower it, to try another processor's: "portable", "avx2" or
/// "avx-vnni". Anything else is ignored.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let wanted = match std::env::var("LACUNA_ISA").as_deref() {
            Ok("portable") => Level::Portable,
            Ok("avx2" | "avx-vnni") => Level::Avx2,
            _ => Level::Avx512,
        };
        detected().min(wanted)
    })
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    // The set of `x86-64-v3`; ggml's CPU back end is compiled for it too.
    let v3 = avx2 && is_x86_feature_detected!("f16c") && is_x86_feature_detected!("bmi2");
    let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
    match v3 {
        true if avx512 && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") => Level::Avx512,
        true => Level::Avx2,
        false => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Level {
    Level::Portable
}

/// Whether the CPU has `vpdpwssd`.
pub(crate) fn has_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    return level() == Level::Avx512 && is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether the CPU has `vdpbf16ps`.
pub(crate) fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Compiles a function of plain loops for every [`Level`] and calls the one for this processor. What it calls is compiled with it if it is
/// `#[inline(always)]`. In the body, the constant `FMA` says whether a multiplication and an addition are one instruction.
#[macro_export]
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $of:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $of),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<const FMA: bool>($($arg: $of),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
                fn avx512($($arg: $of),*) $(-> $result)? {
                    body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c,bmi2")]
                fn avx2($($arg: $of),*) $(-> $result)? {
                    body::<true>($($arg),*)
                }
                match $crate::cpu::level() {
                    // SAFETY: the features were detected.
                    $crate::cpu::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::Level::Portable => {}
                }
            }
            body::<{ cfg!(any(target_feature = "fma", target_arch = "aarch64")) }>($($arg),*)
        }
    };
}
