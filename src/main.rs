//! The `lacuna` command.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use lacuna::commands::cli::{Cli, run};
use lacuna::commands::processor::missing;
use lacuna::last_words::catch_aborts;

/// What is logged without LACUNA_LOG: our errors say what llama.cpp's lines would. Whoever has too little memory should know.
const QUIET: &str = "error,memory=warn,llama-cpp-2=off";

fn main() -> ExitCode {
    catch_aborts();
    let missing = missing();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        say(&format!(
            "lacuna: this binary was built for another processor: {missing} missing here. Build it on this machine, or with RUSTFLAGS=\"\" for any"
        ));
        return ExitCode::FAILURE;
    }
    let logs = tracing_subscriber::EnvFilter::try_from_env("LACUNA_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(QUIET));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(logs).with_writer(std::io::stderr).with_ansi(ansi).log_internal_errors(false).init();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("lacuna: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Writes to standard error, if it can be written to.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
