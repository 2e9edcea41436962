//! How long data take: opening a pool of gold rows and drawing from it, and verifying texts against gold rows and each other. Prints a line
//! of JSON for each: `cargo bench --bench data`.

use std::io::Write;
use std::time::Instant;

use anyhow::{Result, ensure};
use lacuna::data::gold_file::GoldFile;
use lacuna::data::labels::Labels;
use lacuna::data::overlap::Tested;
use lacuna::data::read::Rules;
use lacuna::generator::Finish;
use lacuna::synthesis::verify::{Prompted, Style, Verifier};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// Words in a text, and different words.
const WORDS: usize = 14;
const VOCABULARY: usize = 5000;
const GOLD: usize = 500;

fn main() -> Result<()> {
    for rows in [100_000, 1_000_000] {
        open(rows)?;
    }
    for rows in [10_000, 100_000] {
        verify(rows)?;
    }
    Ok(())
}

fn text(rng: &mut ChaCha8Rng) -> String {
    // Small numbers are frequent, as frequent words are.
    let word = |rng: &mut ChaCha8Rng| format!("w{}", (rng.random::<f64>().powi(3) * VOCABULARY as f64) as usize);
    (0..WORDS).map(|_| word(rng)).collect::<Vec<_>>().join(" ")
}

fn open(rows: usize) -> Result<()> {
    let (folder, mut rng) = (tempfile::tempdir()?, ChaCha8Rng::seed_from_u64(1));
    let path = folder.path().join("gold.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    for i in 0..rows {
        writeln!(file, "{}", json!({"text": format!("{} {i}", text(&mut rng)), "label": if i % 2 == 0 { "a" } else { "b" }}))?;
    }
    file.into_inner()?;
    let head = Labels { names: vec!["a".into(), "b".into()], pairs: false };
    let clock = Instant::now();
    let gold = GoldFile::open(&path, &head, Rules::default(), &Tested::default(), &|_| ())?;
    let opened = clock.elapsed().as_secs_f64();
    let drawn = gold.sample(300, 1)?;
    ensure!(drawn.len() == 300 && gold.len() == rows);
    println!("{}", json!({"what": "open a pool, draw 300", "rows": rows, "open": opened, "seconds": clock.elapsed().as_secs_f64()}));
    Ok(())
}

fn verify(rows: usize) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let gold: Vec<String> = (0..GOLD).map(|_| text(&mut rng)).collect();
    let texts: Vec<String> = (0..rows).map(|_| text(&mut rng)).collect();
    let clock = Instant::now();
    let of_gold = || gold.iter().map(String::as_str);
    let mut verifier = Verifier::new(of_gold(), Style::of(None, of_gold(), &["positive".into()]));
    let prompted = Prompted { label: Some("positive"), ..Prompted::default() };
    let accepted = texts.iter().filter(|text| verifier.accept(text, Finish::Stop, &prompted).is_ok()).count();
    println!("{}", json!({"what": "verify texts", "rows": rows, "accepted": accepted, "seconds": clock.elapsed().as_secs_f64()}));
    Ok(())
}
