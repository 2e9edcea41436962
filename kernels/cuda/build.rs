//! Compiles the kernels for the host, for the feature `emulated`.

fn main() {
    println!("cargo:rerun-if-changed=cu");
    #[cfg(feature = "emulated")]
    compile();
}

#[cfg(feature = "emulated")]
fn compile() {
    // longjmp between the stacks of fibers looks like an attack to _FORTIFY_SOURCE.
    let build = || {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").opt_level(2).warnings(false).flag("-U_FORTIFY_SOURCE");
        build
    };
    for (number, name) in [("BF16", "lacuna_emulated_bf16"), ("FLOAT", "lacuna_emulated_f32")] {
        build().file("cu/host.cpp").define("NUMBER", number).compile(name);
    }
    build().file("cu/emulator.cpp").compile("lacuna_emulator");
}
