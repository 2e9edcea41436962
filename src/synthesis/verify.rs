//! Accepts or rejects generated texts, with a reason.

use std::collections::HashSet;

use crate::data::example::{GoldRow, Input, fingerprint};
use crate::data::head::Head;
use crate::data::language::{is_finished, is_question, words};
use crate::data::near::{NearCopies, Sources};
use crate::data::squad::normalise;
use crate::generator::Finish;
use crate::generator::thoughts::has_tag;
use crate::run::round::Rejection;
use crate::task::file::Task;

/// What the prompt of a text contained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prompted<'a> {
    pub rationales: &'a [&'a str],
    /// The first text of a pair, or a question's context.
    pub context: Option<&'a str>,
    /// The answer that a question was written for.
    pub answer: Option<&'a str>,
    /// The wording of the label in prompts.
    pub label: Option<&'a str>,
}

/// Fewest words in an accepted text, where neither the task nor its gold rows say less.
const MIN_WORDS: usize = 3;
/// A text with at least this share of its trigrams in a source is a copy of it.
const COPIED: f64 = 0.7;
/// What one gold row in so many does is in the nature of the texts, and no reason for a rejection.
const OFTEN: usize = 50;
/// One gold row in so many may have fewer words.
const SHORT: usize = 20;

/// What texts of the task are like, as far as its gold rows say.
#[derive(Clone, Debug)]
pub struct Style {
    min_words: usize,
    /// Gold rows decline, or speak of language models.
    refuses: bool,
    /// Gold rows have places that are to be filled in.
    has_blanks: bool,
    /// Gold rows say the same again and again.
    loops: bool,
    /// Gold rows have tags such as `<think>`.
    thinks: bool,
    /// Whether gold rows say the names of labels; `None` without gold rows.
    names_labels: Option<bool>,
}

impl Style {
    /// From the texts of gold rows, which may be none, and the wordings of the labels.
    pub fn of<'t>(min_words: Option<usize>, gold: impl Iterator<Item = &'t str> + Clone, labels: &[String]) -> Style {
        let mut lengths: Vec<usize> = gold.clone().map(|text| words(text).count()).collect();
        lengths.sort_unstable();
        let short = lengths.get(lengths.len() / SHORT).map_or(MIN_WORDS, |length| MIN_WORDS.min(*length).max(1));
        let often = |has: &dyn Fn(&str) -> bool| gold.clone().filter(|text| has(text)).count() * OFTEN > lengths.len();
        let known = !lengths.is_empty();
        Style {
            min_words: min_words.unwrap_or(short),
            refuses: known && often(&is_refusal),
            has_blanks: known && often(&has_blank),
            loops: known && often(&is_loop),
            thinks: known && often(&has_tag),
            names_labels: known.then(|| often(&|text| labels.iter().any(|label| says(text, label)))),
        }
    }
}

/// Knows the accepted texts, and the gold rows that must not be copied.
pub struct Verifier {
    accepted: NearCopies,
    gold: Sources,
    style: Style,
}

impl Verifier {
    pub fn new<'a>(gold: impl IntoIterator<Item = &'a str>, style: Style) -> Self {
        Verifier { accepted: NearCopies::default(), gold: Sources::of(gold), style }
    }

    /// For a task: knows its gold rows, which must not be copied and say what texts are like; none where nothing may depend on them.
    pub fn of_task<'g, H: Head>(task: &Task, gold: impl Iterator<Item = &'g GoldRow<H>>) -> Self {
        let gold: Vec<&str> = gold.filter(|_| task.reads_gold()).map(GoldRow::written).collect();
        Verifier::new(gold.iter().copied(), Style::of(task.accept.min_words, gold.iter().copied(), &task.label_words()))
    }

    /// Adds the rows of earlier rounds, so that they count as duplicates.
    pub fn remember<'a>(&mut self, rows: impl IntoIterator<Item = Input<'a>>) {
        rows.into_iter().for_each(|row| self.accepted.add(row));
    }

    /// Accepts `text` and remembers it, or gives the reason for its rejection.
    pub fn accept(&mut self, text: &str, finish: Finish, prompted: &Prompted) -> Result<(), Rejection> {
        let Prompted { rationales, context, answer, label } = *prompted;
        let row = context.map_or(Input::from(text), |context| Input { text: context, text_pair: Some(text) });
        let gives_away = |answer| gives_away(text, answer);
        let reasons: [(Rejection, &dyn Fn() -> bool); 13] = [
            (Rejection::Unfinished, &|| finish == Finish::Length && !is_finished(text)),
            (Rejection::TooShort, &|| words(text).count() < self.style.min_words.max(1)),
            (Rejection::Refusal, &|| !self.style.refuses && is_refusal(text)),
            (Rejection::Blank, &|| !self.style.has_blanks && has_blank(text)),
            (Rejection::Thought, &|| !self.style.thinks && has_tag(text)),
            (Rejection::Loop, &|| !self.style.loops && is_loop(text)),
            (Rejection::NamesLabel, &|| label.is_some_and(|label| leaks(text, label, self.style.names_labels))),
            (Rejection::CopyOfContext, &|| context.is_some_and(|context| fingerprint(context) == fingerprint(text))),
            (Rejection::NotAQuestion, &|| answer.is_some() && !is_question(text)),
            (Rejection::GivesAnswer, &|| answer.is_some_and(gives_away)),
            (Rejection::CopyOfGold, &|| self.gold.copied(text) >= COPIED),
            (Rejection::CopyOfRationale, &|| Sources::of(rationales.iter().copied()).copied(text) >= COPIED),
            (Rejection::Duplicate, &|| self.accepted.has(row)),
        ];
        if let Some((reason, _)) = reasons.iter().find(|(_, holds)| holds()) {
            return Err(*reason);
        }
        self.accepted.add(row);
        Ok(())
    }
}

/// Whether `question` contains the words of `answer` in succession, after SQuAD's normalisation.
fn gives_away(question: &str, answer: &str) -> bool {
    let (question, answer) = (normalise(question), normalise(answer));
    !answer.is_empty() && format!(" {question} ").contains(&format!(" {answer} "))
}

/// Whether a text has these words in succession, in whatever case.
fn says(text: &str, wording: &str) -> bool {
    let lower = |text: &str| words(text).map(str::to_lowercase).collect::<Vec<_>>();
    let (text, wording) = (lower(text), lower(wording));
    !wording.is_empty() && text.windows(wording.len()).any(|window| window == wording)
}

/// Whether a text says its label: anywhere, where gold rows do not; where there are none to ask, as a heading. Short and numbered labels,
/// such as "no" and "1", are ordinary words.
fn leaks(text: &str, label: &str, named_in_gold: Option<bool>) -> bool {
    let (lower, label) = (text.to_lowercase(), label.to_lowercase());
    let heading = || lower.strip_prefix(&label).is_some_and(|rest| rest.trim_start().starts_with([':', '：']));
    let ordinary = label.chars().filter(|c| c.is_alphabetic()).count() <= 3 && label.is_ascii();
    lower.contains(&format!("label: {label}"))
        || match named_in_gold {
            _ if ordinary => false,
            Some(true) => false,
            Some(false) => says(&lower, &label),
            None => heading(),
        }
}

/// How a generator speaks of itself, or begins to decline, in lower case.
const OF_ITSELF: [&str; 16] = [
    "as an ai",
    "as a language model",
    "as a large language model",
    "i'm an ai",
    "i am an ai",
    "als ki-",
    "als sprachmodell",
    "als künstliche intelligenz",
    "en tant qu'ia",
    "en tant que modèle de langage",
    "como modelo de lenguaje",
    "como inteligencia artificial",
    "作为一个人工智能",
    "作为ai",
    "作为一个ai",
    "作为语言模型",
];
const DECLINES: [&str; 7] = ["i cannot ", "i can't ", "i can not ", "i am unable to ", "i'm unable to ", "i won't ", "i'm not able to "];
/// What a generator declines: what it was asked for, and not an account or an order.
const DECLINED: [&str; 30] = [
    "help with that",
    "help with this",
    "help you with",
    "assist with that",
    "assist with this",
    "assist you",
    "assist in",
    "fulfill that",
    "fulfill this",
    "fulfill your",
    "fulfil that",
    "fulfil this",
    "fulfil your",
    "provide that",
    "provide this",
    "provide such",
    "provide any",
    "create content",
    "create that",
    "create this",
    "generate content",
    "generate text",
    "generate that",
    "generate this",
    "write that",
    "write this",
    "write a ",
    "write any",
    "comply with",
    "engage in",
];

/// Whether a text refuses to be written.
fn is_refusal(text: &str) -> bool {
    let lower = text.to_lowercase().replace('’', "'");
    let text = lower.trim_start_matches(|c: char| !c.is_alphanumeric());
    let plain = ["i'm sorry, but ", "i am sorry, but ", "sorry, but ", "i apologize, but ", "i apologise, but ", "unfortunately, "];
    let begins = plain.iter().find_map(|sorry| text.strip_prefix(sorry)).unwrap_or(text);
    let declines = DECLINES.iter().find_map(|declines| begins.strip_prefix(declines));
    // "I'm sorry for any confusion, but as an AI …" too: it begins one of the first clauses.
    let clauses = text.split([',', '.', ';', ':', '!']).take(3).map(|clause| clause.trim_start_matches(|c: char| !c.is_alphanumeric()));
    let mut clauses = clauses.map(|clause| clause.strip_prefix("but ").unwrap_or(clause));
    clauses.any(|clause| OF_ITSELF.iter().any(|itself| clause.starts_with(itself)))
        || declines.is_some_and(|rest| DECLINED.iter().any(|what| rest.starts_with(what)))
}

/// Most words of a blank.
const BLANK_WORDS: usize = 5;

/// Whether a text has a place that its reader is to fill in: "[Your Name]", "[insert date]"; not "[sic]" and "[12]".
fn has_blank(text: &str) -> bool {
    let mut bracketed = text.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(inside, _)| inside);
    let is_blank = |inside: &str| {
        let inside: Vec<&str> = words(inside).collect();
        let capital = |word: &&str| word.chars().next().is_some_and(char::is_uppercase);
        let asks = inside.first().is_some_and(|first| ["your", "insert"].contains(&first.to_lowercase().as_str()));
        (1..=BLANK_WORDS).contains(&inside.len()) && (asks || inside.iter().all(capital))
    };
    bracketed.any(is_blank)
}

/// Words from which on a text is looked at for loops, and the share of its trigrams that must be different ones.
const LOOPS_FROM: usize = 12;
const DIFFERENT: f64 = 0.5;
/// A word, or a character, so often in succession is a loop.
const SAME_WORDS: usize = 5;
const SAME_CHARACTERS: usize = 16;

/// Whether a text says the same words or characters again and again.
fn is_loop(text: &str) -> bool {
    let characters: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    if longest_run(&characters) >= SAME_CHARACTERS {
        return true;
    }
    let own: Vec<String> = words(text).map(str::to_lowercase).collect();
    let trigrams: Vec<&[String]> = own.windows(3).collect();
    let different: HashSet<&[String]> = trigrams.iter().copied().collect();
    longest_run(&own) >= SAME_WORDS || (own.len() >= LOOPS_FROM && (different.len() as f64) < DIFFERENT * trigrams.len() as f64)
}

fn longest_run<T: PartialEq>(items: &[T]) -> usize {
    items.chunk_by(|a, b| a == b).map(<[T]>::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(gold: &[&str], labels: &[&str]) -> Style {
        Style::of(None, gold.iter().copied(), &labels.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn each_rejection_has_its_reason() {
        let gold = ["The plot wanders for two hours and never arrives."];
        let mut verifier = Verifier::new(gold, style(&gold, &["negative", "positive"]));
        let (rationales, label) = (&["the actors are bored and it shows"][..], Some("positive"));
        let mut accept = |text: &str, finish| verifier.accept(text, finish, &Prompted { rationales, label, ..Prompted::default() });
        assert_eq!(accept("A warm film with a good heart", Finish::Stop), Ok(()));
        assert_eq!(accept("a Warm film  with a good heart!", Finish::Stop), Err(Rejection::Duplicate));
        assert_eq!(accept("It begins well and then it", Finish::Length), Err(Rejection::Unfinished));
        assert_eq!(accept("It begins well and then it ends.", Finish::Length), Ok(()));
        assert_eq!(accept("I loved [Movie Title], by [insert name].", Finish::Stop), Err(Rejection::Blank));
        assert_eq!(accept("He says it is his \"swan son\" [sic] in the notes [12].", Finish::Stop), Ok(()));
        assert_eq!(accept("Good film - !", Finish::Stop), Err(Rejection::TooShort));
        assert_eq!(accept("", Finish::EndOfTurn), Err(Rejection::TooShort));
        assert_eq!(accept("the plot wanders for two hours, and never arrives", Finish::Stop), Err(Rejection::CopyOfGold));
        assert_eq!(accept("The actors are bored, and it shows!", Finish::Stop), Err(Rejection::CopyOfRationale));
        assert_eq!(accept("The plot wanders pleasantly along a sunny coast with friends", Finish::Stop), Ok(()));
        assert_eq!(accept("I'm sorry, but I can't help with that request.", Finish::Stop), Err(Rejection::Refusal));
        assert_eq!(accept("As an AI language model, I have no opinion.", Finish::Stop), Err(Rejection::Refusal));
        let apology = "I'm sorry for any confusion, but as an AI designed to help, I have no account.";
        assert_eq!(accept(apology, Finish::Stop), Err(Rejection::Refusal));
        assert_eq!(accept("He is cast as an AI that falls in love.", Finish::Stop), Ok(()));
        assert_eq!(accept("I cannot recommend this film enough.", Finish::Stop), Ok(()));
        assert_eq!(accept("I can't create an account on your site", Finish::Stop), Ok(()));
        assert_eq!(accept("It is good and it is good and it is good and it is good.", Finish::Stop), Err(Rejection::Loop));
        assert_eq!(accept("A very very very very very long film", Finish::Stop), Err(Rejection::Loop));
        assert_eq!(accept("What a film ====================", Finish::Stop), Err(Rejection::Loop));
        assert_eq!(accept("Positive: a film with heart", Finish::Stop), Err(Rejection::NamesLabel));
        assert_eq!(accept("This is a positive film review.", Finish::Stop), Err(Rejection::NamesLabel));
        assert_eq!(accept("The last act is a negative of the first.", Finish::Stop), Ok(()), "another label");
    }

    #[test]
    fn a_second_text_may_stand_beside_another_first() {
        let mut verifier = Verifier::new([], style(&[], &[]));
        let mut accept =
            |context, text: &str| verifier.accept(text, Finish::Stop, &Prompted { context: Some(context), ..Prompted::default() });
        assert_eq!(accept("Rain fell all day.", "It was wet outside."), Ok(()));
        assert_eq!(accept("The sun shone all week.", "It was wet outside."), Ok(()));
        assert_eq!(accept("The sun shone all week!", "it was wet outside"), Err(Rejection::Duplicate));
        assert_eq!(accept("Rain fell all day.", "rain fell  all day."), Err(Rejection::CopyOfContext));
    }

    #[test]
    fn what_gold_rows_do_is_allowed() {
        let gold = ["Lost card", "Card lost", "I cannot help with that"];
        let mut verifier = Verifier::new([], style(&gold, &["lost", "stolen"]));
        let mut accept = |text: &str| verifier.accept(text, Finish::Stop, &Prompted { label: Some("lost"), ..Prompted::default() });
        assert_eq!((accept("Wallet lost"), accept("I cannot assist you")), (Ok(()), Ok(())));
        let unknown = style(&[], &["positive"]);
        assert_eq!((unknown.min_words, unknown.refuses, unknown.names_labels), (3, false, None));
        assert!(leaks("Positive: a film", "positive", None) && !leaks("a positive film", "positive", None));
        assert!(!leaks("Bug: it ends", "bug", Some(true)) && !leaks("See (1) and [1]", "1", Some(false)) && leaks("label: 1", "1", None));
        assert_eq!(Style::of(Some(9), ["a"].into_iter(), &[]).min_words, 9);
    }

    #[test]
    fn other_scripts_are_read_as_they_are_written() {
        let gold = ["这部电影非常感人，我很喜欢。"];
        let mut verifier = Verifier::new(gold, style(&gold, &["正面", "负面"]));
        let mut accept = |text: &str, finish| verifier.accept(text, finish, &Prompted { label: Some("正面"), ..Prompted::default() });
        assert_eq!(accept("演员很好，故事也好。", Finish::Length), Ok(()));
        assert_eq!(accept("演员很好，故事", Finish::Length), Err(Rejection::Unfinished));
        assert_eq!(accept("这部电影非常感人，我喜欢。", Finish::Stop), Err(Rejection::CopyOfGold));
        assert_eq!(accept("演员很好，故事也好！", Finish::Stop), Err(Rejection::Duplicate));
        assert_eq!(accept("作为一个人工智能，我没有意见。", Finish::Stop), Err(Rejection::Refusal));
        assert_eq!(accept("فيلم جميل جدا", Finish::Stop), Ok(()));
    }

    #[test]
    fn a_question_must_ask_and_not_give_the_answer() {
        let mut verifier = Verifier::new([], style(&[], &[]));
        let context = Some("Who was the king? Harald the First.");
        let mut accept =
            |text: &str, answer| verifier.accept(text, Finish::Stop, &Prompted { context, answer: Some(answer), ..Prompted::default() });
        assert_eq!(accept("Who ruled the country then?", "Harald the First"), Ok(()));
        assert_eq!(accept("谁是国王？", "Harald the First"), Ok(()));
        assert_eq!(accept("The king ruled the country", "Harald the First"), Err(Rejection::NotAQuestion));
        assert_eq!(accept("Was it harald first who ruled?", "Harald the First."), Err(Rejection::GivesAnswer));
        assert_eq!(accept("Was it Haralds firstborn who ruled?", "Harald"), Ok(()));
        assert_eq!(accept("Who wrote the book?", "the"), Ok(()));
        assert_eq!(accept("who was the king? Harald the first.", "Harald"), Err(Rejection::CopyOfContext));
    }
}
