//! A token cache of ten million rows: time to open, and throughput of a shuffled pass.
//!
//! Rows of 25 tokens, like a review's snippet; the file (1.2 GB) goes into the temporary folder and is in the page cache when it is
//! read. ROWS in the environment changes their number. The pass is compared with a memcpy of the same bytes, in file order and in
//! the order of the pass.

use lacuna::math::random;
use lacuna::small::token_cache::{CacheWriter, TokenCache};
use rand::seq::SliceRandom;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

const TOKENS: usize = 25;
const BATCH: usize = 32;
const PASSES: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let rows: usize = std::env::var("ROWS").ok().map_or(Ok(10_000_000), |rows| rows.parse())?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("tokens.safetensors");
    let start = Instant::now();
    let mut writer = CacheWriter::create(&path, rows, 2, 102)?;
    let mut ids = [101; TOKENS];
    for row in 0..rows {
        (1..TOKENS - 1).for_each(|i| ids[i] = 1000 + ((row * 31 + i * 7919) % 20_000) as u32);
        ids[TOKENS - 1] = 102;
        writer.push(&ids, &[0.25, 0.75])?;
    }
    writer.finish()?;
    println!("{rows} rows written in {:.1} s", start.elapsed().as_secs_f64());

    let mut seconds: Vec<f64> = (0..9).map(|_| open(&path)).collect::<Result<_, _>>()?;
    seconds.sort_by(f64::total_cmp);
    println!("open: {:.3} ms (median of 9)", 1e3 * seconds[4]);

    let cache = TokenCache::open(&path)?;
    let order: Vec<usize> = (0..rows).collect();
    let mut shuffled = order.clone();
    shuffled.shuffle(&mut random::rng(1, "order of rows", 1));
    println!("GB/s of tokens, medians of {PASSES} passes in turn:");
    for (name, order) in [("in order", &order), ("shuffled", &shuffled)] {
        let mut rates =
            (0..PASSES).map(|_| Ok((copy(&cache, order)?, pass(&cache, order)?))).collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        rates.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
        let (copied, packed) = rates[PASSES / 2];
        println!("rows {name}: memcpy {copied:.2}, batches of {BATCH} {packed:.2}, {:.0} %", 100.0 * packed / copied);
    }
    let orders = 2 * rows * size_of::<usize>();
    println!(
        "resident memory besides the mapped file and the orders of rows: {} MB",
        anonymous_memory()?.saturating_sub(orders) / 1_000_000
    );
    Ok(())
}

fn open(path: &std::path::Path) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    black_box(TokenCache::open(path)?.rows());
    Ok(start.elapsed().as_secs_f64())
}

/// GB/s of plain copies of the rows' tokens.
fn copy(cache: &TokenCache, order: &[usize]) -> Result<f64, Box<dyn Error>> {
    let (mut buffer, start) = ([0u8; 4 * TOKENS], Instant::now());
    for &row in order {
        buffer.copy_from_slice(cache.input_ids(row)?);
        black_box(&mut buffer);
    }
    Ok(rate(order, start))
}

/// GB/s of tokens through whole batches: ids, token types and targets.
fn pass(cache: &TokenCache, order: &[usize]) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    for chunk in order.chunks(BATCH) {
        black_box(cache.batch(chunk)?);
    }
    Ok(rate(order, start))
}

fn rate(order: &[usize], start: Instant) -> f64 {
    (order.len() * 4 * TOKENS) as f64 / start.elapsed().as_secs_f64() / 1e9
}

/// Anonymous memory of the process, in bytes.
fn anonymous_memory() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon in /proc/self/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<usize>()? * 1024)
}
