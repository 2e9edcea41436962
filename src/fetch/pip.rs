//! Downloads a package with the machine's own pip, which knows the local mirrors, proxies and certificates.
//!
//! No code of a package is run. A wheel needs none. For a source archive pip insists on asking the package's build backend for
//! its metadata, which would run its `setup.py` after downloading setuptools; so a stand-in backend, put before setuptools on
//! PYTHONPATH, answers with the name and version that were asked for (PEP 517, `prepare_metadata_for_build_wheel`).
//! Reading the package index ourselves would ignore pip's configuration.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::SourceError;

const STAND_IN_BACKEND: &str = include_str!("sdist_backend.py");

/// Downloads one wheel or source archive of exactly this version into an empty folder; returns its path.
pub fn download(python: &OsStr, package: &str, version: &str, sdist: bool, folder: &Path) -> Result<PathBuf, SourceError> {
    let archives = folder.join("archives");
    let mut pip = Command::new(python);
    // `python -m` looks for modules in the working folder first: a `pip.py` that lies there must not be run.
    pip.env("PYTHONSAFEPATH", "1");
    if Path::new(python).components().count() == 1 {
        pip.current_dir(folder);
    }
    // pip keeps no copy of its own: the files lie in our cache.
    pip.args(["-m", "pip", "download", "--no-deps", "--no-input", "--no-cache-dir", "--disable-pip-version-check", "--dest"])
        .arg(&archives);
    if sdist {
        let backend = folder.join("backend");
        fs::create_dir_all(backend.join("setuptools"))?;
        fs::write(backend.join("setuptools/__init__.py"), "")?;
        fs::write(backend.join("setuptools/build_meta.py"), STAND_IN_BACKEND)?;
        pip.args(["--no-binary", ":all:", "--no-build-isolation"]);
        // As an environment variable, because pip ignores those it no longer knows.
        pip.env("PYTHONPATH", &backend).env("PIP_USE_PEP517", "1");
        pip.env("LACUNA_SDIST_NAME", package).env("LACUNA_SDIST_VERSION", version);
    } else {
        pip.args(["--only-binary", ":all:"]);
    }
    pip.arg(format!("{package}=={version}"));
    run(python, &mut pip)?;
    let mut found = fs::read_dir(&archives)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    match (found.pop(), found.len()) {
        (Some(path), 0) => Ok(path),
        (_, others) => {
            let stderr = format!("it left {} files, expected one", others);
            Err(SourceError::Pip { command: written(&pip), stderr })
        }
    }
}

fn run(python: &OsStr, pip: &mut Command) -> Result<(), SourceError> {
    let python = python.to_string_lossy().into_owned();
    let output = match pip.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(SourceError::NoPython(python)),
        output => output?,
    };
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_string();
    match output.status.success() {
        true => Ok(()),
        false if stderr.contains("No module named pip") => Err(SourceError::NoPip(python)),
        false if stderr.is_empty() => Err(SourceError::Pip { command: written(pip), stderr: output.status.to_string() }),
        false => Err(SourceError::Pip { command: written(pip), stderr }),
    }
}

fn written(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
