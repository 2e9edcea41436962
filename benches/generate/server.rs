//! llama.cpp's server as a child process, and a client with kept-alive connections.

use crate::Run;
use crate::machine;
use crate::stages::Work;
use anyhow::{Context, Result, ensure};
use lacuna::generator::{CompletionRequest, PosteriorRequest, Prompt, Sampling};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The server; killed when dropped.
pub struct Server {
    process: Child,
    address: String,
    slots: usize,
    agent: ureq::Agent,
    /// Prompts as rendered by the server's chat template.
    rendered: Mutex<HashMap<Prompt, String>>,
}

impl Server {
    /// `command` prints a version and the server's address, and runs until its standard input is closed.
    pub fn start(command: &str, model: &Path, slots: usize, threads: usize) -> Result<Self> {
        let mut words = command.split_whitespace();
        let mut process = Command::new(words.next().context("LACUNA_BENCH_SERVER is empty")?)
            .args(words)
            .arg(model)
            .args(["--slots", &slots.to_string(), "--threads", &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {command}"))?;
        let mut line = String::new();
        let output = process.stdout.take().context("the server has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.split_whitespace().last().with_context(|| format!("{command} printed no address"))?.to_string();
        let agent = ureq::Agent::config_builder().max_idle_connections(256).max_idle_connections_per_host(256).build().into();
        Ok(Server { process, address, slots, agent, rendered: Mutex::new(HashMap::new()) })
    }

    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Serves the work with twice as many clients as slots, so that a request always waits; with one slot, one by one.
    pub fn run(&self, work: &Work) -> Result<Run> {
        let bodies = self.bodies(work)?;
        let (next, clients) = (AtomicUsize::new(0), if self.slots == 1 { 1 } else { 2 * self.slots });
        let process = self.process.id().to_string();
        let (begun, cpu) = (Instant::now(), machine::cpu_seconds(&process));
        let client = || -> Result<Vec<(usize, Value)>> {
            let mut answers = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(body) = bodies.get(i) else { return Ok(answers) };
                answers.push((i, self.post("completion", body.clone())?));
            }
        };
        let answers: Vec<(usize, Value)> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
            let answers = clients.into_iter().map(|client| client.join().expect("a client panicked")).collect::<Result<Vec<_>>>();
            answers.map(|answers| answers.into_iter().flatten().collect())
        })?;
        let mut run = summarise(&answers, work)?;
        run.seconds = begun.elapsed().as_secs_f64();
        run.cpu_seconds = machine::cpu_seconds(&process) - cpu;
        Ok(run)
    }

    fn post(&self, path: &str, body: String) -> Result<Value> {
        let url = format!("{}/{path}", self.address);
        let mut response = self.agent.post(url).content_type("application/json").send(body)?;
        Ok(serde_json::from_str(&response.body_mut().read_to_string()?)?)
    }

    fn bodies(&self, work: &Work) -> Result<Vec<String>> {
        match work {
            Work::Write(requests) => requests.iter().map(|request| Ok(write_body(request, self.render(&request.prompt)?))).collect(),
            Work::Posterior(requests) => requests.iter().map(|request| Ok(score_body(self.render(&request.prompt)?))).collect(),
        }
    }

    /// The prompt rendered with the chat template that the server finds in the model.
    fn render(&self, prompt: &Prompt) -> Result<String> {
        let mut rendered = self.rendered.lock().expect("no client panics");
        if let Some(text) = rendered.get(prompt) {
            return Ok(text.clone());
        }
        let turn = |role: &str, content: &str| json!({"role": role, "content": content});
        let messages: Vec<Value> = prompt.system.iter().map(|system| turn("system", system)).chain([turn("user", &prompt.user)]).collect();
        let answer = self.post("apply-template", json!({"messages": messages}).to_string())?;
        let text = answer["prompt"].as_str().context("the server renders no prompt")?.to_string() + &prompt.answer_start;
        rendered.insert(prompt.clone(), text.clone());
        Ok(text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // It has already ended, or cannot be stopped: nothing more can be done.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write_body(request: &CompletionRequest, prompt: String) -> String {
    let Sampling { temperature, top_p, top_k, min_p, .. } = request.sampling;
    let chosen = [("top_k", top_k > 0), ("top_p", top_p < 1.0), ("min_p", min_p > 0.0), ("temperature", true)];
    let samplers: Vec<&str> = chosen.iter().filter(|(_, used)| *used).map(|(name, _)| *name).collect();
    json!({
        "prompt": prompt, "n_predict": request.max_tokens, "stop": request.stop, "seed": request.seed as u32, "samplers": samplers,
        "temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p, "cache_prompt": true,
    })
    .to_string()
}

fn score_body(prompt: String) -> String {
    json!({"prompt": prompt, "n_predict": 1, "n_probs": 20, "temperature": 0.0, "cache_prompt": true}).to_string()
}

fn summarise(answers: &[(usize, Value)], work: &Work) -> Result<Run> {
    let number = |answer: &Value, field: &str| answer[field].as_u64().with_context(|| format!("the server answered {answer}"));
    let mut run = Run { texts: work.len(), ..Run::default() };
    if let Work::Posterior(requests) = work {
        run.log_probs = vec![Vec::new(); requests.len()];
    }
    for (i, answer) in answers {
        run.tokens += number(answer, "tokens_predicted")?;
        run.prompt_tokens += number(answer, "tokens_evaluated")?;
        if let Work::Posterior(requests) = work {
            run.log_probs[*i] = log_probs(answer, &requests[*i]);
        }
    }
    ensure!(answers.len() == work.len(), "{} answers to {} requests", answers.len(), work.len());
    Ok(run)
}

/// The words' log-probabilities, as far as the server reports them.
fn log_probs(answer: &Value, request: &PosteriorRequest) -> Vec<Option<f32>> {
    let likeliest = answer["completion_probabilities"][0]["top_logprobs"].as_array();
    let find = |word: &String| {
        let found = likeliest?.iter().find(|candidate| candidate["token"].as_str() == Some(word))?;
        found["logprob"].as_f64().map(|log_prob| log_prob as f32)
    };
    request.words.iter().map(find).collect()
}
