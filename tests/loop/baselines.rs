//! The baselines on a scripted generator and a tiny BERT: what they read, and what they must not.

use std::path::Path;

use crate::common::{BAD, Fixture, GOOD, text};
use lacuna::baselines::gold_only::gold_only;
use lacuna::baselines::{Baseline, Baselines, Bench, Predicted};
use lacuna::data::answers::{Answers, GoldAnswers};
use lacuna::data::example::{Answer, GoldRow, Input};
use lacuna::data::gold_file::read_test;
use lacuna::data::labels::{Label, Labels};
use lacuna::data::read::Rules;
use lacuna::generator::scripted::Scripted;
use lacuna::generator::{CompletionRequest, Generate, PosteriorRequest};
use lacuna::math::vectors::{argmax, dot};
use lacuna::run::progress::Progress;
use lacuna::small::checkpoint::Checkpoints;
use lacuna::small::contrastive::PairPlan;
use lacuna::small::evaluation::Right;
use lacuna::small::head::SmallHead;
use lacuna::small::model::SmallModel;
use lacuna::small::plan::FitPlan;
use lacuna::task::file::{Task, TrainKeys};
use lacuna::task::prompts::Prompts;

/// Judges by the words of the question, which comes last; more surely after demonstrations.
fn scripted() -> Scripted<impl Fn(&CompletionRequest) -> String, impl Fn(&PosteriorRequest) -> Vec<f32>> {
    let judge = |request: &PosteriorRequest| {
        let shown = request.prompt.user.lines().count() as f32;
        let question = request.prompt.user.lines().last().unwrap_or_default();
        let count = |words: &[&str]| words.iter().filter(|word| question.contains(*word)).count() as f32;
        vec![(1.0 + 0.1 * shown) * count(&BAD) - 4.0, count(&GOOD) - 4.0]
    };
    Scripted::new(|_: &CompletionRequest| String::new(), judge)
}

/// Rows whose labels are right, in turn bad and good, of other texts for other `first`.
fn rows(first: u64, count: u64) -> Vec<GoldRow<Labels>> {
    let row = |i: u64| {
        let good = i.is_multiple_of(2);
        let text = text(good, first + 37 * i);
        GoldRow { line: i as usize + 1, text, text_pair: None, gold: Label { label: usize::from(good) } }
    };
    (0..count).map(row).collect()
}

/// The rows with all labels swapped, but for one in `but`.
fn swapped(rows: &[GoldRow<Labels>], but: usize) -> Vec<GoldRow<Labels>> {
    let swap = |(i, row): (usize, &GoldRow<Labels>)| {
        let label = if i % but == but - 1 { row.gold.label } else { 1 - row.gold.label };
        GoldRow { gold: Label { label }, ..row.clone() }
    };
    rows.iter().enumerate().map(swap).collect()
}

/// Rows as pairs: a plain first text, their own as the second.
fn as_pairs(rows: &[GoldRow<Labels>]) -> Vec<GoldRow<Labels>> {
    let pair = |row: &GoldRow<Labels>| GoldRow { text: "the film".into(), text_pair: Some(row.text.clone()), ..row.clone() };
    rows.iter().map(pair).collect()
}

/// A task and its small model.
struct Tried {
    task: Task,
    small: SmallModel<Labels>,
    _fixture: Fixture,
}

impl Tried {
    fn new(task: impl Fn(String) -> String) -> Self {
        let fixture = Fixture::new();
        let task = Task::parse(
            &task(crate::common::TASK.replace("min_steps = 10", "min_steps = 24").replace("rationale_candidates = 5\n", "")),
            Path::new("task.toml"),
        )
        .unwrap();
        let mut small = SmallModel::load(&fixture.path("small"), task.labels_head(), 1, 1).unwrap();
        small.reader.encoder.set_reading(task.reading());
        small.set_pooling(task.train.pooling, &fixture.path("small"), 1).unwrap();
        Tried { task, small, _fixture: fixture }
    }

    fn with_prompts<T>(&self, gold: &[GoldRow<Labels>], test: &[GoldRow<Labels>], work: impl FnOnce(Bench) -> T) -> T {
        let prompts = Prompts::compile(&self.task, &self.task.labels_head()).unwrap();
        let texts: Vec<String> = (0..20).map(|i| text(i % 2 == 0, 5000 + 11 * i)).collect();
        let pair = |text| if self.small.head.pairs { Input { text: "the film", text_pair: Some(text) } } else { Input::from(text) };
        let unlabelled: Vec<Input> = texts.iter().map(|text| pair(text.as_str())).collect();
        let Tried { task, small, .. } = self;
        let progress = Progress::Silent;
        work(Bench {
            task,
            prompts: &prompts,
            gold,
            unlabelled: &unlabelled,
            test,
            judged_test: None,
            small,
            steps_with_texts: task.train.steps,
            seed: 3,
            progress,
        })
    }

    fn predict(&self, baseline: Baseline, gold: &[GoldRow<Labels>], test: &[GoldRow<Labels>]) -> Predicted {
        timeless(self.with_prompts(gold, test, |bench| Baselines::new(bench).predict(baseline, Some(&mut scripted())).unwrap()))
    }

    /// What all baselines say, each asked of the same draw.
    fn all(&self, gold: &[GoldRow<Labels>], test: &[GoldRow<Labels>]) -> Vec<Predicted> {
        self.with_prompts(gold, test, |bench| {
            let mut baselines = Baselines::new(bench);
            Baseline::ALL.into_iter().map(|baseline| timeless(baselines.predict(baseline, Some(&mut scripted())).unwrap())).collect()
        })
    }
}

/// Without how long it took, which is the only thing that may differ.
fn timeless(predicted: Predicted) -> Predicted {
    Predicted { seconds: 0.0, ..predicted }
}

fn accuracy(predicted: &Predicted, test: &[GoldRow<Labels>]) -> f64 {
    let right = predicted.logits.iter().zip(test).filter(|(logits, row)| argmax(logits) == row.gold.label).count();
    right as f64 / test.len() as f64
}

#[test]
fn all_say_something_of_each_test_row_and_none_sees_its_label() {
    let tried = Tried::new(|task| task);
    let (gold, test) = (rows(0, 24), rows(1000, 10));
    let found = tried.all(&gold, &test);
    for (baseline, predicted) in Baseline::ALL.into_iter().zip(&found) {
        assert!(baseline.fits(&tried.task, true), "{baseline:?}");
        assert_eq!(predicted.logits.len(), 10, "{baseline:?}");
        assert!(predicted.logits.iter().all(|row| row.len() == 2 && row.iter().all(|x| x.is_finite())), "{baseline:?}: {predicted:?}");
        assert_eq!(predicted.gold_rows, if baseline.reads_gold() { 24 } else { 0 }, "{baseline:?}");
    }
    assert!(tried.all(&gold, &swapped(&test, 3)) == found, "a label of a test row was looked at");
    let other = tried.all(&swapped(&gold, 4), &test);
    for ((baseline, before), after) in Baseline::ALL.into_iter().zip(&found).zip(&other) {
        assert_eq!(before.logits != after.logits, baseline.reads_gold(), "{baseline:?}");
    }
}

#[test]
fn what_is_kept_for_several_baselines_changes_none_and_each_seed_is_a_draw() {
    let tried = Tried::new(|task| task);
    let (gold, test) = (rows(0, 18), rows(1000, 6));
    let [ensemble, self_training] = [Baseline::Ensemble, Baseline::SelfTraining].map(|b| tried.predict(b, &gold, &test));
    let all = tried.all(&gold, &test);
    assert!(all.contains(&ensemble) && all.contains(&self_training));
    let gold_only = |seed| {
        let work = |bench: Bench| timeless(Baselines::new(Bench { seed, ..bench }).predict(Baseline::GoldOnly, None).unwrap());
        tried.with_prompts(&gold, &test, work)
    };
    assert!(gold_only(3) == all[0] && gold_only(4) != all[0]);
    assert_eq!((all[0].steps, ensemble.steps), (24, 5 * 24));
}

#[test]
fn pairs_have_all_baselines_too() {
    let tried =
        Tried::new(|task| task.replace(r#"kind = "text""#, r#"kind = "pair""#).replace("Which? {{ text }}", "Which? {{ text_pair }}"));
    let (gold, test) = (as_pairs(&rows(0, 24)), as_pairs(&rows(1000, 30)));
    for (baseline, predicted) in Baseline::ALL.into_iter().zip(tried.all(&gold, &test)) {
        assert!(predicted.logits.len() == 30 && predicted.logits.iter().flatten().all(|x| x.is_finite()), "{baseline:?}");
    }
    let found = accuracy(&tried.predict(Baseline::Tfidf, &gold, &test), &test);
    assert!(found > 0.8, "the second text of a pair has the label's words: {found}");
}

#[test]
fn words_and_embeddings_tell_easy_texts_apart() {
    let tried = Tried::new(|task| task);
    let (gold, test) = (rows(0, 60), rows(10_000, 60));
    for baseline in [Baseline::Embeddings, Baseline::Tfidf, Baseline::Calibrated, Baseline::Demonstrations, Baseline::Stacked] {
        let found = accuracy(&tried.predict(baseline, &gold, &test), &test);
        assert!(found > 0.8, "{baseline:?}: {found}");
    }
}

#[test]
fn students_tell_easy_texts_apart() {
    let tried = Tried::new(|task| task.replace("min_steps = 24", "min_steps = 100"));
    let (gold, test) = (rows(0, 40), rows(10_000, 60));
    let found = tried.all(&gold, &test);
    let students = [Baseline::GoldOnly, Baseline::Ensemble, Baseline::Distilled, Baseline::SelfTraining];
    for (baseline, predicted) in Baseline::ALL.into_iter().zip(&found).filter(|(baseline, _)| students.contains(baseline)) {
        let found = accuracy(predicted, &test);
        assert!(found > 0.8, "{baseline:?}: {found}");
    }
}

#[test]
fn setfit_tells_easy_texts_apart() {
    let tried = Tried::new(|task| task.replace("min_steps = 24", "min_steps = 200"));
    let (gold, test) = (rows(0, 40), rows(10_000, 60));
    let predicted = tried.predict(Baseline::SetFit, &gold, &test);
    let found = accuracy(&predicted, &test);
    assert!(found > 0.8 && [25, 100].contains(&predicted.steps), "{found} after {} steps", predicted.steps);
}

/// Among other texts than it has learnt from.
#[test]
fn the_first_stage_of_setfit_moves_labels_apart() {
    let tried = Tried::new(|task| task);
    let (gold, test) = (rows(0, 40), rows(10_000, 40));
    let inputs: Vec<Input> = gold.iter().map(GoldRow::input).collect();
    let labels: Vec<usize> = gold.iter().map(|row| row.gold.label).collect();
    let plan = PairPlan { inputs: &inputs, labels: &labels, keys: &tried.task.train, steps: 300, seed: 1 };
    let fitted = tried.small.fit_pairs(&plan, &mut |_, _| Ok(())).unwrap();
    let again = tried.small.fit_pairs(&plan, &mut |_, _| Ok(())).unwrap();
    assert!(fitted.model.flat().unwrap() == again.model.flat().unwrap());
    let tested: Vec<Input> = test.iter().map(GoldRow::input).collect();
    // The mean cosine of pairs of one label, less that of pairs of two.
    let apart = |network: &lacuna_models::Network| {
        let features = tried.small.features_of(network, &tested, 12).unwrap();
        let mean = |alike: bool| {
            let pairs = (0..40).flat_map(|i| (0..i).map(move |j| (i, j))).filter(|&(i, j)| (test[i].gold == test[j].gold) == alike);
            let cosines: Vec<f64> = pairs.map(|(i, j)| dot(&features[i], &features[j])).collect();
            cosines.iter().sum::<f64>() / cosines.len() as f64
        };
        mean(true) - mean(false)
    };
    let (before, after) = (apart(&tried.small.base), apart(&fitted.model));
    assert!(after > 2.0 * before && after > before + 0.05, "{before} before, {after} after");
}

/// Questions ask for the good word of their context.
#[test]
fn gold_only_answers_questions_too() {
    let fixture = Fixture::new();
    let mut small = SmallModel::load(&fixture.path("small"), Answers, 1, 1).unwrap();
    small.reader.encoder.set_reading(lacuna_models::Reading { max_tokens: 16, stride: Some(4) });
    let row = |i: usize| {
        let (good, bad) = (GOOD[i % 6], BAD[i / 2 % 6]);
        let answer = Answer { text: good.to_string(), start: bad.len() + 1 };
        let gold = GoldAnswers { answer, others: vec![] };
        GoldRow::<Answers> { line: i + 1, text: format!("{bad} {good} film"), text_pair: Some("story".into()), gold }
    };
    let gold: Vec<_> = (0..18).map(row).collect();
    let keys = TrainKeys { min_steps: Some(60), learning_rate: 1e-3, ..TrainKeys::default() };
    let fit = gold_only(&small, &gold, &keys, 1, Progress::Silent).unwrap();
    let exact = |model| match Answers::evaluate(&gold, &small.outputs(model, &gold).unwrap()).right {
        Right::Answers { exact_match, .. } => exact_match,
        Right::Labels { .. } | Right::LabelSets { .. } => unreachable!(),
    };
    let (before, after) = (exact(&small.base), exact(&fit.model));
    assert!(fit.steps == 60 && after > 0.8 && before < 0.5, "{before} before, {after} after");
}

#[test]
fn a_learning_rate_is_chosen_by_the_gold_rows() {
    let (gold, test) = (rows(0, 30), rows(1000, 4));
    let chosen = |rate: &str| {
        let tried = Tried::new(|task| task.replace("learning_rate = 1e-3", &format!("learning_rate = {rate}\nlinear_start = false")));
        let tuned = lacuna::baselines::tune::learning_rate(&tried.small, &gold, &tried.task.train, 3, Progress::Silent).unwrap();
        assert_eq!(tried.predict(Baseline::GoldOnly, &gold, &test), tried.predict(Baseline::GoldOnly, &gold, &swapped(&test, 9)));
        tuned.keys.learning_rate / tried.task.train.learning_rate
    };
    // Too small to learn much in 24 steps, right, and so large that nothing is learnt.
    assert_eq!(["1e-4", "1e-2", "5e-2"].map(|rate| (10.0 * chosen(rate)).round()), [20.0, 10.0, 4.0]);
}

/// The share of rows that a fit of one step, which can hardly move anything, gets right.
fn right_at_once(change: impl Fn(String) -> String) -> f64 {
    let tried = Tried::new(|task| change(task.replace("learning_rate = 1e-3", "learning_rate = 1e-9")));
    let keys = TrainKeys { steps: Some(1), ..tried.task.train.clone() };
    let gold = rows(0, 40);
    let learnt: Vec<_> = gold.iter().map(|row| tried.small.gold_row(row)).collect();
    let plan = FitPlan { rows: &learnt, keys: &keys, seed: 3 };
    let fitted = tried.small.fit(&plan, &Checkpoints::off(), &mut |_, _| Ok(())).unwrap();
    let said = tried.small.outputs(&fitted.model, &gold).unwrap();
    gold.iter().zip(said).filter(|(row, logits)| argmax(logits) == row.gold.label).count() as f64 / 40.0
}

#[test]
fn a_fit_starts_with_what_the_encoder_says_already() {
    let off = right_at_once(|task| task.replace("[train]", "[train]\nlinear_start = false"));
    let on = right_at_once(|task| task);
    let of_means = right_at_once(|task| task.replace("[train]", "[train]\npooling = \"mean\""));
    assert!(off < 0.7 && on > 0.8 && of_means > 0.8, "{off} {on} {of_means}");
}

#[test]
fn a_trained_classifier_keeps_its_last_layer() {
    let mut tried = Tried::new(|task| task);
    let folder = tempfile::tempdir().unwrap();
    tried.small.save(&tried.small.base, folder.path()).unwrap();
    tried.small = SmallModel::load(folder.path(), tried.task.labels_head(), 1, 1).unwrap();
    let keys = TrainKeys { steps: Some(1), learning_rate: 0.0, ..tried.task.train.clone() };
    let learnt: Vec<_> = rows(0, 40).iter().map(|row| tried.small.gold_row(row)).collect();
    let fitted = tried.small.fit(&FitPlan { rows: &learnt, keys: &keys, seed: 3 }, &Checkpoints::off(), &mut |_, _| Ok(())).unwrap();
    assert_eq!(fitted.model.flat().unwrap(), tried.small.base.flat().unwrap());
}

#[test]
fn what_a_baseline_lacks_is_said() {
    let tried = Tried::new(|task| task.split("[[prompts.judge]]").next().unwrap().to_string() + "[targets]\nkind = \"hard\"\n");
    assert!(
        Baseline::ALL
            .into_iter()
            .all(|baseline| baseline.fits(&tried.task, false) != (baseline.asks_generator() || baseline == Baseline::SelfTraining))
    );
    let gold = rows(0, 6);
    let refused = |baseline, generator: Option<&mut dyn Generate>| {
        tried.with_prompts(&gold, &gold, |bench| Baselines::new(bench).predict(baseline, generator).unwrap_err().to_string())
    };
    assert!(refused(Baseline::ZeroShot, Some(&mut scripted())).contains("prompts.judge"));
    let with_judge = Tried::new(|task| task);
    let error = with_judge.with_prompts(&gold, &gold, |bench| Baselines::new(bench).predict(Baseline::Calibrated, None).unwrap_err());
    assert!(error.to_string().contains("none was given"));
}

#[test]
fn a_single_gold_row_is_enough() {
    let tried = Tried::new(|task| task);
    let found = tried.all(&rows(0, 1), &rows(1000, 3));
    assert!(found.iter().all(|predicted| predicted.logits.iter().flatten().all(|x| x.is_finite())));
}

#[test]
fn answers_about_the_test_rows_are_not_asked_for_twice() {
    let tried = Tried::new(|task| task);
    let (gold, test) = (rows(0, 10), rows(1000, 6));
    tried.with_prompts(&gold, &test, |bench| {
        let inputs: Vec<Input> = test.iter().map(GoldRow::input).collect();
        let mut generator = scripted();
        let judged =
            lacuna::baselines::prompted::judge_rows(&tried.task, bench.prompts, &inputs, &mut generator, Progress::Silent).unwrap();
        let own = Baselines::new(bench).predict(Baseline::Calibrated, Some(&mut generator)).unwrap();
        assert_eq!(generator.answered(), 6 + 10 + 6);
        let lent = Bench { judged_test: Some(&judged), ..bench };
        assert_eq!(timeless(Baselines::new(lent).predict(Baseline::Calibrated, Some(&mut generator)).unwrap()), timeless(own));
        assert_eq!(generator.answered(), 6 + 10 + 6 + 10);
    });
}

/// The real encoder on 100 movie snippets: linear heads on its embeddings are well above chance.
#[test]
fn real_embeddings_of_a_hundred_snippets() {
    let of = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    let (Some(encoder), Some(data)) = (of("LACUNA_TEST_ENCODER"), of("LACUNA_TEST_GOLD")) else {
        eprintln!("SKIPPED: LACUNA_TEST_ENCODER and LACUNA_TEST_GOLD are not both set");
        return;
    };
    let text = crate::common::TASK.replace("max_tokens = 12", "max_tokens = 64").replace("min_steps = 10", "min_steps = 20");
    let task = Task::parse(&text, Path::new("task.toml")).unwrap();
    let every = |nth: usize, count: usize, file: &str| -> Vec<GoldRow<Labels>> {
        read_test(&data.join(file), &task.labels_head(), Rules::default(), &|_| ())
            .unwrap()
            .0
            .into_iter()
            .step_by(nth)
            .take(count)
            .collect()
    };
    let (gold, test) = (every(70, 100, "gold.jsonl"), every(10, 300, "test.jsonl"));
    let mut small = SmallModel::load(&encoder, task.labels_head(), 1, 2).unwrap();
    small.reader.encoder.set_reading(task.reading());
    let prompts = Prompts::compile(&task, &task.labels_head()).unwrap();
    let (unlabelled, progress) = (&[][..], Progress::Lines);
    let bench = Bench {
        task: &task,
        prompts: &prompts,
        gold: &gold,
        unlabelled,
        test: &test,
        judged_test: None,
        small: &small,
        steps_with_texts: None,
        seed: 1,
        progress,
    };
    let mut baselines = Baselines::new(bench);
    for baseline in [Baseline::Embeddings, Baseline::SetFit] {
        let found = accuracy(&baselines.predict(baseline, None).unwrap(), &test);
        assert!(found >= 0.65, "{baseline:?}: {found}");
    }
}
