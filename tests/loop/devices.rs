//! GPU back ends: what is found, what is loaded, and that a run on the CPU touches none.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::Fixture;

/// A library in the folder of back ends that is none, and leaves a file behind when it is loaded.
struct Trap {
    fixture: Fixture,
    library: PathBuf,
}

impl Trap {
    fn new() -> Trap {
        let fixture = Fixture::new();
        let folder = fixture.path("home").join("backends").join(env!("LLAMA_CPP_VERSION"));
        std::fs::create_dir_all(&folder).unwrap();
        let trap = Trap { library: folder.join("libggml-vulkan.so"), fixture };
        let source = trap.fixture.path("trap.c");
        let touch = format!("fopen({:?}, \"w\")", trap.touched().display().to_string());
        std::fs::write(&source, format!("#include <stdio.h>\n__attribute__((constructor)) static void loaded(void) {{ {touch}; }}\n"))
            .unwrap();
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&trap.library, &source]).status().unwrap();
        assert!(compiled.success());
        trap
    }

    /// The file that the library leaves.
    fn touched(&self) -> PathBuf {
        self.fixture.path("loaded")
    }
}

fn lacuna(fixture: &Fixture, arguments: &[&str]) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lacuna"));
    command.current_dir(fixture.folder.path()).args(arguments).env("LACUNA_HOME", fixture.path("home")).env("LACUNA_WEIGHTS", "as-is");
    command.env_remove("LACUNA_DEVICE").env_remove("LACUNA_GPU_LAYERS");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, said)
}

fn says(said: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(said.contains(word), "{said} should contain {word:?}"));
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(target_os = "linux")]
#[test]
fn a_back_end_is_loaded_only_where_a_gpu_may_be_used() {
    let trap = Trap::new();
    for words in [&["--device", "cpu"][..], &["--gpu-layers", "0"]] {
        lacuna(&trap.fixture, &[&["run", "task.toml"][..], words].concat());
        assert!(!trap.touched().exists(), "{words:?} has loaded a back end");
    }
    let (output, said) = lacuna(&trap.fixture, &["run", "task.toml", "--device", "cpu", "--gpu-layers", "9"]);
    assert_eq!(output.status.code(), Some(4), "{said}");
    says(&said, &["--device cpu", "--gpu-layers 9", "leave one of them out"]);
    assert!(!trap.touched().exists(), "a contradiction has loaded a back end");
    lacuna(&trap.fixture, &["run", "task.toml"]);
    assert!(trap.touched().exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_back_end_that_cannot_be_used_is_a_fault_with_its_reason() {
    let trap = Trap::new();
    let (output, said) = lacuna(&trap.fixture, &["doctor"]);
    assert_eq!(output.status.code(), Some(4), "{said}");
    says(&said, &[&shown(&trap.library), "NOT LOADED: ggml refuses it"]);
    std::fs::write(&trap.library, "no library").unwrap();
    let (_, said) = lacuna(&trap.fixture, &["doctor"]);
    says(&said, &["NOT LOADED: cannot be loaded: file too short"]);
    let (output, said) = lacuna(&trap.fixture, &["run", "task.toml", "--device", "gpu"]);
    assert_eq!(output.status.code(), Some(4), "{said}");
    says(&said, &["no GPU can be used", &shown(&trap.library), "--device cpu"]);
    std::fs::remove_file(&trap.library).unwrap();
    std::os::unix::fs::symlink(trap.fixture.path("nowhere"), &trap.library).unwrap();
    says(&lacuna(&trap.fixture, &["doctor"]).1, &["NOT LOADED: what it links to: No such file"]);
    std::fs::remove_file(&trap.library).unwrap();
    std::fs::create_dir(&trap.library).unwrap();
    says(&lacuna(&trap.fixture, &["doctor"]).1, &["NOT LOADED: a folder, not a library"]);
}

#[test]
fn without_a_back_end_the_message_says_where_one_would_be_found() {
    let fixture = Fixture::new();
    let (output, said) = lacuna(&fixture, &["doctor"]);
    assert!(output.status.success(), "{said}");
    says(&said, &["back end", &shown(&fixture.path("home").join("backends")), "scripts/cuda-backend.sh"]);
    let (output, said) = lacuna(&fixture, &["run", "task.toml", "--gpu-layers", "9"]);
    assert_eq!(output.status.code(), Some(4), "{said}");
    says(&said, &["no GPU can be used", "scripts/vulkan-backend.sh"]);
}
