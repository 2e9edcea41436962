//! Lets GPU back ends that are loaded at run time find ggml in this executable, and names the version that they must be built from.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.toml");
    println!("cargo:rustc-env=LLAMA_CPP_VERSION={}", llama_cpp_version());
    // macOS exports every symbol anyway, and has Metal compiled in.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=ggml_*,--export-dynamic-symbol=gguf_*");
    }
}

/// The exact version of llama-cpp-sys-2 in Cargo.toml.
fn llama_cpp_version() -> String {
    let manifest = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("Cargo.toml");
    let text = std::fs::read_to_string(manifest).expect("Cargo.toml can be read");
    let line = text.lines().find(|line| line.starts_with("llama-cpp-sys-2 = ")).expect("Cargo.toml names llama-cpp-sys-2");
    let version = line.split_once("\"=").and_then(|(_, rest)| rest.split_once('"'));
    version.expect("llama-cpp-sys-2 has an exact version").0.to_string()
}
