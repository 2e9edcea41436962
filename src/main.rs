//! The `lacuna` command.

use std::process::ExitCode;

use clap::Parser;
use lacuna::commands::cli::{Cli, run};

fn main() -> ExitCode {
    let logs = tracing_subscriber::EnvFilter::try_from_env("LACUNA_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(logs).with_writer(std::io::stderr).init();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lacuna: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
