//! How much memory a model needs, known from its header before it is loaded, and how much is available.

use super::gguf::Header;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

const MIB: u64 = 1 << 20;
/// The smallest KV cache, in cells.
const LEAST_CELLS: u64 = 256;
/// Fewest sequences of a context: a request and the prefix that it builds on.
const LEAST_SEQUENCES: u64 = 2;
/// Sequences of a context with the usual settings: 32 requests and as many prefixes.
const USUAL_SEQUENCES: usize = 64;

/// A model's memory, in bytes; an upper bound if layers differ or some have no attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footprint {
    /// The weights, mapped once for all workers.
    pub(super) weights: u64,
    /// The weights of one layer, for layers on a GPU.
    pub(super) per_layer: u64,
    /// Keys and values of one KV cache cell, over all layers, in F16.
    pub(super) keys_and_values: u64,
    /// What each sequence takes in layers that are not attention but recurrent, in F32, over all layers.
    pub(super) per_sequence: u64,
    /// Activations of one token of a batch.
    pub(super) per_token: u64,
    /// Logits of one token that has an output, and the state of its sequence in one layer.
    pub(super) per_output: u64,
    /// Tokens of a batch.
    pub(super) n_batch: usize,
    /// Tokens of a batch that may have an output.
    pub(super) outputs: usize,
}

impl Footprint {
    /// Computed from the file's header, for batches of `n_batch` tokens and the usual number of sequences.
    pub(super) fn of(header: &Header, n_batch: usize) -> Self {
        let architecture = header.text("general.architecture").unwrap_or_default();
        let read = |key: &str| header.largest(&format!("{architecture}.{key}"));
        let (layers, width) = (read("block_count").unwrap_or(1), read("embedding_length").unwrap_or(0));
        let heads = read("attention.head_count").unwrap_or(1).max(1);
        let kv_heads = read("attention.head_count_kv").unwrap_or(heads);
        let head = |key: &str| read(key).unwrap_or(width / heads);
        let keys_and_values = head("attention.key_length") + head("attention.value_length");
        let vocabulary = header.length("tokenizer.ggml.tokens").unwrap_or(0);
        let feed_forward = 3 * read("feed_forward_length").unwrap_or(4 * width);
        // Each expert that a token uses has its own.
        let experts = read("expert_used_count").unwrap_or(0) * (width + 3 * read("expert_feed_forward_length").unwrap_or(0));
        let per_sequence = recurrent_state(header, architecture, layers, width);
        Footprint {
            weights: header.bytes,
            per_layer: header.bytes / (layers + 1),
            keys_and_values: layers * kv_heads * keys_and_values * 2,
            per_sequence,
            per_token: (8 * width + feed_forward.max(experts)) * 4,
            // llama.cpp has the logits in its graph and in its output buffer; a recurrent layer's graph has the states of all sequences.
            per_output: 2 * vocabulary * 4 + per_sequence / layers.max(1),
            n_batch,
            outputs: USUAL_SEQUENCES.min(n_batch),
        }
    }

    /// The same with another batch size and number of outputs.
    pub(super) fn with_batch(self, n_batch: usize, outputs: usize) -> Self {
        Footprint { n_batch, outputs, ..self }
    }

    /// Bytes of one KV cache cell and its column of the attention mask.
    pub(super) fn per_cell(&self) -> u64 {
        self.keys_and_values + 6 * self.n_batch as u64
    }

    /// Bytes of the logits and activations of one batch, per worker.
    pub(super) fn compute(&self) -> u64 {
        self.n_batch as u64 * self.per_token + self.outputs as u64 * self.per_output
    }

    /// Bytes of the contexts, without the weights.
    fn contexts(&self, workers: u64, cells: u64) -> u64 {
        workers * (self.compute() + cells * self.per_cell() + LEAST_SEQUENCES * self.per_sequence)
    }

    /// How many sequences a worker can have, with half of the memory for their recurrent states; at least two.
    pub(super) fn sequences(&self, free: u64, workers: usize) -> usize {
        let states = (spendable(free) / workers.max(1) as u64 / 2).checked_div(self.per_sequence);
        states.map_or(usize::MAX, |states| usize::try_from(states.max(LEAST_SEQUENCES)).unwrap_or(usize::MAX))
    }

    /// Bytes of the model with the smallest KV caches.
    pub(super) fn needs(&self, workers: usize) -> u64 {
        self.weights + self.contexts(workers as u64, LEAST_CELLS)
    }

    /// How many of the workers have room for the smallest KV caches beside the model; an error if not even one has.
    pub(super) fn workers_that_fit(&self, free: u64, workers: usize) -> Result<usize, String> {
        (1..=workers).rev().find(|&fewer| self.needs(fewer) <= spendable(free)).ok_or_else(|| {
            format!(
                "needs {} MiB with one thread, but {} MiB are free, of which some are kept for the rest. Use a smaller model, or one with \
                 fewer bits per weight",
                mib(self.needs(1)),
                free / MIB
            )
        })
    }

    /// Whether the layers for a GPU, and their part of the smallest KV cache, fit in its free memory.
    pub(super) fn check_gpu(&self, free: u64, layers: u32, n_layers: u64) -> Result<(), String> {
        let need = |layers: u64| layers * self.per_layer + self.contexts(1, LEAST_CELLS);
        let layers = u64::from(layers).min(n_layers + 1);
        if need(layers) <= spendable(free) {
            return Ok(());
        }
        let fit = (1..layers).rev().find(|&fewer| need(fewer) <= spendable(free)).unwrap_or(0);
        let short = format!("{layers} layers need {} MiB on the GPU, but {} MiB are free", mib(need(layers)), free / MIB);
        Err(format!("{short}. At most --gpu-layers {fit} fits"))
    }

    /// Cells of each KV cache, a multiple of 256, after the weights are loaded, with `caches` caches per worker: `wanted`, or fewer if
    /// memory is short; an error if not even the longest request fits.
    pub(super) fn cells(&self, free: u64, workers: usize, caches: usize, wanted: usize, longest: usize) -> Result<usize, String> {
        let longest = longest.next_multiple_of(LEAST_CELLS as usize) as u64;
        let wanted = wanted.next_multiple_of(LEAST_CELLS as usize).max(longest as usize);
        let affordable = |workers: u64| {
            let each = (spendable(free) / workers).saturating_sub(self.compute() + LEAST_SEQUENCES * self.per_sequence);
            each / self.per_cell().max(1) / caches as u64 / LEAST_CELLS * LEAST_CELLS
        };
        let most = affordable(workers as u64);
        if most >= longest {
            return Ok(wanted.min(usize::try_from(most).unwrap_or(usize::MAX)));
        }
        Err(format!(
            "{workers} KV caches need {} MiB for requests of {longest} tokens, but {} MiB are free. In one cache, prompt and new tokens together \
             can be {} at most",
            mib(self.contexts(workers as u64, longest * caches as u64)),
            free / MIB,
            affordable(1) * caches as u64
        ))
    }
}

/// Bytes of the states of one sequence in a model's recurrent layers, as llama.cpp computes them from its header (llama-hparams.cpp:
/// n_embd_r and n_embd_s); 0 for a model of attention alone. An upper bound where the header does not say which layers are recurrent.
fn recurrent_state(header: &Header, architecture: &str, layers: u64, width: u64) -> u64 {
    let read = |key: &str| header.largest(&format!("{architecture}.{key}"));
    let convolved = |kernel: u64, channels: u64| kernel.saturating_sub(1) * channels;
    let per_layer = if let Some(inner) = read("ssm.inner_size") {
        let (state, groups) = (read("ssm.state_size").unwrap_or(0), read("ssm.group_count").unwrap_or(0));
        convolved(read("ssm.conv_kernel").unwrap_or(0), inner + 2 * groups * state) + state * inner
    } else if let Some(head) = read("wkv.head_size") {
        2 * width + head * width
    } else if let Some(kernel) = read("shortconv.l_cache") {
        convolved(kernel, width)
    } else if let Some(head) = read("kda.head_dim") {
        let heads = read("attention.head_count").unwrap_or(1);
        3 * convolved(read("ssm.conv_kernel").unwrap_or(4), heads * head) + heads * head * head
    } else {
        0
    };
    // Layers without heads of keys and values are the recurrent ones, where that is told.
    let recurrent = header.zeros(&format!("{architecture}.attention.head_count_kv")).filter(|zeros| *zeros > 0).unwrap_or(layers);
    recurrent.saturating_mul(per_layer).saturating_mul(4)
}

/// Tells the user, once for each number, that there are fewer contexts than threads: it is shown without LACUNA_LOG.
pub(super) fn warn_of(workers: usize, wanted: usize) {
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    if TOLD.swap(workers, Ordering::Relaxed) != workers {
        tracing::warn!(target: "memory", "there is room for {workers} of {wanted} contexts of the generator: it runs on as many threads");
    }
}

/// A tenth of free memory is left to the rest of the system.
fn spendable(free: u64) -> u64 {
    free / 10 * 9
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

/// Memory available to this process, in bytes; `None` except on Linux.
pub fn available() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let free = field_in_bytes(&meminfo, "MemAvailable:")?;
    Some([cgroup_rest(), address_space_rest()].into_iter().flatten().fold(free, u64::min))
}

/// The most that this process has held so far, in bytes, files that it maps included; `None` where the system does not say.
pub fn largest() -> Option<u64> {
    field_in_bytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// What `ulimit -v` leaves to this process; `None` if it is unlimited.
#[cfg(unix)]
fn address_space_rest() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes the struct that it is given.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    known.then(|| limit.rlim_cur.saturating_sub(field_in_bytes(&status, "VmSize:").unwrap_or(0)))
}

#[cfg(not(unix))]
fn address_space_rest() -> Option<u64> {
    None
}

fn field_in_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What is left of the memory limits of this process's control groups; `None` if none is set.
fn cgroup_rest() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    rest_of(Path::new("/sys/fs/cgroup"), &groups)
}

/// The least that the limit of a group or of one above it leaves: version 2, or the memory controller of version 1. `groups` is the content
/// of /proc/self/cgroup. Inside a container the own group is the root.
fn rest_of(root: &Path, groups: &str) -> Option<u64> {
    let lines = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
    });
    let group =
        |wanted: &str| lines.clone().find(|(controllers, _)| controllers.split(',').any(|name| name == wanted)).map(|(_, path)| path);
    let v2 = Names { limit: "memory.max", used: "memory.current", prefix: "" };
    let v1 = Names { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", prefix: "total_" };
    let at = |top: PathBuf, path: Option<&str>, names: Names| {
        let own = path.map_or_else(|| top.clone(), |path| top.join(path.trim_start_matches('/')));
        let above: Vec<PathBuf> = own.ancestors().take_while(|folder| folder.starts_with(&top)).map(Path::to_path_buf).collect();
        above.into_iter().chain([top]).filter_map(|folder| rest_in(&folder, &names)).min()
    };
    at(root.to_path_buf(), group(""), v2).into_iter().chain(at(root.join("memory"), group("memory"), v1)).min()
}

/// The names of a control group's files.
struct Names {
    limit: &'static str,
    used: &'static str,
    /// Of the lines of memory.stat that count the groups below too.
    prefix: &'static str,
}

/// What the limit of one group leaves. Pages of files that no process has mapped count as used there, and are given back when they are
/// needed.
fn rest_in(folder: &Path, names: &Names) -> Option<u64> {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let (limit, used) = (number(names.limit)?, number(names.used)?);
    let stat = text("memory.stat").unwrap_or_default();
    let line = |name: &str| {
        let own = |line: &str| line.strip_prefix(names.prefix)?.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok();
        stat.lines().find_map(own).unwrap_or(0)
    };
    let mapped = if names.prefix.is_empty() { line("file_mapped") } else { line("mapped_file") };
    let cached = (line("active_file") + line("inactive_file")).saturating_sub(mapped);
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::llama::gguf::tests::{gguf, read};

    /// 1,000 MiB of weights, 64 MiB of compute buffers a worker, 256 cells in 16 MiB.
    const MODEL: Footprint = Footprint {
        weights: 1000 * MIB,
        per_layer: 100 * MIB,
        keys_and_values: MIB / 16 - 6 * 512,
        per_sequence: 0,
        per_token: MIB / 16,
        per_output: MIB / 2,
        n_batch: 512,
        outputs: 64,
    };

    /// Free memory of which this many MiB may be used.
    fn with(mebibytes: u64) -> u64 {
        (mebibytes * MIB).div_ceil(9) * 10
    }

    #[test]
    fn the_footprint_is_read_from_the_header() {
        let integers = [
            ("llama.block_count", 30),
            ("llama.embedding_length", 576),
            ("llama.attention.head_count", 9),
            ("llama.attention.head_count_kv", 3),
            ("llama.feed_forward_length", 1536),
        ];
        let bytes = gguf(&integers, &[("general.architecture", "llama")], 1000);
        let footprint = Footprint::of(&read(&bytes).unwrap(), 512);
        assert_eq!(footprint.per_cell(), 30 * 3 * (64 + 64) * 2 + 512 * 6);
        assert_eq!(footprint.compute(), 512 * 4 * (8 * 576 + 3 * 1536) + 64 * 4 * 2 * 1000);
        assert_eq!(footprint.with_batch(128, 10).compute(), 128 * 4 * (8 * 576 + 3 * 1536) + 10 * 4 * 2 * 1000);
        assert_eq!(footprint.weights, bytes.len() as u64);
    }

    #[test]
    fn recurrent_layers_limit_the_sequences() {
        let integers = [
            ("granitehybrid.block_count", 40),
            ("granitehybrid.embedding_length", 1536),
            ("granitehybrid.ssm.conv_kernel", 4),
            ("granitehybrid.ssm.inner_size", 3072),
            ("granitehybrid.ssm.state_size", 128),
            ("granitehybrid.ssm.group_count", 1),
        ];
        let bytes = gguf(&integers, &[("general.architecture", "granitehybrid")], 10);
        let footprint = Footprint::of(&read(&bytes).unwrap(), 512);
        assert_eq!(footprint.per_sequence, 40 * 4 * (3 * (3072 + 256) + 128 * 3072));
        assert_eq!(footprint.sequences(with(4 * 64 * 62), 2), 64, "of 62 MiB each, in a quarter of the memory");
        assert_eq!((footprint.sequences(0, 2), MODEL.sequences(0, 2)), (2, usize::MAX));
    }

    #[test]
    fn what_a_group_leaves_is_more_than_its_cache_lets_it_seem() {
        let root = tempfile::tempdir().unwrap();
        let write = |group: &str, files: &[(&str, &str)]| {
            let folder = root.path().join(group);
            std::fs::create_dir_all(&folder).unwrap();
            files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
        };
        let rest = |groups: &str| rest_of(root.path(), groups).map(|bytes| bytes / MIB);
        let mib = |n: u64| (n * MIB).to_string();
        assert_eq!(rest("0::/a/b\n"), None, "there is no limit");
        let stat = format!("anon {}\nactive_file {}\ninactive_file {}\nfile_mapped {}\n", mib(500), mib(2000), mib(2600), mib(100));
        write("a", &[("memory.max", &mib(8000)), ("memory.current", &mib(5100)), ("memory.stat", &stat)]);
        write("a/b", &[("memory.max", "max"), ("memory.current", &mib(3000))]);
        assert_eq!(rest("0::/a/b\n"), Some(8000 - (5100 - 4500)));
        write("", &[("memory.max", &mib(100)), ("memory.current", &mib(40))]);
        assert_eq!(rest("0::/\n"), Some(60), "a container's own group");
        let old = format!("total_active_file {}\ntotal_inactive_file 0\ntotal_mapped_file 0\n", mib(10));
        write("memory/job", &[("memory.limit_in_bytes", &mib(50)), ("memory.usage_in_bytes", &mib(30)), ("memory.stat", &old)]);
        assert_eq!(rest("5:cpu,memory:/job\n1:name=systemd:/x\n"), Some(30));
    }

    #[test]
    fn as_many_workers_as_memory_holds() {
        assert_eq!(MODEL.workers_that_fit(with(1000 + 4 * 80), 4), Ok(4));
        assert_eq!(MODEL.workers_that_fit(with(1000 + 2 * 80), 4), Ok(2));
        let error = MODEL.workers_that_fit(with(900), 4).unwrap_err();
        assert!(error.contains("1080 MiB") && error.contains("smaller model"), "{error}");
    }

    #[test]
    fn a_gpu_says_how_many_layers_fit() {
        assert_eq!(MODEL.check_gpu(with(80 + 900), 99, 8), Ok(()));
        let error = MODEL.check_gpu(with(80 + 350), 99, 8).unwrap_err();
        assert!(error.contains("9 layers need 980 MiB") && error.contains("--gpu-layers 3"), "{error}");
        assert!(MODEL.check_gpu(with(10), 2, 8).unwrap_err().contains("--gpu-layers 0"));
    }

    #[test]
    fn a_cache_is_as_large_as_wanted_or_as_memory_allows() {
        assert_eq!(MODEL.cells(with(10_000), 2, 1, 257, 100), Ok(512));
        assert_eq!(MODEL.cells(with(64 + 4 * 2 * 16), 1, 4, 9_999, 100), Ok(512), "four caches share");
        assert_eq!(MODEL.cells(with(2 * (64 + 3 * 16)), 2, 1, 9_999, 700), Ok(768));
        let error = MODEL.cells(with(2 * (64 + 3 * 16)), 2, 1, 9_999, 1000).unwrap_err();
        assert!(error.contains("requests of 1024 tokens"), "{error}");
        let error = MODEL.cells(with(64 + 3 * 16), 2, 1, 9_999, 1000).unwrap_err();
        assert!(error.contains("can be 768 at most"), "{error}");
        let error = MODEL.cells(with(64 + 4 * 16), 1, 4, 9_999, 500).unwrap_err();
        assert!(error.contains("can be 1024 at most"), "four caches of 256 are one of 1024: {error}");
    }

    #[test]
    fn meminfo_is_in_kibibytes() {
        let meminfo = "MemTotal:       24000000 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(field_in_bytes(meminfo, "MemAvailable:"), Some(2 << 20));
        assert_eq!(field_in_bytes(meminfo, "MemFree:"), None);
    }
}
