//! Renders a task's prompt templates, and cleans completions. Pure functions.

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value};

use crate::data::answers::{AnswerGoal, Answers};
use crate::data::example::{Answer, Input, TaskKind};
use crate::data::head::Head;
use crate::data::label_sets::{LabelSet, LabelSets};
use crate::data::labels::{Label, Labels};
use crate::error::Error;
use crate::generator::{CompletionRequest, Prompt, Sampling};
use crate::task::file::Task;
use crate::task::prompt_keys::{JudgePrompt, WritingPrompt};

/// Most steps of one prompt; 64 bytes of a text that is made count as one too.
const STEPS: u64 = 1_000_000;

/// The variables of a template, by name.
type Values = BTreeMap<&'static str, Value>;

/// The template variables of a task's goals and predictions.
pub trait PromptHead: Head {
    /// Sample texts, a goal and a prediction to test templates with.
    fn trial(&self) -> (Input<'static>, Self::Goal, Self::Prediction);

    /// The variables of a goal besides the texts, by name; `says` is the wording of each label in prompts.
    fn goal_values(goal: &Self::Goal, input: Option<Input>, says: &[String]) -> Vec<(&'static str, String)>;

    /// What a goal is, in a few words.
    fn in_words(goal: &Self::Goal, says: &[String]) -> String;

    /// The wording of a prediction in prompts.
    fn predicted(prediction: &Self::Prediction, says: &[String]) -> String;

    /// The labels that a judge is asked about one by one; a single `None` where one question is about all of them.
    fn asked(&self) -> Vec<Option<usize>> {
        vec![None]
    }

    /// The bytes of the first text that a prompt for the goal must have, however long the text is.
    fn needed(goal: &Self::Goal, text: &str) -> Option<Range<usize>>;
}

impl PromptHead for Labels {
    fn trial(&self) -> (Input<'static>, Label, usize) {
        (Input { text: "«a text»", text_pair: self.pairs.then_some("«another»") }, Label { label: 0 }, 1)
    }

    fn goal_values(goal: &Label, _: Option<Input>, says: &[String]) -> Vec<(&'static str, String)> {
        vec![("label", says[goal.label].clone())]
    }

    fn in_words(goal: &Label, says: &[String]) -> String {
        says[goal.label].clone()
    }

    fn predicted(prediction: &usize, says: &[String]) -> String {
        says[*prediction].clone()
    }

    fn needed(_: &Label, _: &str) -> Option<Range<usize>> {
        None
    }
}

impl PromptHead for LabelSets {
    fn trial(&self) -> (Input<'static>, LabelSet, Vec<usize>) {
        (Input::from("«a text»"), self.set([0]), vec![])
    }

    fn goal_values(goal: &LabelSet, _: Option<Input>, says: &[String]) -> Vec<(&'static str, String)> {
        vec![("label", Self::in_words(goal, says))]
    }

    fn in_words(goal: &LabelSet, says: &[String]) -> String {
        all_in_words(&goal.labels, says)
    }

    fn predicted(prediction: &Vec<usize>, says: &[String]) -> String {
        all_in_words(prediction, says)
    }

    fn needed(_: &LabelSet, _: &str) -> Option<Range<usize>> {
        None
    }

    fn asked(&self) -> Vec<Option<usize>> {
        (0..self.names.len()).map(Some).collect()
    }
}

/// `joy`, `joy and anger`, `joy, anger and fear`, or `none`.
fn all_in_words(labels: &[usize], says: &[String]) -> String {
    let named: Vec<&str> = labels.iter().map(|&label| says[label].as_str()).collect();
    match &named[..] {
        [] => "none".to_string(),
        [one] => one.to_string(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

impl PromptHead for Answers {
    fn trial(&self) -> (Input<'static>, AnswerGoal, String) {
        let goal = AnswerGoal { answer: Answer { text: "a".to_string(), start: 0 } };
        (Input { text: "a text", text_pair: Some("another") }, goal, "text".to_string())
    }

    fn goal_values(goal: &AnswerGoal, input: Option<Input>, _: &[String]) -> Vec<(&'static str, String)> {
        let context = input.map(|input| ("context", input.text.to_string()));
        let question = input.and_then(|input| Some(("question", input.text_pair?.to_string())));
        [Some(("answer", goal.answer.text.clone())), context, question].into_iter().flatten().collect()
    }

    fn in_words(goal: &AnswerGoal, _: &[String]) -> String {
        goal.answer.text.clone()
    }

    fn predicted(prediction: &String, _: &[String]) -> String {
        prediction.clone()
    }

    fn needed(goal: &AnswerGoal, text: &str) -> Option<Range<usize>> {
        goal.answer.bytes_in(text)
    }
}

/// Compiles and test-renders the templates of a task; returns what is wrong with each.
pub fn check(task: &Task) -> Vec<String> {
    let tried = match task.kind {
        TaskKind::Text | TaskKind::Pair => Prompts::compile(task, &task.labels_head()).map(drop),
        TaskKind::MultiLabel => Prompts::compile(task, &task.label_sets_head()).map(drop),
        TaskKind::ExtractiveQa => Prompts::compile(task, &Answers).map(drop),
    };
    tried.err().iter().flat_map(|wrong| wrong.lines()).map(str::to_string).collect()
}

/// Cuts a text that is too long for the generator, to its beginning or around the bytes that are needed; `None` for one that is not.
pub type Cut = dyn Fn(&str, Option<Range<usize>>) -> Option<String> + Send + Sync;

/// The templates of a task, compiled and test-rendered once.
pub struct Prompts<'t, H> {
    task: &'t Task,
    cut: Option<&'t Cut>,
    head: H,
    environment: Environment<'static>,
    /// The wording of each label in prompts.
    says: Vec<String>,
}

impl<'t, H: PromptHead> Prompts<'t, H> {
    /// # Errors
    /// A template that cannot be parsed or uses an unknown variable; the message names the template and the line.
    pub fn compile(task: &'t Task, head: &H) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(STEPS));
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|e| e.to_string())?);
        let prompts = Prompts { task, cut: None, head: head.clone(), environment, says: task.label_words() };
        match prompts.try_all() {
            wrong if wrong.is_empty() => Ok(prompts),
            wrong => Err(wrong.join("\n")),
        }
    }

    /// The same prompts, in which long texts are cut.
    #[must_use]
    pub fn cutting(self, cut: Option<&'t Cut>) -> Self {
        Prompts { cut, ..self }
    }

    /// What is wrong with each template.
    fn try_all(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut note = |name: &str, tried: Result<(), String>| wrong.extend(tried.err().map(|error| format!("prompts.{name}: {error}")));
        let (input, goal, prediction) = self.head.trial();
        if let Some(template) = &self.task.prompts.rationale {
            note("rationale", self.writing(template, self.values(Some(&goal), None)).map(drop));
        }
        let context = input.text_pair.map(|_| input.text);
        let with_and_without = |ask: &dyn Fn(&[&str]) -> Result<Prompt, String>| ask(&["a reason"]).and_then(|_| ask(&[])).map(drop);
        note("seed", with_and_without(&|rationales| self.seed(&goal, rationales, context)));
        note("extrapolate", with_and_without(&|rationales| self.extrapolate(&goal, input, &prediction, rationales)));
        for judge in &self.task.prompts.judge {
            let asked = input.text_pair.unwrap_or(input.text);
            let name = if input.text_pair.is_some() { "text_pair" } else { "text" };
            let shows = |prompt: Prompt| match [&prompt.user, prompt.system.as_ref().unwrap_or(&prompt.user)]
                .iter()
                .any(|said| said.contains(asked))
            {
                true => Ok(()),
                false => Err(format!("the judge does not see what it judges: write {{{{ {name} }}}} into it")),
            };
            let label = self.head.asked()[0];
            note("judge", self.judge(judge, input, label).and_then(shows));
            if label.is_some() {
                let said = ["«one»", "«other»"].map(|label| self.judge_about(judge, input, Some(label)));
                let told = |said: [Result<Prompt, String>; 2]| match said {
                    [Ok(one), Ok(other)] if one == other => {
                        Err("the judge does not see which label it is asked about: write {{ label }} into it".to_string())
                    }
                    _ => Ok(()),
                };
                note("judge", told(said));
            }
        }
        wrong
    }

    /// Asks for one rationale: why a text has the goal's label.
    pub fn rationale(&self, goal: &H::Goal) -> Result<Prompt, String> {
        let template = self.task.prompts.rationale.as_ref().ok_or("prompts.rationale is missing")?;
        self.writing(template, self.values(Some(goal), None))
    }

    /// A list of texts for the generator to continue with one more.
    pub fn list(&self, title: &str, shown: &[&str]) -> Prompt {
        let items: String = shown.iter().map(|text| format!("\n- {}", text.split_whitespace().collect::<Vec<_>>().join(" "))).collect();
        Prompt { system: None, user: format!("{}\n{items}\n", title.trim()), answer_start: "-".to_string(), plain: true }
    }

    /// Asks for one example of the label, written with the rationales and, for pairs, for the first text; without rationales this is
    /// ZeroGen's prompt. For question answering, asks for a question that the context answers with the goal.
    pub fn seed(&self, goal: &H::Goal, rationales: &[&str], context: Option<&str>) -> Result<Prompt, String> {
        let mut values = self.values(Some(goal), context.map(Input::from));
        values.insert("rationales", texts(rationales));
        self.writing(&self.task.prompts.seed, values)
    }

    /// Asks for one example like `input`, which has this goal and was misclassified as `predicted`, with optional rationales; for pairs,
    /// for another second text; for question answering, for another question with the same answer.
    pub fn extrapolate(&self, goal: &H::Goal, input: Input, predicted: &H::Prediction, rationales: &[&str]) -> Result<Prompt, String> {
        let mut values = self.values(Some(goal), Some(input));
        values.insert("predicted", Value::from(H::predicted(predicted, &self.says)));
        values.insert("rationales", texts(rationales));
        self.writing(&self.task.prompts.extrapolate, values)
    }

    /// Asks which label `input` has, or whether it has the one that is asked about.
    pub fn judge(&self, template: &JudgePrompt, input: Input, asked: Option<usize>) -> Result<Prompt, String> {
        self.judge_about(template, input, asked.map(|label| self.says(label)))
    }

    fn judge_about(&self, template: &JudgePrompt, input: Input, label: Option<&str>) -> Result<Prompt, String> {
        let mut values = self.values(None, Some(input));
        values.extend(label.map(|label| ("label", Value::from(label))));
        self.prompt(&template.system, &template.user, &template.answer_start, values)
    }

    /// The labels that a judge is asked about one by one, see [`PromptHead::asked`].
    pub fn asked(&self) -> Vec<Option<usize>> {
        self.head.asked()
    }

    /// The wording of a label in prompts.
    pub fn says(&self, label: usize) -> &str {
        &self.says[label]
    }

    /// The variables of a template; using any other is an error.
    fn values(&self, goal: Option<&H::Goal>, input: Option<Input>) -> Values {
        let mut values = Values::from([("labels", Value::from(self.says.clone()))]);
        // A sentence goes on behind what a text is.
        let task_is_pairs = self.task.kind == TaskKind::Pair;
        values.extend(
            self.task
                .about
                .iter()
                .map(|about| ("about", Value::from(if task_is_pairs { about.trim() } else { about.trim().trim_end_matches('.') }))),
        );
        let shorter = |text: &str, needed| self.cut.and_then(|cut| cut(text, needed));
        let needed = |input: Input| goal.and_then(|goal| H::needed(goal, input.text));
        let cut = input.map(|input| (shorter(input.text, needed(input)), input.text_pair.and_then(|text| shorter(text, None))));
        let input = input.map(|input| match &cut {
            Some((text, text_pair)) => {
                Input { text: text.as_deref().unwrap_or(input.text), text_pair: text_pair.as_deref().or(input.text_pair) }
            }
            None => input,
        });
        let texts = input.map(|input| [("text", Some(input.text)), ("text_pair", input.text_pair)]);
        values.extend(texts.into_iter().flatten().filter_map(|(name, text)| Some((name, Value::from(text?)))));
        let of_goal = goal.map(|goal| H::goal_values(goal, input, &self.says)).unwrap_or_default();
        values.extend(of_goal.into_iter().map(|(name, value)| (name, Value::from(value))));
        values
    }

    fn writing(&self, template: &WritingPrompt, values: Values) -> Result<Prompt, String> {
        self.prompt(&template.system, &template.user, &template.answer_start, values)
    }

    fn prompt(&self, system: &Option<String>, user: &str, answer_start: &str, values: Values) -> Result<Prompt, String> {
        let render = |template: &str| self.environment.render_str(template, &values).map_err(|e| explain(&e, template, &values));
        let system = system.as_deref().map(render).transpose()?;
        Ok(Prompt { system, user: render(user)?, answer_start: render(answer_start)?, plain: false })
    }

    /// A completion request; the template's own sampling, stop strings and length override the task's.
    pub fn request(&self, id: u64, template: &WritingPrompt, prompt: Prompt, seed: u64) -> CompletionRequest {
        let keys = &self.task.sampling;
        let shared = keys.sampling();
        CompletionRequest {
            id,
            prompt,
            seed,
            sampling: Sampling {
                temperature: template.temperature.unwrap_or(shared.temperature),
                top_p: template.top_p.unwrap_or(shared.top_p),
                min_p: template.min_p.unwrap_or(shared.min_p),
                ..shared
            },
            max_tokens: template.max_tokens.unwrap_or(keys.max_tokens),
            stop: template.stop.clone().unwrap_or_else(|| keys.stop.clone()),
            form: None,
        }
    }
}

/// The error of a prompt that cannot be rendered, although it could be when the task was checked.
pub fn prompt_error(message: String) -> Error {
    Error::Failed(format!("a prompt cannot be rendered: {message}"))
}

/// Texts as a template value.
fn texts(texts: &[&str]) -> Value {
    Value::from_iter(texts.iter().map(|text| text.to_string()))
}

fn explain(error: &minijinja::Error, template: &str, values: &Values) -> String {
    let line = error.line().and_then(|line| Some((line, template.lines().nth(line - 1)?.trim())));
    let place = line.map(|(line, said)| format!("line {line} of the template, `{said}`: ")).unwrap_or_default();
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    let known: Vec<&str> = values.keys().copied().collect();
    format!("{place}{what} (its variables are {})", known.join(", "))
}

/// The text of a completion: white space collapsed, surrounding quotation marks removed.
pub fn clean(completion: &str) -> String {
    let text = completion.split_whitespace().collect::<Vec<_>>().join(" ");
    let pairs = [('"', '"'), ('“', '”'), ('„', '“'), ('\'', '\''), ('«', '»'), ('「', '」'), ('『', '』')];
    let inner = pairs.iter().find_map(|&(open, close)| text.strip_prefix(open)?.strip_suffix(close));
    inner.unwrap_or(&text).trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn task(change: impl FnOnce(&mut Task)) -> Task {
        let mut task = Task::parse(include_str!("../../tasks/movie-sentiment.toml"), Path::new("task.toml")).unwrap();
        change(&mut task);
        task
    }

    #[test]
    fn rationales_are_in_the_prompt_and_their_section_is_left_out_without_any() {
        let task = task(|t| {
            t.prompts.seed.user =
                "{% if rationales %}Reasons:\n{% for r in rationales %}- {{ r }}\n{% endfor %}\n{% endif %}Write a {{ label }} one.".into()
        });
        let prompts = Prompts::compile(&task, &task.labels_head()).unwrap();
        assert_eq!(prompts.seed(&Label { label: 1 }, &["a", "b"], None).unwrap().user, "Reasons:\n- a\n- b\nWrite a positive one.");
        assert_eq!(prompts.seed(&Label { label: 0 }, &[], None).unwrap().user, "Write a negative one.");
    }

    #[test]
    fn template_syntax_in_a_text_is_not_rendered() {
        let task = task(|t| t.prompts.extrapolate.user = "Like this: {{ text }}".into());
        let prompts = Prompts::compile(&task, &task.labels_head()).unwrap();
        assert_eq!(
            prompts.extrapolate(&Label { label: 0 }, "{{ label }} {% x %} <b>".into(), &1, &[]).unwrap().user,
            "Like this: {{ label }} {% x %} <b>"
        );
    }

    #[test]
    fn a_bad_template_is_reported_with_its_line() {
        let unknown = task(|t| t.prompts.seed.user = "Write\n{{ lable }}".into());
        assert!(
            Prompts::compile(&unknown, &unknown.labels_head())
                .err()
                .unwrap()
                .starts_with("prompts.seed: line 2 of the template, `{{ lable }}`: ")
        );
        let broken = task(|t| t.prompts.judge[0].user = "{% if %}".into());
        assert!(
            Prompts::compile(&broken, &broken.labels_head())
                .err()
                .unwrap()
                .starts_with("prompts.judge: line 1 of the template, `{% if %}`: ")
        );
    }

    #[test]
    fn a_question_prompt_has_its_context_and_answer() {
        let mut task = Task::parse(include_str!("../../tasks/adversarial_qa.toml"), Path::new("task.toml")).unwrap();
        task.prompts.seed.user = "{{ context }} | {{ answer }}".into();
        task.prompts.extrapolate.user = "{{ context }} | {{ answer }} | {{ question }} | {{ predicted }}".into();
        let prompts = Prompts::compile(&task, &Answers).unwrap();
        let goal = AnswerGoal { answer: Answer { text: "two".into(), start: 4 } };
        assert_eq!(prompts.seed(&goal, &[], Some("one two")).unwrap().user, "one two | two");
        let input = Input { text: "one two", text_pair: Some("Which?") };
        let prompt = prompts.extrapolate(&goal, input, &"one".to_string(), &[]).unwrap();
        assert_eq!(prompt.user, "one two | two | Which? | one");
    }

    #[test]
    fn a_context_that_is_cut_keeps_its_answer() {
        let mut task = Task::parse(include_str!("../../tasks/adversarial_qa.toml"), Path::new("task.toml")).unwrap();
        task.prompts.seed.user = "{{ context }} | {{ answer }}".into();
        let cut = |text: &str, needed: Option<Range<usize>>| (text.len() > 9).then(|| text[needed.unwrap_or(0..9)].to_string());
        let prompts = Prompts::compile(&task, &Answers).unwrap().cutting(Some(&cut));
        let goal = AnswerGoal { answer: Answer { text: "neun".into(), start: 6 } };
        assert_eq!(prompts.seed(&goal, &[], Some("zwölf neun zehn")).unwrap().user, "neun | neun");
    }

    #[test]
    fn cleaning_collapses_white_space_and_removes_quotation_marks() {
        assert_eq!(clean(" A\tfine\n film. "), "A fine film.");
        assert_eq!(clean("\"A fine film.\""), "A fine film.");
        assert_eq!(clean("A \"fine\" film"), "A \"fine\" film");
        assert_eq!(clean("\""), "\"");
    }
}
