//! Encoded, labelled texts in one safetensors file that is mapped, never read whole.
//!
//! Tensors: `input_ids` (tokens) u32, `cu_seqlens` (rows + 1) u64, `labels` (rows, labels) f32, each row summing to 1. Token types follow
//! from the first `[SEP]`, whose id is in the metadata. Opening reads the header alone; a row is checked when it is looked at. The file is
//! written in one pass with memory for some thousand texts: the header, whose room is reserved, comes last.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use lacuna_kernels::prefetch;
use lacuna_models::{Encoded, PackedBatch, TextEncoder};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::json;

use crate::error::{Error, Result};
use crate::files::content;

/// One row on its way into the cache.
pub struct CacheRow<'a> {
    pub text: &'a str,
    pub text_pair: Option<&'a str>,
    /// Probabilities of the labels, summing to 1.
    pub target: &'a [f32],
}

/// A mapped token cache.
pub struct TokenCache {
    path: PathBuf,
    map: Mmap,
    input_ids: Range<usize>,
    cu_seqlens: Range<usize>,
    labels: Range<usize>,
    rows: usize,
    labels_per_row: usize,
    sep: u32,
}

/// Rows of a cache as a batch to learn from.
#[derive(Debug, Default, PartialEq)]
pub struct LabelledBatch {
    pub batch: PackedBatch,
    /// (rows, labels)
    pub targets: Vec<f32>,
}

/// Bytes reserved for the header, its length included: a multiple of 8, so that all tensors are aligned.
const HEADER: usize = 1024;
/// Bytes that come from memory together.
const CACHE_LINE: usize = 64;
/// Texts that a thread encodes before their tokens are written.
const TEXTS_PER_THREAD: usize = 512;
/// Texts that are worth another thread.
const LEAST_TEXTS: usize = 16;

/// Where the tensors of a cache of so many rows lie, in bytes after the header; `input_ids` begin at the end of the last.
struct Places {
    cu_seqlens: Range<usize>,
    labels: Range<usize>,
}

impl Places {
    fn new(rows: usize, labels: usize) -> Self {
        let cu_seqlens = 0..8 * (rows + 1);
        let labels = cu_seqlens.end..cu_seqlens.end + 4 * rows * labels;
        Places { cu_seqlens, labels }
    }

    fn header(&self, rows: usize, labels: usize, tokens: usize, sep: u32) -> String {
        let offsets = |range: &Range<usize>| json!([range.start, range.end]);
        let ids = self.labels.end..self.labels.end + 4 * tokens;
        json!({
            "__metadata__": {"sep_token_id": sep.to_string()},
            "cu_seqlens": {"dtype": "U64", "shape": [rows + 1], "data_offsets": offsets(&self.cu_seqlens)},
            "labels": {"dtype": "F32", "shape": [rows, labels], "data_offsets": offsets(&self.labels)},
            "input_ids": {"dtype": "U32", "shape": [tokens], "data_offsets": offsets(&ids)},
        })
        .to_string()
    }
}

/// A cache in the making.
pub struct CacheWriter {
    path: PathBuf,
    /// How many rows and labels there will be.
    rows: usize,
    labels: usize,
    sep: u32,
    written: usize,
    tokens: u64,
    cu_seqlens: BufWriter<File>,
    targets: BufWriter<File>,
    input_ids: BufWriter<File>,
}

impl CacheWriter {
    /// Begins a cache of so many rows, with targets of `labels` probabilities; `sep` is the id that ends
    /// the first text, see [`TextEncoder::first_text_ends`].
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, rows: usize, labels: usize, sep: u32) -> Result<Self> {
        File::create(path).map_err(Error::io("write", path))?;
        let places = Places::new(rows, labels);
        // One tensor's part of the file, written from its beginning.
        let section = |start: usize| -> Result<BufWriter<File>> {
            let mut file = File::options().write(true).open(path).map_err(Error::io("write", path))?;
            file.seek(SeekFrom::Start((HEADER + start) as u64)).map_err(Error::io("write", path))?;
            Ok(BufWriter::with_capacity(1 << 18, file))
        };
        let (cu_seqlens, targets) = (section(places.cu_seqlens.start)?, section(places.labels.start)?);
        let input_ids = section(places.labels.end)?;
        let path = path.to_path_buf();
        let mut writer = CacheWriter { path, rows, labels, sep, written: 0, tokens: 0, cu_seqlens, targets, input_ids };
        writer.cu_seqlens.write_all(&0u64.to_le_bytes()).map_err(Error::io("write", &writer.path))?;
        Ok(writer)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// Writing.
    pub fn push(&mut self, input_ids: &[u32], target: &[f32]) -> Result<()> {
        assert!(self.written < self.rows && target.len() == self.labels, "row {} of {}, {} labels", self.written, self.rows, target.len());
        self.written += 1;
        self.tokens += input_ids.len() as u64;
        let mut write = || -> std::io::Result<()> {
            self.cu_seqlens.write_all(&self.tokens.to_le_bytes())?;
            target.iter().try_for_each(|t| self.targets.write_all(&t.to_le_bytes()))?;
            input_ids.iter().try_for_each(|id| self.input_ids.write_all(&id.to_le_bytes()))
        };
        write().map_err(Error::io("write", &self.path))
    }

    /// Writes the header: only now is the file a cache.
    ///
    /// # Errors
    /// Writing.
    pub fn finish(mut self) -> Result<()> {
        assert_eq!(self.written, self.rows, "rows of a token cache");
        let json = Places::new(self.rows, self.labels).header(self.rows, self.labels, self.tokens as usize, self.sep);
        // Spaces after the header are part of it.
        let line = format!("{json:<width$}", width = HEADER - 8);
        let mut finish = || -> std::io::Result<()> {
            [&mut self.targets, &mut self.input_ids].into_iter().try_for_each(|section| section.flush())?;
            self.cu_seqlens.seek(SeekFrom::Start(0))?;
            self.cu_seqlens.write_all(&((HEADER - 8) as u64).to_le_bytes())?;
            self.cu_seqlens.write_all(line.as_bytes())?;
            self.cu_seqlens.flush()
        };
        finish().map_err(Error::io("write", &self.path))
    }
}

impl TokenCache {
    /// Encodes `rows`, of which there are `count`, into `path`, on the threads of the current rayon pool; `labels` is the length of
    /// each target.
    ///
    /// # Errors
    /// Writing; a text that cannot be encoded.
    pub fn write<'a>(
        path: &Path,
        encoder: &TextEncoder,
        (count, labels): (usize, usize),
        rows: impl IntoIterator<Item = CacheRow<'a>>,
        max_tokens: usize,
    ) -> Result<()> {
        let (mut writer, mut rows) = (CacheWriter::create(path, count, labels, encoder.first_text_ends())?, rows.into_iter());
        loop {
            let wave: Vec<CacheRow> = rows.by_ref().take(TEXTS_PER_THREAD * rayon::current_num_threads()).collect();
            if wave.is_empty() {
                return writer.finish();
            }
            for (row, encoded) in wave.iter().zip(encode(encoder, &wave, max_tokens)?) {
                writer.push(&encoded.input_ids, row.target)?;
            }
        }
    }

    /// Maps a cache that [`TokenCache::write`] made.
    ///
    /// # Errors
    /// The file cannot be mapped, or is not a whole token cache.
    pub fn open(path: &Path) -> Result<Self> {
        let map = content::map(path)?;
        let damaged = |reason: String| Error::Failed(format!("{}: not a whole token cache: {reason}", path.display()));
        let (length, header) = SafeTensors::read_metadata(&map).map_err(|e| damaged(e.to_string()))?;
        let tensors: HashMap<String, _> = header.tensors().into_iter().collect();
        let place = |name: &str, dtype: Dtype, dimensions: usize| {
            let info = tensors.get(name).filter(|t| t.dtype == dtype && t.shape.len() == dimensions);
            let info = info.ok_or_else(|| damaged(format!("no `{name}` of {dtype:?}")))?;
            let (start, end) = info.data_offsets;
            let range = 8 + length + start..8 + length + end;
            if range.end <= map.len() { Ok((range, info.shape.clone())) } else { Err(damaged(format!("`{name}` is cut off"))) }
        };
        let (input_ids, _) = place("input_ids", Dtype::U32, 1)?;
        let (cu_seqlens, boundaries) = place("cu_seqlens", Dtype::U64, 1)?;
        let (labels, shape) = place("labels", Dtype::F32, 2)?;
        if boundaries[0] != shape[0] + 1 {
            return Err(damaged(format!("{} boundaries, {} labels", boundaries[0], shape[0])));
        }
        let sep = header.metadata().as_ref().and_then(|m| m.get("sep_token_id")).and_then(|id| id.parse().ok());
        let sep = sep.ok_or_else(|| damaged("no sep_token_id".into()))?;
        let (rows, labels_per_row) = (shape[0], shape[1]);
        Ok(TokenCache { path: path.to_path_buf(), map, input_ids, cu_seqlens, labels, rows, labels_per_row, sep })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of tokens of all rows.
    pub fn tokens(&self) -> usize {
        self.input_ids.len() / 4
    }

    /// Packs some rows.
    ///
    /// # Errors
    /// Boundaries that make no sense: a damaged file.
    pub fn batch(&self, rows: &[usize]) -> Result<LabelledBatch> {
        let labels = &self.map[self.labels.clone()];
        let labels_of = |row: usize| &labels[4 * row * self.labels_per_row..][..4 * self.labels_per_row];
        // Shuffled rows are far from each other: all of them are asked for before the first one is read, so that they come together.
        for &row in rows {
            prefetch::now(&self.map[self.cu_seqlens.start + 8 * row]);
            prefetch::now(labels_of(row).as_ptr());
        }
        let ids: Vec<&[u8]> = rows.iter().map(|&row| self.input_ids(row)).collect::<Result<_>>()?;
        ids.iter().for_each(|ids| ids.iter().step_by(CACHE_LINE).chain(ids.last()).for_each(|byte| prefetch::now(byte)));

        let tokens = ids.iter().map(|ids| ids.len() / 4).sum();
        let mut batch = PackedBatch {
            input_ids: Vec::with_capacity(tokens),
            token_type_ids: vec![0; tokens],
            cu_seqlens: Vec::with_capacity(rows.len() + 1),
        };
        let mut targets = Vec::with_capacity(rows.len() * self.labels_per_row);
        batch.cu_seqlens.push(0);
        for (&row, ids) in rows.iter().zip(ids) {
            let start = batch.input_ids.len();
            batch.input_ids.extend(ids.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)));
            batch.token_type_ids[start + self.first_text(&batch.input_ids[start..])..batch.input_ids.len()].fill(1);
            batch.cu_seqlens.push(batch.input_ids.len() as u32);
            targets.extend(floats(labels_of(row)));
        }
        Ok(LabelledBatch { batch, targets })
    }

    /// How many of a row's tokens belong to its first text: up to the first `[SEP]`, which most rows have at their end alone.
    fn first_text(&self, ids: &[u32]) -> usize {
        match ids {
            [before @ .., last] if *last == self.sep && !before.contains(last) => ids.len(),
            _ => ids.iter().position(|&id| id == self.sep).map_or(ids.len(), |i| i + 1),
        }
    }

    /// The bytes of a row's tokens.
    pub fn input_ids(&self, row: usize) -> Result<&[u8]> {
        let (boundaries, ids) = (&self.map[self.cu_seqlens.clone()], &self.map[self.input_ids.clone()]);
        let boundary = |i: usize| boundaries[8 * i..].first_chunk().map_or(usize::MAX, |b| u64::from_le_bytes(*b) as usize);
        let (start, end) = (boundary(row), boundary(row + 1));
        let found = (start <= end).then(|| ids.get(start.checked_mul(4)?..end.checked_mul(4)?)).flatten();
        found.ok_or_else(|| Error::Failed(format!("{}: damaged: row {row} goes from token {start} to {end}", self.path.display())))
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))
}

/// The tokens of every row, in order.
fn encode(encoder: &TextEncoder, rows: &[CacheRow], max_tokens: usize) -> Result<Vec<Encoded>> {
    let one = |row: &CacheRow| encoder.encode(row.text, row.text_pair, max_tokens).map_err(|e| Error::Failed(e.to_string()));
    rows.par_iter().with_min_len(LEAST_TEXTS).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A word-piece tokenizer of a few words.
    fn encoder() -> TextEncoder {
        let folder = tempfile::tempdir().unwrap();
        let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"];
        let vocab: serde_json::Map<_, _> = tokens.iter().enumerate().map(|(i, t)| (t.to_string(), json!(i))).collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab},
        });
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        TextEncoder::load(folder.path()).unwrap()
    }

    fn write(path: &Path, rows: &[(String, Option<String>, [f32; 2])], threads: usize) {
        let cache_rows = rows.iter().map(|(text, pair, target)| CacheRow { text, text_pair: pair.as_deref(), target });
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| TokenCache::write(path, &encoder(), (rows.len(), 2), cache_rows, 16)).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Any rows, in any order and over any number of threads, are the batch that encoding them one by one gives.
        #[test]
        fn gives_back_what_was_encoded(
            rows in prop::collection::vec(("(good|bad|film|x)( (good|bad|film)){0,9}", prop::option::of("(good|bad)( film){0,3}"), 0f32..1.0), 1..40),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..9),
            threads in 1usize..4,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tokens.safetensors");
            let rows: Vec<_> = rows.into_iter().map(|(text, pair, p)| (text, pair, [p, 1.0 - p])).collect();
            write(&path, &rows, threads);
            let cache = TokenCache::open(&path).unwrap();
            prop_assert_eq!(cache.rows(), rows.len());
            let picks: Vec<usize> = picks.iter().map(|pick| pick.index(rows.len())).collect();
            let found = cache.batch(&picks).unwrap();
            let encoder = encoder();
            let encoded: Vec<_> = picks.iter().map(|&i| encoder.encode(&rows[i].0, rows[i].1.as_deref(), 16).unwrap()).collect();
            prop_assert_eq!(found.batch, PackedBatch::from_rows(&encoded.iter().collect::<Vec<_>>()));
            prop_assert_eq!(found.targets, picks.iter().flat_map(|&i| rows[i].2).collect::<Vec<_>>());
            // Any reader of safetensors opens it.
            let bytes = std::fs::read(&path).unwrap();
            prop_assert_eq!(SafeTensors::deserialize(&bytes).unwrap().len(), 3);
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.safetensors");
        write(&path, &[("good film".into(), None, [1.0, 0.0]), ("bad".into(), None, [0.0, 1.0])], 1);
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 7, 500, HEADER, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = TokenCache::open(&path).err().unwrap().to_string();
            assert!(error.contains("not a whole token cache"), "{length}: {error}");
        }
        let mut turned = whole.clone();
        turned[HEADER + 8] = 200;
        std::fs::write(&path, &turned).unwrap();
        let cache = TokenCache::open(&path).unwrap();
        for rows in [[0], [1]] {
            assert!(cache.batch(&rows).unwrap_err().to_string().contains("damaged: row"), "{rows:?}");
        }
    }
}
