//! How much memory a KV cache takes and how much there is.

use llama_cpp_2::model::LlamaModel;

/// Bytes of one KV cell: keys and values of all layers in F16. An upper bound where layers differ or some have no attention.
pub(super) fn bytes_per_cell(model: &LlamaModel, architecture: &str) -> u64 {
    let head_dim = model.n_embd().max(0) as u64 / u64::from(model.n_head().max(1));
    let read = |key: &str| model.meta_val_str(&format!("{architecture}.attention.{key}")).ok()?.parse::<u64>().ok();
    let per_head = read("key_length").unwrap_or(head_dim) + read("value_length").unwrap_or(head_dim);
    u64::from(model.n_layer()) * u64::from(model.n_head_kv()) * per_head * 2
}

/// Bytes that this process may still take; `None` where the system does not say (only Linux does).
pub(super) fn available() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let free = field_in_bytes(&meminfo, "MemAvailable:")?;
    Some(cgroup_rest().map_or(free, |rest| rest.min(free)))
}

fn field_in_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What a container's limit (cgroup v2) leaves.
fn cgroup_rest() -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_in_kibibytes() {
        let meminfo = "MemTotal:       24000000 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(field_in_bytes(meminfo, "MemAvailable:"), Some(2 << 20));
        assert_eq!(field_in_bytes(meminfo, "MemFree:"), None);
    }
}
