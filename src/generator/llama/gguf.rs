//! Looks at a GGUF file before llama.cpp does, so that a wrong path or a damaged file gives a message.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Says why the file cannot be a GGUF model; checks the header only.
pub(super) fn check_file(path: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| format!("cannot be opened: {error}. Check the path, or fetch the model with `lacuna fetch`"))?;
    if metadata.is_dir() {
        return Err("is a folder; give the path of the .gguf file in it".into());
    }
    if path.to_str().is_none() {
        return Err("has a name that is not valid UTF-8, which llama.cpp cannot open; rename it".into());
    }
    let mut header = [0u8; 8];
    let mut file = File::open(path).map_err(|error| format!("cannot be opened: {error}. Check the file's permissions"))?;
    file.read_exact(&mut header).map_err(|_| "is too short for a GGUF model; it was probably cut off, fetch it again".to_string())?;
    let version = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    match (&header[..4], version) {
        (b"GGUF", 2..=3) => Ok(()),
        (b"GGUF", _) => Err(format!("is GGUF version {version}; 2 and 3 can be read. Convert the model again")),
        _ => Err("is not a GGUF file; give a model in llama.cpp's format (a name that ends in .gguf)".into()),
    }
}

/// What `general.file_type` calls the weights (llama.h, `llama_ftype`).
pub(super) fn quantisation_name(file_type: &str) -> String {
    let name = match file_type {
        "0" => "F32",
        "1" => "F16",
        "2" => "Q4_0",
        "3" => "Q4_1",
        "7" => "Q8_0",
        "8" => "Q5_0",
        "9" => "Q5_1",
        "10" => "Q2_K",
        "11" => "Q3_K_S",
        "12" => "Q3_K_M",
        "13" => "Q3_K_L",
        "14" => "Q4_K_S",
        "15" => "Q4_K_M",
        "16" => "Q5_K_S",
        "17" => "Q5_K_M",
        "18" => "Q6_K",
        "25" => "IQ4_NL",
        "30" => "IQ4_XS",
        "32" => "BF16",
        other => return format!("file type {other}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_model_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            check_file(&path)
        };
        assert!(check_file(folder.path()).unwrap_err().contains("folder"));
        assert!(check_file(&folder.path().join("none.gguf")).unwrap_err().contains("cannot be opened"));
        assert!(write("empty.gguf", b"").unwrap_err().contains("too short"));
        assert!(write("page.gguf", b"<!doctype html>").unwrap_err().contains("not a GGUF"));
        assert!(write("old.gguf", b"GGUF\x01\0\0\0").unwrap_err().contains("version 1"));
        assert_eq!(write("good.gguf", b"GGUF\x03\0\0\0"), Ok(()));
    }
}
