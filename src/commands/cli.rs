//! The command-line interface: subcommands and their arguments.

use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use serde_json::json;

use super::check::check;
use super::compare::{self, Comparison};
use super::doctor::{self, Diagnosis};
use super::estimate::estimate;
use super::incoming::Format;
use super::init::{Init, init};
use super::judge::{JudgeReport, judge};
use super::label::{Labelling, label};
use super::learning_curve::{LearningCurve, learning_curve};
use super::methods::{self, Budget};
use super::options::{DeviceChoice, Machine, Options, beside_runs, named_after, threads_in_range};
use super::pool::pool;
use super::predict::Wanted;
use super::preview::preview;
use super::provenance::put_into;
use super::review::{Review, review};
use super::run::run_task;
use super::setup::Setup;
use super::status::status;
use super::sweep::{self, Axis, Sweep};
use super::worth::Curve;
use crate::error::{Error, Result};
use crate::report::{comparison, curves, write_page};
use crate::run::progress::Progress;
use crate::run::{interrupt, live};
use crate::small::device::SmallDevice;

/// Writes training data for small classifiers, offline: a language model writes, a small model errs, the language model fills the gap.
///
/// Exit codes: 0 done, 1 generation or training failed, 2 command line, 3 task file or data, 4 model, 5 run folder, 6 reading or writing,
/// 130 stopped by Ctrl-C, 143 by SIGTERM: what resumes stops after its step, which is kept; a second Ctrl-C ends it at once.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a task of a table: a short task file, gold, test and unlabelled rows in a new folder; columns are guessed where that is clear
    Init(Init),
    /// Run the loop on a task file: writes a dataset, a trained model and a table of results; resumes where an earlier call stopped
    Run {
        /// The task file
        task: PathBuf,
        /// Run folder [default: runs/<task's name>]
        #[arg(long, env = "LACUNA_RUN")]
        run: Option<PathBuf>,
        /// Go on with a finished run, with what was decided about its rows since (lacuna review)
        #[arg(long = "continue")]
        continues: bool,
        #[command(flatten)]
        watching: Watching,
        #[command(flatten)]
        options: Options,
    },
    /// Run the loop on the built-in task: movie reviews, with 100 gold rows
    Demo {
        /// Run folder
        #[arg(long, env = "LACUNA_RUN", default_value = "runs/demo")]
        run: PathBuf,
        #[command(flatten)]
        watching: Watching,
        #[command(flatten)]
        options: Options,
    },
    /// Check a task in seconds: its file, its data and both models; lists everything that is wrong, and writes nothing
    Check {
        /// The task file
        task: PathBuf,
        #[command(flatten)]
        options: Options,
    },
    /// Look before a night's work, in under a minute: prompts, ten texts for each label with what would become of them, and how well the
    /// generator judges a few gold rows; writes nothing
    Preview {
        /// The task file
        task: PathBuf,
        #[command(flatten)]
        options: Options,
    },
    /// Say how long a run takes and how much memory it needs, from a run in the small, in a minute or two; keeps its pace for the next run
    Estimate {
        /// The task file
        task: PathBuf,
        #[command(flatten)]
        options: Options,
    },
    /// Say how far the run in a folder is, from elsewhere, without disturbing it
    Status {
        /// Run folder
        run: PathBuf,
    },
    /// Compare S3 with strong baselines on equal terms: the same steps, tokens computed and gold rows, over several draws; resumes
    Compare {
        /// The task file
        task: PathBuf,
        /// Number of draws, counted from --seed: each has its own gold rows and random seed
        #[arg(long, alias = "seeds", default_value_t = 5)]
        draws: u64,
        /// Number of gold rows; for several, separated by commas, there is a table each
        #[arg(long = "gold", value_delimiter = ',', default_values_t = [100])]
        gold: Vec<usize>,
        /// Method to include, by its name in the table; repeat --methods for several; all if absent
        #[arg(long, value_name = "METHOD", value_parser = clap::builder::PossibleValuesParser::new(methods::names()))]
        methods: Vec<String>,
        /// What methods that write are made equal in: tokens that the generator computes, or accepted rows
        #[arg(long, value_enum, default_value_t)]
        budget: Budget,
        /// Learning curve that says what accuracies are worth [default: that in runs/learning-curve-<task file's or its folder's name>]
        #[arg(long, value_name = "FILE")]
        curve: Option<PathBuf>,
        /// Folder for the runs and tables [default: runs/compare-<task file's or its folder's name>]
        #[arg(long)]
        out: Option<PathBuf>,
        /// Also put the table into this Markdown file, between the lines <!-- begin compare --> and <!-- end compare -->
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// Pool comparisons of several data sets: means with intervals over data sets, and the number of sets won
    Pool {
        /// Folders of finished comparisons, one a data set
        #[arg(required = true, num_args = 2..)]
        folders: Vec<PathBuf>,
    },
    /// Say how well the generator judges the texts of a task: by its prompt, its hidden states, and both; resumes
    Judge {
        /// The task file
        task: PathBuf,
        /// Numbers of gold rows that the judges learn from
        #[arg(long = "gold", value_delimiter = ',', default_values_t = [50, 100, 300])]
        gold: Vec<usize>,
        /// Number of draws of gold rows, counted from --seed
        #[arg(long, alias = "seeds", default_value_t = 5)]
        draws: u64,
        /// Number of test rows, drawn by label; all if there are no more
        #[arg(long, default_value_t = 1000)]
        test_rows: usize,
        /// Folder for the generator's replies and the table [default: runs/judge-<task file's or its folder's name>]
        #[arg(long)]
        out: Option<PathBuf>,
        /// Also put the table into this Markdown file, between the lines <!-- begin judge-NAME --> and <!-- end judge-NAME -->, where NAME
        /// is the task file's
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// Label the texts of a file: the generator judges them, after learning from the gold rows; writes a JSON line for each; resumes
    ///
    /// The judge is a head on the generator's hidden states together with its prompts' words; --judge prompt takes the words alone.
    Label {
        /// The task file
        task: PathBuf,
        /// Texts: JSON lines with "text" (and "text_pair"), CSV with these columns, or plain lines
        texts: PathBuf,
        /// File for the labels [default: standard output]
        #[arg(long)]
        out: Option<PathBuf>,
        /// Folder for what the generator says [default: runs/label-<task file's or its folder's name>]
        #[arg(long)]
        run: Option<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// Train the small model on more and more human labels, without a generator: what one label is worth; resumes
    LearningCurve {
        /// The task file
        task: PathBuf,
        /// Numbers of human labels; more than the gold file has are all that it has
        #[arg(long, value_delimiter = ',', default_values_t = [50, 100, 200, 300, 500, 1000, 2000, 3000, 5000, 10_000])]
        rows: Vec<usize>,
        /// Number of draws, counted from --seed: each has its own rows and random seed
        #[arg(long, alias = "seeds", default_value_t = 5)]
        draws: u64,
        /// Folder for results, table and curve [default: runs/learning-curve-<task file's or its folder's name>]
        #[arg(long)]
        out: Option<PathBuf>,
        /// Also put the table into this Markdown file, between the lines <!-- begin learning-curve --> and <!-- end learning-curve -->
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// Run the loop at several values of one setting at a time; writes a table and learning curves; resumes
    Sweep {
        /// The task file
        task: PathBuf,
        /// Setting to vary and its values: gold-rows, seed-rows, rounds, rows-per-error or rationales; can be repeated
        #[arg(long, required = true, value_name = "NAME=N,N…")]
        vary: Vec<Axis>,
        /// Number of random seeds, counted from --seed
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
        seeds: u64,
        /// Folder for the runs, table and curves [default: runs/sweep-<task file's or its folder's name>]
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// Predict texts from standard input with a trained model; writes a JSON line for each, as soon as it is there
    ///
    /// The model's folder says what it reads. A classifier reads a text a line, JSON lines with "text", or CSV or TSV with such a column,
    /// for pairs also "text_pair", and writes {"label", "probability"}, or {"labels", "probabilities"} where a text may have several:
    /// those whose probability is above the `thresholds` in config.json (0.5 without). A question answering model reads "context" and
    /// "question" and writes {"answer", "start", "score"}: start is in characters of the context, score is the probability of the
    /// answer's first token times that of its last. An "id" is written again. A bad line gets {"error", "line"} in place of an answer,
    /// and the exit code is 3.
    Predict {
        /// Model folder of a run
        model: PathBuf,
        /// How the input is written
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// The classifier is one of text pairs; for a folder that does not say so
        #[arg(long)]
        pairs: bool,
        /// Also write the texts and the logits (classifiers only)
        #[arg(long)]
        logits: bool,
        /// CPU threads; 0 for all cores
        #[arg(long, env = "LACUNA_THREADS", default_value = "0", value_name = "N", value_parser = threads_in_range)]
        threads: usize,
        /// Where the model runs: on a GPU where there is one, or on the CPU alone
        #[arg(long, env = "LACUNA_DEVICE", value_enum, default_value_t)]
        device: DeviceChoice,
        /// Device for the model, where it is not that of --device
        #[arg(long, env = "LACUNA_SMALL_DEVICE", value_enum, default_value_t)]
        small_device: SmallDevice,
    },
    /// Write the page about a finished run again, report.html in its folder: one file that opens anywhere and loads nothing
    Report {
        /// Run folder
        run: PathBuf,
    },
    /// Look at the doubtful rows of a finished run and decide about them: accept, reject, or another label; in the terminal or by CSV
    Review(Review),
    /// Check this machine: processor, memory and kernels, and whether models and data are intact and fit in memory
    Doctor {
        /// GGUF files to check besides those in the cache, and folders of small models, of which a training step is timed
        models: Vec<PathBuf>,
        /// CPU threads to run a model on; 0 for all cores
        #[arg(long, env = "LACUNA_THREADS", default_value = "0", value_name = "N", value_parser = threads_in_range)]
        threads: usize,
    },
    /// Fetch models and data by name into the cache and verify them; the only command that uses the network
    Fetch(super::fetch::FetchArgs),
}

/// How a run is watched.
#[derive(clap::Args)]
struct Watching {
    /// File for what happens, as JSON lines for programs, which are appended; "-" for standard output, which then has no table
    #[arg(long, env = "LACUNA_EVENTS", value_name = "FILE")]
    events: Option<PathBuf>,
}

impl Watching {
    /// Does the work with its events told, and prints its table.
    fn run(&self, work: impl FnOnce() -> Result<String>) -> Result<()> {
        self.events.as_deref().map_or(Ok(()), live::write_events)?;
        let table = work().inspect_err(|error| {
            live::tell("stopped", &json!({"why": error.to_string(), "exit_code": error.exit_code()}));
        })?;
        if self.events.as_deref() == Some(Path::new("-")) { Ok(()) } else { print(&table) }
    }
}

impl Command {
    /// Whether it ends well when it is asked to: a second call goes on where it stopped, or nothing is left behind.
    fn stops_well(&self) -> bool {
        use Command::{Compare, Demo, Estimate, Judge, Label, LearningCurve, Run, Sweep};
        let runs = matches!(self, Run { .. } | Demo { .. } | Compare { .. } | Sweep { .. } | Estimate { .. });
        runs || matches!(self, Judge { .. } | Label { .. } | LearningCurve { .. })
    }
}

/// A table, and where its page is.
fn with_page(table: &str, folder: &Path, page: &str) -> String {
    format!("{table}\nreport       {}\n", folder.join(page).display())
}

/// The task that `demo` runs.
const DEMO: &str = include_str!("../../tasks/movie-sentiment.toml");

/// Runs the command; its result goes to standard output.
///
/// # Errors
/// The command's error; [`Error::exit_code`] is the process's exit code.
pub fn run(cli: Cli) -> Result<()> {
    if cli.command.stops_well() {
        interrupt::listen()?;
    }
    match cli.command {
        Command::Init(args) => print(&init(&args, Progress::detect(false))?),
        Command::Run { task, run, continues, watching, options } => watching.run(|| {
            let mut setup = Setup::new(&task, &options)?.with_steps_of_a_run();
            setup.continues = continues;
            let folder = run.unwrap_or_else(|| Path::new("runs").join(&setup.task.name));
            run_task(setup, &task, &folder, options.recipe)
        }),
        Command::Demo { run, watching, options } => watching.run(|| {
            let setup = Setup::of_text(DEMO, Path::new("tasks/movie-sentiment.toml"), &options)?.with_steps_of_a_run();
            run_task(setup, Path::new("tasks/movie-sentiment.toml"), &run, options.recipe)
        }),
        Command::Check { task, options } => print(&check(&task, &options)?),
        Command::Preview { task, options } => print(&preview(&task, &options, &mut None)?),
        Command::Estimate { task, options } => print(&estimate(&task, &options, &mut None)?),
        Command::Status { run } => print(&status(&run)?),
        Command::Compare { task, draws, gold, methods, budget, curve, out, into, options } => {
            let folder = out.unwrap_or_else(|| beside_runs("compare", &task));
            let (task, options, gold, methods, curve, folder) = (&task, &options, &gold, &methods, curve.as_deref(), &folder);
            let text = compare::compare(&Comparison { task, options, draws, gold, methods, budget, curve, folder }, &mut None)?;
            into.map_or(Ok(()), |file| put_into(&file, "compare", &text))?;
            print(&with_page(&text, folder, comparison::FILE))
        }
        Command::Pool { folders } => print(&pool(&folders)?),
        Command::Judge { task, gold, draws, test_rows, out, into, options } => {
            let folder = out.unwrap_or_else(|| beside_runs("judge", &task));
            let report = JudgeReport { task: &task, options: &options, gold: &gold, draws, test_rows, folder: &folder };
            let text = judge(&report, &mut None)?;
            into.map_or(Ok(()), |file| put_into(&file, &named_after("judge", &task), &text))?;
            print(&text)
        }
        Command::Label { task, texts, out, run, options } => {
            let folder = run.unwrap_or_else(|| beside_runs("label", &task));
            let labelling = Labelling { task: &task, options: &options, texts: &texts, out: out.as_deref(), folder: &folder };
            label(&labelling, &mut None)
        }
        Command::LearningCurve { task, rows, draws, out, into, options } => {
            let folder = out.unwrap_or_else(|| Curve::place(&task));
            let text = learning_curve(&LearningCurve { task: &task, options: &options, rows: &rows, draws, folder: &folder })?;
            into.map_or(Ok(()), |file| put_into(&file, "learning-curve", &text))?;
            print(&with_page(&text, &folder, curves::LEARNING_CURVE.page))
        }
        Command::Sweep { task, vary, seeds, out, options } => {
            let folder = out.unwrap_or_else(|| beside_runs("sweep", &task));
            let sweep = Sweep { task: &task, options: &options, axes: &vary, seeds, folder: &folder };
            print(&with_page(&sweep::sweep(&sweep, &mut None)?, &folder, curves::SWEEP.page))
        }
        Command::Predict { model, format, pairs, logits, threads, device, small_device } => {
            let machine = Machine { threads, device, small_device, ..Machine::default() };
            let wanted = Wanted { threads: machine.threads(), device: machine.small_device(), format, pairs, logits };
            super::predict::predict(&model, wanted, BufReader::new(std::io::stdin()), std::io::stdout().lock())
        }
        Command::Review(args) => print(&review(&args)?),
        Command::Report { run } => print(&format!("{}\n", write_page(&run)?.display())),
        Command::Doctor { models, threads } => {
            let Diagnosis { text, faults } = doctor::examine(&models, threads)?;
            print(&text)?;
            if faults.is_empty() { Ok(()) } else { Err(Error::Model(faults.join("\n"))) }
        }
        Command::Fetch(args) => super::fetch::run(&args).map_err(|e| Error::Model(format!("{e:#}"))),
    }
}

/// Writes to standard output. A closed pipe is not an error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::io("write to", Path::new("standard output"))),
    }
}
