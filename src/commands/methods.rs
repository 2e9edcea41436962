//! The methods of a comparison. A method that writes is a variant of the task: its name and what it reads of the gold rows follow from it.

use crate::baselines::Baseline;
use crate::data::example::TaskKind;
use crate::run::summary::Method as Trained;
use crate::task::file::{ExtrapolateKeys, Parents, SeedBudget, TargetKind, Task};

/// A row of a comparison's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Without synthetic rows.
    Baseline(Baseline),
    /// Trained on synthetic rows.
    Writing(Writing),
}

/// A method that writes synthetic rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    pub writer: Writer,
    /// Whether the model learns the gold rows too.
    pub gold: bool,
}

/// How synthetic rows are written, judged and selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Writer {
    /// The bare label in the prompt, hard labels, no gold label read (arXiv 2202.07922).
    ZeroGen,
    /// ZeroGen whose labels' offsets are moved by *select*.
    ZeroGenSelect,
    /// ZeroGen with *select* and the targets of S3: all that S3 has but rationales and errors.
    ZeroGenTargets,
    /// Algorithm 1 alone.
    Seed,
    /// The rounds of S3, from all *mine* rows, right or wrong.
    GoldGen,
    /// The task as it is, but without the unlabelled texts.
    S3,
    /// The task as it is: S3 that reads unlabelled texts too.
    S3Read,
}

const WRITERS: [Writer; 7] =
    [Writer::ZeroGen, Writer::ZeroGenSelect, Writer::ZeroGenTargets, Writer::Seed, Writer::GoldGen, Writer::S3, Writer::S3Read];

/// What the methods that write are made equal in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Budget {
    /// Tokens that the generator computes, judging and rejected texts included.
    #[default]
    Tokens,
    /// Accepted rows.
    Rows,
}

/// How much S3 wrote: what the others are made equal to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extent {
    /// Seed rows of a method that writes a seed alone; with a budget, the most.
    pub seed_rows: usize,
    pub budget: Option<SeedBudget>,
    /// Rounds after the seed, and the mean of their rows.
    pub rounds: usize,
    pub rows_of_round: usize,
}

/// What a method reads of the gold rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoldUse {
    /// Their texts, as first texts of pairs or contexts of questions; for questions their answers too.
    pub contexts: bool,
    /// Which labels go together, where a text may have several.
    pub sets: bool,
    /// Labels, to calibrate the judge.
    pub judge: bool,
    /// Labels of *select*, to move the labels' offsets and choose the round.
    pub select: bool,
    /// Texts and labels of *mine*, to write others like them.
    pub prompts: bool,
    /// All of them, to learn from.
    pub training: bool,
}

impl GoldUse {
    /// `judge, select`; `nothing`.
    pub fn in_words(self) -> String {
        let GoldUse { contexts, sets, judge, select, prompts, training } = self;
        let named = [
            ("contexts", contexts),
            ("sets of labels", sets),
            ("judge", judge),
            ("select", select),
            ("prompts", prompts),
            ("training", training),
        ];
        let used: Vec<&str> = named.iter().filter(|(_, used)| *used).map(|(name, _)| *name).collect();
        if used.is_empty() { "nothing".to_string() } else { used.join(", ") }
    }
}

impl Writer {
    /// The variant of the task.
    pub fn task(self, task: &Task, extent: &Extent) -> Task {
        let mut task = task.clone();
        if matches!(self, Writer::ZeroGen | Writer::ZeroGenSelect | Writer::ZeroGenTargets) {
            task.seed.rationales = 0;
            task.seed.rationale_candidates = None;
        }
        if self != Writer::S3Read {
            task.read.rows = 0;
        }
        // What writes a seed alone spends all that it may on that.
        if !matches!(self, Writer::S3 | Writer::S3Read | Writer::GoldGen) {
            task.list = None;
        }
        match self {
            Writer::S3 | Writer::S3Read => return task,
            Writer::GoldGen => {
                let Extent { rounds, rows_of_round, .. } = *extent;
                let rows = Some(rows_of_round.max(1));
                let take_turns = Some(task.extrapolate.takes_turns());
                let (max_rounds, patience) = (rounds, rounds + 1);
                let keys = ExtrapolateKeys { from: Parents::Mine, rows, take_turns, max_rounds, patience, ..task.extrapolate };
                task.extrapolate = keys;
            }
            _ => {
                (task.seed.rows, task.seed.budget) = (extent.seed_rows, extent.budget);
                task.extrapolate.max_rounds = 0;
            }
        }
        if matches!(self, Writer::ZeroGen | Writer::ZeroGenSelect) {
            task.targets.kind = TargetKind::Hard;
        }
        if self == Writer::ZeroGen {
            task.train.use_select = false;
        }
        task
    }

    /// Whether it judges rows, and whether it writes rationales.
    pub fn needs(self, task: &Task) -> (bool, bool) {
        let variant = self.task(task, &Extent { seed_rows: 1, budget: None, rounds: 1, rows_of_round: 1 });
        (variant.targets.kind == TargetKind::Soft, variant.seed.rationales > 0)
    }

    fn name(self, task: &Task) -> String {
        let soft = task.targets.kind == TargetKind::Soft;
        match self {
            Writer::ZeroGen => "ZeroGen".to_string(),
            Writer::ZeroGenSelect => "ZeroGen, select".to_string(),
            Writer::ZeroGenTargets => if soft { "ZeroGen, select, soft targets" } else { "ZeroGen, select, targets of S3" }.to_string(),
            Writer::Seed => "seed with rationales".to_string(),
            Writer::GoldGen => "GoldGen".to_string(),
            Writer::S3 => "S3".to_string(),
            Writer::S3Read => "S3, texts read".to_string(),
        }
    }

    /// The name of its folder.
    pub fn folder(self) -> &'static str {
        match self {
            Writer::ZeroGen => "zerogen",
            Writer::ZeroGenSelect => "zerogen-select",
            Writer::ZeroGenTargets => "zerogen-targets",
            Writer::Seed => "seed",
            Writer::GoldGen => "goldgen",
            Writer::S3 => "s3",
            Writer::S3Read => "s3-read",
        }
    }
}

impl Method {
    /// Whether it learns from unlabelled texts.
    pub fn needs_unlabelled(self) -> bool {
        match self {
            Method::Baseline(baseline) => baseline.needs_unlabelled(),
            Method::Writing(writing) => writing.writer == Writer::S3Read,
        }
    }

    /// The baseline, if it is one.
    pub fn baseline(self) -> Option<Baseline> {
        match self {
            Method::Baseline(baseline) => Some(baseline),
            Method::Writing(_) => None,
        }
    }

    pub fn name(self, task: &Task) -> String {
        match self {
            Method::Baseline(baseline) => baseline.name().to_string(),
            Method::Writing(Writing { writer, gold }) => writer.name(task) + if gold { " + gold" } else { "" },
        }
    }

    /// What it reads of the gold rows of `task`.
    pub fn gold_use(self, task: &Task) -> GoldUse {
        let Writing { writer, gold } = match self {
            Method::Baseline(baseline) => {
                let (prompts, judge) = (baseline == Baseline::Demonstrations, baseline.reads_gold() && baseline.asks_generator());
                return GoldUse {
                    judge,
                    prompts,
                    training: (baseline.reads_gold() && !judge) || baseline == Baseline::JudgedGold,
                    ..GoldUse::default()
                };
            }
            Method::Writing(writing) => writing,
        };
        let variant = writer.task(task, &Extent { seed_rows: 1, budget: None, rounds: task.extrapolate.max_rounds, rows_of_round: 1 });
        let rounds = variant.extrapolate.max_rounds > 0;
        GoldUse {
            contexts: matches!(task.kind, TaskKind::Pair | TaskKind::ExtractiveQa) && task.gold_contexts(),
            sets: task.kind == TaskKind::MultiLabel,
            judge: variant.targets.kind == TargetKind::Soft || variant.reads() || variant.lists().is_some(),
            select: (variant.train.use_select && !gold) || rounds,
            prompts: rounds || variant.lists().is_some(),
            training: gold,
        }
    }
}

impl Writing {
    /// Which model of its run it is.
    pub fn trained(self) -> Trained {
        if self.gold { Trained::S3Gold } else { Trained::S3 }
    }
}

/// All methods of a task, in the order of the table. Two that are the same variant of this task are one row: without rationales the seed is
/// ZeroGen with S3's targets, without rounds S3 is the seed.
pub fn of_task(task: &Task) -> Vec<Method> {
    let unlabelled = task.reads();
    let baselines = Baseline::ALL.into_iter().filter(|baseline| baseline.fits(task, unlabelled)).map(Method::Baseline);
    let extent = Extent { seed_rows: task.seed.rows, budget: None, rounds: task.extrapolate.max_rounds, rows_of_round: 1 };
    let mut variants: Vec<Task> = Vec::new();
    let mut methods: Vec<Method> = baselines.collect();
    for writer in WRITERS {
        let variant = writer.task(task, &extent);
        let repeats = variants.contains(&variant) || variant == Writer::S3.task(task, &extent);
        let without_rounds = writer == Writer::GoldGen && extent.rounds == 0;
        let unread = writer == Writer::S3Read && (!task.reads() || task.prompts.judge.is_empty());
        if unread || (writer != Writer::S3 && (repeats || without_rounds)) {
            continue;
        }
        variants.push(variant);
        methods.push(Method::Writing(Writing { writer, gold: false }));
        // With the gold rows, ZeroGen with *select* is ZeroGen: the offsets are those of the model without them.
        methods.extend((writer != Writer::ZeroGenSelect).then_some(Method::Writing(Writing { writer, gold: true })));
    }
    methods
}

/// All names that `--methods` takes, whatever the task.
pub fn names() -> Vec<&'static str> {
    let writers = WRITERS.into_iter().flat_map(|writer| match writer {
        Writer::ZeroGen => &["ZeroGen", "ZeroGen + gold"][..],
        Writer::ZeroGenSelect => &["ZeroGen, select"],
        Writer::ZeroGenTargets => &["ZeroGen, select, soft targets", "ZeroGen, select, soft targets + gold"],
        Writer::Seed => &["seed with rationales", "seed with rationales + gold"],
        Writer::GoldGen => &["GoldGen", "GoldGen + gold"],
        Writer::S3 => &["S3", "S3 + gold"],
        Writer::S3Read => &["S3, texts read", "S3, texts read + gold"],
    });
    let writers = writers.copied();
    Baseline::ALL.into_iter().map(Baseline::name).chain(writers).collect()
}
