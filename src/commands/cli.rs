//! The commands, as a person types them.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use super::compare::{self, Comparison};
use super::doctor::{self, Diagnosis};
use super::options::{Machine, Options};
use super::predict::Wanted;
use super::report;
use super::setup::Setup;
use super::sweep::{self, Axis, Sweep};
use crate::error::{Error, Result};
use crate::run::summary::Method;

/// Writes training data for small classifiers, offline: a language model writes, a small model errs, the language model fills the gap.
///
/// Exit codes: 0 done, 1 failed on the way, 2 command line, 3 task file or data, 4 model, 5 run folder, 6 reading or writing.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The loop: from a task file to a dataset, a trained model and a table; goes on where an earlier call stopped
    Run {
        /// The task file
        task: PathBuf,
        /// The run's folder [default: runs/<task's name>]
        #[arg(long, env = "LACUNA_RUN")]
        run: Option<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// The loop on the task that ships: movie reviews, with 100 gold rows
    Demo {
        /// The run's folder
        #[arg(long, env = "LACUNA_RUN", default_value = "runs/demo")]
        run: PathBuf,
        #[command(flatten)]
        options: Options,
    },
    /// S3 against gold only, logistic regression, ZeroGen, seed only and GoldGen, at equal synthetic rows, over several seeds; resumes
    Compare {
        /// The task file
        task: PathBuf,
        /// How many seeds, counted from --seed
        #[arg(long, default_value_t = 3)]
        seeds: u64,
        /// Gold rows to give; several, separated by commas, make a table each
        #[arg(long = "gold", value_delimiter = ',', default_values_t = [100])]
        gold: Vec<usize>,
        /// Rows of the table, by their names, each with a --methods of its own; all if absent
        #[arg(long, value_name = "METHOD", value_parser = clap::builder::PossibleValuesParser::new(compare::method_names()))]
        methods: Vec<String>,
        /// Where its runs and tables go [default: runs/compare-<task file's name>]
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// The loop at several values of one thing at a time: a table and its curves; resumes
    Sweep {
        /// The task file
        task: PathBuf,
        /// What to vary, and its values: gold-rows, seed-rows, rounds, rows-per-error or rationales; may be given again
        #[arg(long, required = true, value_name = "NAME=N,N…")]
        vary: Vec<Axis>,
        /// How many seeds, counted from --seed
        #[arg(long, default_value_t = 1)]
        seeds: u64,
        /// Where its runs, table and curves go [default: runs/sweep-<task file's name>]
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// A trained model on lines from standard input; a JSON line for each
    ///
    /// A classifier reads a text a line and writes {"label", "probability"}. A model that answers questions (its config.json says
    /// which it is) reads JSON lines {"context", "question"} and writes {"answer", "start", "score"}: start counts characters of the
    /// context, score is the probability of the answer's first token times that of its last.
    Predict {
        /// A run's model folder
        model: PathBuf,
        /// For a classifier of pairs: lines are JSON, {"text", "text_pair"}
        #[arg(long)]
        pairs: bool,
        /// Also the texts and the logits, of a classifier
        #[arg(long)]
        logits: bool,
        #[command(flatten)]
        machine: Machine,
    },
    /// What this machine has, which kernels run, and whether models and data are whole and fit
    Doctor {
        /// GGUF files to look at besides those in the cache
        models: Vec<PathBuf>,
        /// CPU threads that a model is to run on; 0 for all cores
        #[arg(long, env = "LACUNA_THREADS", default_value_t = 0, value_name = "N")]
        threads: usize,
    },
    /// Models and data by name, into the cache, checked; the only command that uses a network
    Fetch(super::fetch::FetchArgs),
}

/// The task that `demo` runs.
const DEMO: &str = include_str!("../../tasks/movie-sentiment.toml");

/// Does what the command line says; the result goes to standard output.
///
/// # Errors
/// Whatever the command runs into; [`Error::exit_code`] is the process's.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run { task, run, options } => {
            let setup = Setup::new(&task, &options)?;
            let folder = run.unwrap_or_else(|| Path::new("runs").join(&setup.task.name));
            run_task(&setup, &folder)
        }
        Command::Demo { run, options } => run_task(&Setup::of_text(DEMO, Path::new("tasks/movie-sentiment.toml"), &options)?, &run),
        Command::Compare { task, seeds, gold, methods, out, options } => {
            let folder = out.unwrap_or_else(|| beside_runs("compare", &task));
            let (task, options, gold, methods, folder) = (&task, &options, &gold, &methods, &folder);
            print(&compare::compare(&Comparison { task, options, seeds, gold, methods, folder }, &mut None)?)
        }
        Command::Sweep { task, vary, seeds, out, options } => {
            let folder = out.unwrap_or_else(|| beside_runs("sweep", &task));
            let sweep = Sweep { task: &task, options: &options, axes: &vary, seeds, folder: &folder };
            print(&sweep::sweep(&sweep, &mut None)?)
        }
        Command::Predict { model, pairs, logits, machine } => {
            let wanted = Wanted { threads: machine.threads(), device: machine.small_device, pairs, logits };
            super::predict::predict(&model, wanted, std::io::stdin().lock(), std::io::stdout().lock())
        }
        Command::Doctor { models, threads } => {
            let Diagnosis { text, faults } = doctor::examine(&models, threads)?;
            print(&text)?;
            if faults.is_empty() { Ok(()) } else { Err(Error::Model(faults.join("\n"))) }
        }
        Command::Fetch(args) => super::fetch::run(&args).map_err(|e| Error::Model(format!("{e:#}"))),
    }
}

/// Where the runs of a command on many go if nobody says.
fn beside_runs(command: &str, task: &Path) -> PathBuf {
    let stem = task.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Path::new("runs").join(format!("{command}-{stem}"))
}

fn run_task(setup: &Setup, folder: &Path) -> Result<()> {
    let methods = [Method::GoldOnly, Method::Seed, Method::S3, Method::S3Gold];
    let delivery = setup.run(folder, &methods, &mut None)?;
    print(&report::of_run(&delivery, folder))
}

/// To standard output; nobody reading any more is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::io("write to", Path::new("standard output"))),
    }
}
