use lacuna::generator::{llama::*, *};
use std::io::Read;
fn main() {
    // stdin: blocks separated by "\n====\n": first line json {"n":..,"t":..,"min_p":..,"top_p":..,"start":..,"stop":[..],"max":..}, rest user
    let mut s = String::new();
    std::io::stdin().read_to_string(&mut s).unwrap();
    let mut l = Llama::load(LlamaConfig { threads: 2, ..LlamaConfig::new(std::env::args().nth(1).unwrap()) }).unwrap();
    for b in s.split("\n====\n") {
        let (h, u) = b.split_once('\n').unwrap();
        let h: serde_json::Value = serde_json::from_str(h).unwrap();
        let n = h["n"].as_u64().unwrap();
        let sampling = Sampling {
            temperature: h["t"].as_f64().unwrap_or(1.0) as f32,
            top_p: h["top_p"].as_f64().unwrap_or(1.0) as f32,
            top_k: 0,
            min_p: h["min_p"].as_f64().unwrap_or(0.0) as f32,
        };
        let stop: Vec<String> = h["stop"]
            .as_array()
            .map(|a| a.iter().map(|x| x.as_str().unwrap().to_string()).collect())
            .unwrap_or(vec!["\"".into(), "\n".into()]);
        let reqs: Vec<_> = (0..n)
            .map(|id| CompletionRequest {
                id,
                prompt: Prompt { system: None, user: u.trim().to_string(), answer_start: h["start"].as_str().unwrap_or("").to_string() },
                sampling,
                seed: id * 7919 + 5,
                max_tokens: h["max"].as_u64().unwrap_or(60) as u32,
                stop: stop.clone(),
            })
            .collect();
        println!("\n### {h}\n### {}", u.trim().replace('\n', " / "));
        let t = std::time::Instant::now();
        l.complete(&reqs, &mut |c| {
            println!("- {}", c.text.trim());
            Ok(())
        })
        .unwrap();
        println!("  ({:.1} texts/s)", n as f64 / t.elapsed().as_secs_f64());
    }
}
