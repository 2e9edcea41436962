//! Compiles the hook against the ggml headers that llama-cpp-sys-2 carries.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=src/hook.cpp");
    let ggml = vendored_ggml().unwrap_or_else(|reason| panic!("the vendored ggml headers were not found: {reason}"));
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("src/hook.cpp")
        .includes(["include", "src", "src/ggml-cpu"].map(|folder| ggml.join(folder)))
        .warnings(false)
        .compile("lacuna_ggml_hook");
}

/// llama-cpp-sys-2 says where ggml's CMake package lies; the CMake cache of the same build names the source tree.
fn vendored_ggml() -> Result<PathBuf, String> {
    let package = std::env::var("DEP_LLAMA_GGML_CMAKE_DIR").map_err(|_| "llama-cpp-sys-2 gave no ggml_cmake_dir".to_string())?;
    let cache = Path::new(&package).join("../../build/CMakeCache.txt");
    let text = std::fs::read_to_string(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let home = text.lines().find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="));
    let ggml = Path::new(home.ok_or("the CMake cache names no source tree")?).join("ggml");
    if ggml.join("src/ggml-cpu/traits.h").is_file() { Ok(ggml) } else { Err(format!("no traits.h under {}", ggml.display())) }
}
