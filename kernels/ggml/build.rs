//! Compiles the hook against the ggml headers that llama-cpp-sys-2 carries, and ggml's CPU back end once more for each kind of processor.
//!
//! llama-cpp-sys-2 compiles that back end once, for every processor of the target. On Linux it is compiled again here, with more vector
//! instructions; `variant.rs` chooses at run time. ggml can do the same with shared libraries beside the executable: lacuna is one file.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The instructions that a variant is compiled with, as the compiler calls them; `variant.rs` asks the processor for the same ones.
const VARIANTS: [(&str, &str); 2] = [
    ("haswell", "sse4.2 avx avx2 fma f16c bmi2"),
    ("icelake", "sse4.2 avx avx2 fma f16c bmi2 avx512f avx512cd avx512bw avx512dq avx512vl avx512vbmi avx512vnni"),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/hook.cpp");
    let cmake = cmake_build().unwrap_or_else(|reason| panic!("llama.cpp's build was not found: {reason}"));
    let ggml = ggml_sources(&cmake).unwrap_or_else(|reason| panic!("the vendored ggml was not found: {reason}"));
    // The one that llama-cpp-sys-2 compiled has only the hook to be added.
    compiler(&ggml, true, "portable").file("src/hook.cpp").compile("lacuna_ggml_portable");
    let target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("ARCH") == "x86_64" && target("OS") == "linux" {
        check_portable(&cmake, &target("FEATURE"));
        let sources = cpu_sources(&cmake).unwrap_or_else(|reason| panic!("the sources of ggml's CPU back end: {reason}"));
        VARIANTS.iter().for_each(|(name, features)| compile_variant(&ggml, &sources, name, features));
    }
}

/// The folder that llama.cpp was built in: llama-cpp-sys-2 says where ggml's CMake package lies.
fn cmake_build() -> Result<PathBuf, String> {
    let package = std::env::var("DEP_LLAMA_GGML_CMAKE_DIR").map_err(|_| "llama-cpp-sys-2 gave no ggml_cmake_dir".to_string())?;
    Ok(Path::new(&package).join("../../build"))
}

/// llama.cpp's own build of the CPU back end must need no instructions that rustc was not told of: it is the one for the oldest processors,
/// and starts on all.
fn check_portable(cmake: &Path, features: &str) {
    let cache = read(&cmake.join("CMakeCache.txt")).unwrap_or_else(|reason| panic!("llama.cpp's build was not found: {reason}"));
    let has = |feature: &str| features.split(',').any(|known| known == feature);
    let pairs = [("SSE42", "sse4.2"), ("AVX", "avx"), ("AVX2", "avx2"), ("FMA", "fma"), ("F16C", "f16c"), ("BMI2", "bmi2")];
    let on = |name: &str| cache.lines().any(|line| line.strip_prefix("GGML_").and_then(|line| line.strip_prefix(name)).is_some_and(is_on));
    let mut wrong: Vec<String> =
        pairs.iter().filter(|(name, feature)| on(name) && !has(feature)).map(|(name, _)| format!("GGML_{name}=OFF")).collect();
    if on("NATIVE") && !std::env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("target-cpu=native")) {
        wrong.push("GGML_NATIVE=OFF".into());
    }
    assert!(
        wrong.is_empty(),
        "llama.cpp was built with instructions that older processors lack. Build in the repository's folder, whose .cargo/config.toml \
         sets {0}, or set these in the environment; then `cargo clean -p llama-cpp-sys-2`",
        wrong.join(" ")
    );
}

/// The rest of a line of the CMake cache after an option's name.
fn is_on(rest: &str) -> bool {
    rest.starts_with(':') && rest.ends_with("=ON")
}

/// The folder of ggml's sources, which the CMake cache names.
fn ggml_sources(cmake: &Path) -> Result<PathBuf, String> {
    let cache = read(&cmake.join("CMakeCache.txt"))?;
    let home = cache.lines().find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="));
    let ggml = Path::new(home.ok_or("the CMake cache names no source tree")?).join("ggml");
    if ggml.join("src/ggml-cpu/traits.h").is_file() { Ok(ggml) } else { Err(format!("no traits.h under {}", ggml.display())) }
}

/// The files that CMake compiled into the CPU back end, and its definitions.
struct Sources {
    files: Vec<PathBuf>,
    definitions: Vec<String>,
}

/// Reads them off the commands that CMake ran.
fn cpu_sources(cmake: &Path) -> Result<Sources, String> {
    let text = read(&cmake.join("compile_commands.json"))?;
    let commands: Vec<serde_json::Value> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let field = |command: &serde_json::Value, name: &str| command[name].as_str().unwrap_or_default().to_string();
    let of_cpu = || commands.iter().filter(|command| field(command, "command").contains("ggml-cpu.dir"));
    let files: Vec<PathBuf> = of_cpu().map(|command| field(command, "file").into()).collect();
    let first = of_cpu().next().ok_or("compile_commands.json has no ggml-cpu")?;
    let definitions = field(first, "command").split_whitespace().filter_map(|word| word.strip_prefix("-D")).map(String::from).collect();
    Ok(Sources { files, definitions })
}

/// A compiler for sources that see ggml's internal headers; `name` is the variant that hook.cpp is compiled for.
fn compiler(ggml: &Path, cpp: bool, name: &str) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(cpp).std(if cpp { "c++17" } else { "c11" }).opt_level(3).warnings(false);
    build.includes(["include", "src", "src/ggml-cpu"].map(|folder| ggml.join(folder)));
    build.define("NDEBUG", None).define("LACUNA_CPU", format!("lacuna_cpu_{name}").as_str());
    build
}

/// Compiles the CPU back end and the hook with these instructions into one object whose only symbol is `lacuna_cpu_{name}`. Of functions of
/// the same name the linker takes any, inline functions of C++ too, and the program would die on an older processor.
fn compile_variant(ggml: &Path, sources: &Sources, name: &str, features: &str) {
    let folder = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it")).join(name);
    let is_cpp = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "cpp");
    let (cpp, c): (Vec<&PathBuf>, Vec<&PathBuf>) = sources.files.iter().partition(is_cpp);
    let hook = PathBuf::from("src/hook.cpp");
    let objects = [(false, c), (true, cpp.into_iter().chain([&hook]).collect())].into_iter().flat_map(|(cpp, files)| {
        let mut build = compiler(ggml, cpp, name);
        build.out_dir(&folder).pic(true).files(files).flag("-fvisibility=hidden");
        // objcopy cannot make such symbols local; clang has none.
        build.flag_if_supported("-fno-gnu-unique");
        for definition in &sources.definitions {
            let (name, value) = definition.split_once('=').map_or((definition.as_str(), None), |(name, value)| (name, Some(value)));
            build.define(name, value);
        }
        features.split(' ').for_each(|feature| _ = build.flag(format!("-m{feature}")));
        build.compile_intermediates()
    });
    let whole = folder.join("whole.o");
    run(Command::new(tool("ld")).args(["-r", "--force-group-allocation", "-o"]).arg(&whole).args(objects));
    run(Command::new(tool("objcopy")).arg(format!("--keep-global-symbol=lacuna_cpu_{name}")).arg(&whole));
    cc::Build::new().object(&whole).compile(&format!("lacuna_ggml_{name}"));
}

/// A program of the C++ compiler's binutils.
fn tool(name: &str) -> PathBuf {
    let asked = cc::Build::new().cpp(true).get_compiler().to_command().arg(format!("-print-prog-name={name}")).output();
    let path = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()).unwrap_or_default();
    if path.is_empty() { name.into() } else { path.into() }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error} (GNU binutils are needed)"));
    assert!(status.success(), "{command:?}: {status}");
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
