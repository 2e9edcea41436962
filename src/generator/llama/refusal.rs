//! Why a GGUF file cannot be a generator, in words: what else it is, what it lacks, which of its numbers no model has. Known from the
//! header, before llama.cpp reads the file.

use std::path::{Path, PathBuf};

use super::gguf::Header;

/// Which numbers of the header, after the architecture's name, lie between which bounds. llama.cpp divides by some and multiplies others,
/// and ends the process where it finds them impossible.
const BOUNDS: [(&str, u64, u64); 25] = [
    ("block_count", 1, 512),
    ("context_length", 1, i32::MAX as u64),
    ("embedding_length", 1, 1 << 20),
    ("embedding_length_out", 1, 1 << 20),
    ("feed_forward_length", 0, 1 << 24),
    ("expert_feed_forward_length", 0, 1 << 24),
    ("expert_shared_feed_forward_length", 0, 1 << 24),
    ("attention.head_count", 0, 1 << 16),
    ("attention.head_count_kv", 0, 1 << 16),
    ("attention.key_length", 1, 1 << 16),
    ("attention.value_length", 1, 1 << 16),
    ("attention.sliding_window", 0, i32::MAX as u64),
    ("rope.dimension_count", 0, 1 << 16),
    ("rope.scaling.original_context_length", 0, i32::MAX as u64),
    ("expert_count", 0, 1024),
    ("expert_used_count", 0, 1024),
    ("expert_group_count", 0, 1024),
    ("vocab_size", 0, 1 << 24),
    ("ssm.conv_kernel", 0, 1 << 10),
    ("ssm.inner_size", 0, 1 << 20),
    ("ssm.state_size", 0, 1 << 20),
    ("ssm.group_count", 0, 1 << 16),
    ("wkv.head_size", 0, 1 << 12),
    ("shortconv.l_cache", 0, 1 << 12),
    ("kda.head_dim", 0, 1 << 12),
];

/// Numbers that begin with no architecture, and their bounds.
const GENERAL: [(&str, u64, u64); 2] = [("general.alignment", 1, 1 << 20), ("general.quantization_version", 0, 1 << 10)];

/// Encoders, which read a text and write none.
const ENCODERS: [&str; 4] = ["bert", "embedding", "wavtokenizer", "t5encoder"];

/// Models that fill in a text everywhere at once.
const DIFFUSERS: [&str; 4] = ["dream", "llada", "llada-moe", "rnd1"];

/// The file to load for the one that was named: of a split model, the first part.
///
/// # Errors
/// The first part does not lie beside it, or the name does not say which it is.
pub fn first_part(named: &Path) -> Result<PathBuf, String> {
    let Ok(header) = Header::read(named) else { return Ok(named.to_path_buf()) };
    let (Some(number), Some(count)) = (header.integer("split.no"), header.integer("split.count")) else { return Ok(named.to_path_buf()) };
    if number == 0 || count < 2 {
        return Ok(named.to_path_buf());
    }
    let part = format!("is part {} of {count} of a split model", number + 1);
    let name = named.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let own = format!("-{:05}-of-{count:05}", number + 1);
    let Some(at) = name.rfind(&own) else {
        return Err(format!(
            "{part}, which its name does not say: llama.cpp finds the parts by names such as NAME-00001-of-{count:05}.gguf"
        ));
    };
    let first = named.with_file_name(format!("{}-00001-of-{count:05}{}", &name[..at], &name[at + own.len()..]));
    if first.is_file() { Ok(first) } else { Err(format!("{part}, and {} is missing", first.display())) }
}

/// The header of a file that can be a generator.
///
/// # Errors
/// As [`Header::read`]; what the file is otherwise.
pub(super) fn header_of_generator(path: &Path) -> Result<Header, String> {
    let header = Header::read(path)?;
    check(&header, path).map(|()| header)
}

/// # Errors
/// The reason why the file at `path` with this header cannot be a generator.
fn check(header: &Header, path: &Path) -> Result<(), String> {
    other_kind(header).map_or(Ok(()), Err)?;
    parts_are_there(header, path)?;
    is_whole(header, path)?;
    numbers_are_possible(header)?;
    if header.tensors == 0 && header.integer("split.count").is_none_or(|count| count < 2) {
        return Err("has a vocabulary and no weights; give the model's own GGUF".into());
    }
    has_tokenizer(header)
}

/// What the file is, where it is no language model that writes from left to right.
fn other_kind(header: &Header) -> Option<String> {
    let architecture = header.text("general.architecture").unwrap_or_default();
    let what = |what: &str| Some(format!("is {what}"));
    match header.text("general.type") {
        Some("adapter") => {
            return what("a LoRA adapter, not a model: merge it into its model (llama.cpp's llama-export-lora) and give that file");
        }
        Some("mmproj" | "projector") => {
            return what("the part of a multimodal model that sees or hears (a projector): give the language model's GGUF beside it");
        }
        Some("imatrix") => return what("an importance matrix for quantising, not a model"),
        Some("vocab") => return what("a vocabulary, not a model"),
        _ => {}
    }
    if architecture == "clip" {
        return what("the part of a multimodal model that sees or hears (a projector): give the language model's GGUF beside it");
    }
    if architecture == "controlvector" {
        return what("a control vector, not a model");
    }
    let named = if architecture.is_empty() { String::new() } else { format!(" (architecture {architecture})") };
    if architecture == "t5" {
        return Some(format!("is an encoder-decoder{named}, which lacuna does not run: give a causal language model"));
    }
    if DIFFUSERS.contains(&architecture) {
        return Some(format!("is a diffusion model{named}, which does not write from left to right: give a causal language model"));
    }
    let not_causal = header.integer(&format!("{architecture}.attention.causal")) == Some(0);
    if ENCODERS.iter().any(|name| architecture.contains(name)) || not_causal {
        return Some(format!("is an encoder{named}, which reads texts and writes none: give a causal language model"));
    }
    let heads = header.largest(&format!("{architecture}.attention.head_count"));
    if heads == Some(0) || (heads.is_none() && header.integer(&format!("{architecture}.wkv.head_size")).is_some()) {
        return Some(format!("is a recurrent model without attention{named}, which lacuna does not run: give a causal language model"));
    }
    let pooling = match header.integer(&format!("{architecture}.pooling_type"))? {
        1 => "mean",
        2 => "cls",
        3 => "last",
        4 => "rank",
        _ => return None,
    };
    Some(format!("is made for embeddings (pooling_type {pooling}), not for writing: give a causal language model"))
}

fn parts_are_there(header: &Header, path: &Path) -> Result<(), String> {
    let count = header.integer("split.count").unwrap_or(1);
    if count < 2 {
        return Ok(());
    }
    let length = std::fs::metadata(path).map_or(0, |data| data.len());
    if header.parts(path).len() < 2 {
        return Err(match header.whole.is_some_and(|whole| length > whole) {
            true => format!(
                "is {count} parts of a split model, joined: they cannot be joined by cat. Give the first part, with the others beside it"
            ),
            false => {
                format!(
                    "is the first of {count} parts of a split model, which its name does not say: name the parts NAME-00001-of-{count:05}.gguf and so on"
                )
            }
        });
    }
    let missing: Vec<String> = header.parts(path).iter().filter(|part| !part.is_file()).map(|part| part.display().to_string()).collect();
    if !missing.is_empty() {
        return Err(format!("is the first of {count} parts; missing: {}", missing.join(", ")));
    }
    for part in &header.parts(path)[1..] {
        let named = |reason| format!("{}: {reason}", part.display());
        let other = Header::read(part).map_err(named)?;
        if other.integer("split.count") != Some(count) {
            return Err(named("is no part of the same model".to_string()));
        }
        is_whole(&other, part).map_err(named)?;
    }
    Ok(())
}

fn is_whole(header: &Header, path: &Path) -> Result<(), String> {
    let length = std::fs::metadata(path).map_or(u64::MAX, |data| data.len());
    let Some(whole) = header.whole.filter(|whole| length < *whole) else { return Ok(()) };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
    let piece = ["part1of", ".part1", ".part01", ".split-aa", ".aa", ".001"].iter().find(|ending| name.contains(**ending));
    Err(match piece {
        Some(_) => format!("has {length} bytes of {whole}, and its name says that it is a piece of a file: join the pieces with cat first"),
        None => format!("is cut off: it has {length} bytes, and its header says {whole}. Fetch it again"),
    })
}

fn numbers_are_possible(header: &Header) -> Result<(), String> {
    let architecture = header.text("general.architecture").filter(|name| !name.is_empty());
    let architecture = architecture.ok_or("does not name its architecture (general.architecture); it is damaged, or no model")?;
    let of_model = BOUNDS.iter().map(|(key, least, most)| (format!("{architecture}.{key}"), *least, *most));
    let general = GENERAL.iter().map(|(key, least, most)| ((*key).to_string(), *least, *most));
    for (key, least, most) in of_model.chain(general) {
        let range = header.largest(&key).into_iter().chain(header.smallest(&key));
        if let Some(value) = range.into_iter().find(|value| !(least..=most).contains(value)) {
            return Err(format!("is damaged: {key} is {value}, and no model has that"));
        }
    }
    if header.layers().is_none() {
        return Err(format!("is damaged: {architecture}.block_count is missing"));
    }
    Ok(())
}

fn has_tokenizer(header: &Header) -> Result<(), String> {
    if header.text("tokenizer.ggml.model") == Some("rwkv") {
        return Err("has the tokenizer of RWKV, a recurrent model, which lacuna does not run: give a causal language model".into());
    }
    let none = matches!(header.text("tokenizer.ggml.model"), None | Some("none" | "no_vocab"));
    if none || header.length("tokenizer.ggml.tokens").unwrap_or(0) == 0 {
        return Err("has no tokenizer (tokenizer.ggml.model); convert the model again, with its tokenizer's files beside it".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::gguf::tests::gguf;
    use super::*;

    const LLAMA: [(&str, &str); 2] = [("general.architecture", "llama"), ("tokenizer.ggml.model", "gpt2")];

    /// What is said of a file with this header, which has no tensors.
    fn said(integers: &[(&str, u32)], texts: &[(&str, &str)]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), gguf(integers, texts, 7)).unwrap();
        check(&Header::read(file.path()).unwrap(), file.path()).unwrap_err()
    }

    #[test]
    fn files_that_are_no_language_model_are_called_what_they_are() {
        let of = |architecture: &str| said(&[], &[("general.architecture", architecture)]);
        assert!(of("bert").contains("encoder (architecture bert)") && of("nomic-bert").contains("writes none"));
        assert!(of("t5").contains("encoder-decoder") && of("t5encoder").contains("is an encoder "));
        assert!(of("clip").contains("projector") && of("llada").contains("diffusion"));
        let kind = |kind: &str| said(&[], &[("general.architecture", "llama"), ("general.type", kind)]);
        assert!(kind("adapter").contains("LoRA") && kind("mmproj").contains("projector") && kind("imatrix").contains("matrix"));
        let embeds = said(&[("llama.pooling_type", 3)], &LLAMA);
        assert!(embeds.contains("made for embeddings (pooling_type last)"), "{embeds}");
        assert!(said(&[("llama.attention.causal", 0)], &LLAMA).contains("encoder"));
        assert!(said(&[("llama.attention.head_count", 0)], &LLAMA).contains("recurrent model"));
        assert!(said(&[("llama.block_count", 2)], &LLAMA).contains("no weights"));
    }

    #[test]
    fn numbers_that_no_model_has_are_named() {
        for (key, value) in [("block_count", 0), ("block_count", u32::MAX), ("context_length", 1 << 31), ("expert_count", 5000)] {
            let key = format!("llama.{key}");
            let found = said(&[(key.as_str(), value)], &LLAMA);
            assert!(found.contains(&format!("{key} is {value}")), "{found}");
        }
        assert!(said(&[("general.alignment", 0), ("llama.block_count", 2)], &LLAMA).contains("general.alignment is 0"));
        assert!(said(&[], &LLAMA).contains("block_count is missing"));
        assert!(said(&[], &[]).contains("architecture"));
    }

    #[test]
    fn a_part_leads_to_the_first_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let part = |number: u32| gguf(&[("split.no", number), ("split.count", 2), ("llama.block_count", 1)], &LLAMA, 3);
        std::fs::write(path("m-00002-of-00002.gguf"), part(1)).unwrap();
        let second = path("m-00002-of-00002.gguf");
        assert!(first_part(&second).unwrap_err().contains("m-00001-of-00002.gguf is missing"));
        std::fs::write(path("m-00001-of-00002.gguf"), part(0)).unwrap();
        assert_eq!(first_part(&second).unwrap(), path("m-00001-of-00002.gguf"));
        assert_eq!(first_part(&path("m-00001-of-00002.gguf")).unwrap(), path("m-00001-of-00002.gguf"));
        std::fs::rename(&second, path("other.gguf")).unwrap();
        assert!(first_part(&path("other.gguf")).unwrap_err().contains("part 2 of 2"));
        let first = path("m-00001-of-00002.gguf");
        let found = check(&Header::read(&first).unwrap(), &first).unwrap_err();
        assert!(found.contains("missing: ") && found.contains("m-00002-of-00002.gguf"), "{found}");
        std::fs::write(path("one.gguf"), part(0)).unwrap();
        let found = check(&Header::read(&path("one.gguf")).unwrap(), &path("one.gguf")).unwrap_err();
        assert!(found.contains("the first of 2 parts"), "{found}");
    }
}
