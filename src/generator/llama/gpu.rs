//! GPUs: ggml's back ends for them, loaded at run time, and the devices that they bring.

use llama_cpp_2::{LlamaBackendDevice, LlamaBackendDeviceType, list_llama_ggml_backend_devices};
use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::backend::backend;
use super::shared_library::check_whole;
use crate::files::home::home;

/// The version of llama-cpp-sys-2, whose ggml a back end must be built from.
const VERSION: &str = env!("LLAMA_CPP_VERSION");
/// Back ends by the name of their library and ggml's own name, the one to prefer first: two of them may bring the same device.
const KNOWN: [(&str, &str); 4] = [("cuda", "CUDA"), ("hip", "ROCm"), ("sycl", "SYCL"), ("vulkan", "Vulkan")];

/// A back end's library that was found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackEnd {
    pub path: PathBuf,
    /// ggml's name of it, which its devices carry.
    pub(super) name: &'static str,
    /// Whether the file is there as a whole. One that is whole and cannot be loaded may be for another machine's GPU.
    pub whole: bool,
    /// Whether it was loaded; the error says why not.
    pub loaded: Result<(), String>,
}

/// Where back ends are looked for: `backends/VERSION` in `$LACUNA_HOME`, where the scripts put them, and beside the executable.
fn folders() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    home().into_iter().chain(beside).map(|folder| folder.join("backends").join(VERSION)).collect()
}

/// The folders, and how a back end gets there.
pub fn how_to_get_one() -> String {
    let folders: Vec<String> = folders().iter().map(|folder| folder.display().to_string()).collect();
    format!("{}; scripts/cuda-backend.sh and scripts/vulkan-backend.sh build one", folders.join(" or "))
}

/// Loads the back ends that are there, once per process. Until then no GPU is touched.
///
/// # Errors
/// llama.cpp cannot start.
pub fn load() -> Result<&'static [BackEnd], String> {
    static LOADED: OnceLock<Vec<BackEnd>> = OnceLock::new();
    backend()?;
    Ok(LOADED.get_or_init(|| KNOWN.iter().filter_map(|(library, name)| find_and_load(library, name)).collect()))
}

/// [`load`], if there is any: without one llama.cpp is not started.
///
/// # Errors
/// llama.cpp cannot start.
pub fn load_what_is_there() -> Result<(), String> {
    if any_is_there() { load().map(|_| ()) } else { Ok(()) }
}

/// Whether the folders have a file of any back end; loads nothing.
fn any_is_there() -> bool {
    KNOWN.iter().any(|(library, _)| find(library).is_some())
}

/// What is wrong with back ends that are there and cannot be loaded; nothing is loaded to find out what was not asked for.
pub fn broken() -> Vec<String> {
    let found = if any_is_there() { load().unwrap_or_default() } else { &[] };
    found.iter().filter_map(|own| Some(format!("{}: {}", own.path.display(), own.loaded.as_ref().err()?))).collect()
}

/// The first file of a back end in the folders.
fn find(library: &str) -> Option<PathBuf> {
    let file = format!("{}ggml-{library}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let all: Vec<PathBuf> = folders().into_iter().map(|folder| folder.join(&file)).collect();
    // A folder, or a link that leads nowhere, is told where there is nothing better.
    all.iter().find(|path| path.is_file()).or_else(|| all.iter().find(|path| path.symlink_metadata().is_ok())).cloned()
}

/// Loads a back end from the first folder that has it, unless it is compiled in.
fn find_and_load(library: &str, name: &'static str) -> Option<BackEnd> {
    let known = CString::new(name).expect("a name without a zero");
    // SAFETY: a string that ends with a zero, for a lookup.
    if unsafe { !sys::ggml_backend_reg_by_name(known.as_ptr()).is_null() } {
        return None;
    }
    let path = find(library)?;
    let whole = check_whole(&path);
    let loaded = whole.clone().and_then(|()| load_library(&path));
    match &loaded {
        Ok(()) => tracing::info!("{}: loaded", path.display()),
        Err(reason) => tracing::warn!("{}: {reason}", path.display()),
    }
    Some(BackEnd { path, name, whole: whole.is_ok(), loaded })
}

fn load_library(path: &Path) -> Result<(), String> {
    // ggml tells the linker's reason to its log alone: ask first. SAFETY: the library runs nothing but its constructors.
    let library = unsafe { open(path) }.map_err(|error| format!("cannot be loaded: {}", reason(&error, path)))?;
    let name = path.to_str().and_then(|path| CString::new(path).ok()).ok_or("its path is not UTF-8")?;
    // SAFETY: a string that ends with a zero. Of the library's version ggml knows little: its folder is that of ours.
    if unsafe { sys::ggml_backend_load(name.as_ptr()).is_null() } {
        return Err("ggml refuses it: it was built from another version, or finds no device (LACUNA_LOG=llama-cpp-2=info says more)".into());
    }
    // ggml holds it too, until the process ends.
    std::mem::forget(library);
    Ok(())
}

/// What the linker says of a library, without its path.
fn reason(error: &dyn std::error::Error, path: &Path) -> String {
    let Some(source) = error.source() else {
        let said = error.to_string();
        return said.strip_prefix(&format!("{}: ", path.display())).map(str::to_string).unwrap_or(said);
    };
    reason(source, path)
}

/// All symbols are looked for at once, so that a missing one is an error here and no abort later.
#[cfg(unix)]
unsafe fn open(path: &Path) -> Result<libloading::os::unix::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: the caller's.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
}

#[cfg(not(unix))]
unsafe fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: the caller's.
    unsafe { libloading::Library::new(path) }
}

/// The GPUs' names and free memory, in bytes; none where there is no back end for any.
pub fn free_memory_of_gpus() -> Vec<(String, u64)> {
    let described = |device: LlamaBackendDevice| (device.description, device.memory_free as u64);
    let found = if any_is_there() { gpus().unwrap_or_default() } else { Vec::new() };
    found.into_iter().map(described).collect()
}

/// The GPUs of the back ends that are compiled in or loaded: separate cards, or without one those that share the system's memory. One
/// that two back ends bring is there once.
///
/// # Errors
/// llama.cpp cannot start.
pub fn gpus() -> Result<Vec<LlamaBackendDevice>, String> {
    load()?;
    let devices = list_llama_ggml_backend_devices();
    let first_backend = |kind: LlamaBackendDeviceType| {
        // A card without any memory has refused to be used.
        let usable = |device: &&LlamaBackendDevice| device.memory_total > 0 || kind == LlamaBackendDeviceType::IntegratedGpu;
        let of_kind: Vec<&LlamaBackendDevice> = devices.iter().filter(|device| device.device_type == kind).filter(usable).collect();
        let backend = of_kind.first().map(|device| device.backend.clone());
        of_kind.into_iter().filter(|device| Some(&device.backend) == backend.as_ref()).cloned().collect::<Vec<_>>()
    };
    let cards = first_backend(LlamaBackendDeviceType::Gpu);
    Ok(if cards.is_empty() { first_backend(LlamaBackendDeviceType::IntegratedGpu) } else { cards })
}
