//! The loop on a scripted generator in languages without spaces, with compounds, and from right to left: nothing assumes English.

use crate::common::Fixture;
use crate::scripted::{boxed, json, json_lines, setup};
use lacuna::generator::scripted::Scripted;
use lacuna::generator::{CompletionRequest, PosteriorRequest};
use lacuna::run::summary::Method;

/// A language: its labels, and words for each from which texts are made.
struct Language {
    labels: [&'static str; 2],
    words: [[&'static str; 6]; 2],
    /// What is between two words, and what ends a sentence.
    between: &'static str,
    end: &'static str,
    refusal: &'static str,
}

const CHINESE: Language = Language {
    labels: ["差评", "好评"],
    words: [["无聊的", "冷淡的", "沉闷的", "平庸的", "难看的", "失望的"], ["温暖的", "有趣的", "精彩的", "动人的", "美好的", "出色的"]],
    between: "",
    end: "。",
    refusal: "作为一个人工智能，我不能写评论。",
};
const GERMAN: Language = Language {
    labels: ["schlecht", "großartig"],
    words: [["öde", "kalt", "zäh", "flach", "müde", "blöd"], ["schön", "warm", "süß", "klug", "köstlich", "rührend"]],
    between: " ",
    end: ".",
    refusal: "Als KI-Sprachmodell kann ich keine Kritik schreiben.",
};
const ARABIC: Language = Language {
    labels: ["سلبي", "إيجابي"],
    words: [["ممل", "بارد", "ضعيف", "كئيب", "سيئ", "فقير"], ["دافئ", "مضحك", "جميل", "مشرق", "مؤثر", "غني"]],
    between: " ",
    end: "؟",
    refusal: "As an AI language model, I cannot write this.",
};

impl Language {
    /// A text of five words, different for each number below 7776.
    fn text(&self, label: usize, number: usize) -> String {
        let word = |place: u32| self.words[label][number / 6usize.pow(place) % 6];
        (0..5).map(word).collect::<Vec<_>>().join(self.between) + self.end
    }

    fn label_in(&self, text: &str) -> usize {
        usize::from(text.contains(self.labels[1]))
    }

    /// Writes a text for the label that the prompt names; one in seven is a refusal, one in eleven a loop.
    fn generator(&'static self) -> Scripted<impl Fn(&CompletionRequest) -> String, impl Fn(&PosteriorRequest) -> Vec<f32>> {
        let complete = |request: &CompletionRequest| {
            let label = self.label_in(&request.prompt.user);
            let number = (request.seed % 7776) as usize;
            match request.id {
                id if id % 7 == 6 => self.refusal.to_string(),
                id if id % 11 == 10 => {
                    self.words[label][0].repeat(9) + self.between + &[self.words[label][0]; 9].join(self.between) + self.end
                }
                _ => self.text(label, number),
            }
        };
        let judge = |request: &PosteriorRequest| {
            let good = self.words[1].iter().filter(|word| request.prompt.user.contains(**word)).count() as f32;
            let bad = self.words[0].iter().filter(|word| request.prompt.user.contains(**word)).count() as f32;
            let said = [bad, good];
            request.words.iter().map(|word| said[self.label_in(word)] - 4.0).collect()
        };
        Scripted::new(complete, judge)
    }

    fn fixture(&self) -> Fixture {
        let fixture = Fixture::new();
        let row = |i: usize| {
            let label = if i.is_multiple_of(5) { (i + 1) % 2 } else { i % 2 };
            serde_json::json!({"text": self.text(i % 2, 31 * i + 7), "label": self.labels[label]}).to_string()
        };
        std::fs::write(fixture.path("gold.jsonl"), (0..40).map(row).collect::<Vec<_>>().join("\n")).unwrap();
        std::fs::write(fixture.path("test.jsonl"), (100..130).map(row).collect::<Vec<_>>().join("\n")).unwrap();
        let [bad, good] = self.labels;
        let task = crate::common::TASK
            .replace("{ name = \"negative\" }, { name = \"positive\" }", &format!("{{ name = {bad:?} }}, {{ name = {good:?} }}"));
        let task = task.replace("words = { negative = \" negative\", positive = \" positive\" }", "answer_start = \"=\"");
        std::fs::write(fixture.path("task.toml"), task.replace("rationales = 3\nrationale_candidates = 5", "rationales = 0")).unwrap();
        fixture
    }
}

/// Texts are accepted, refusals and loops are not, both labels get the rows that they are due, and the judge tells them apart.
fn the_loop_runs_in(language: &'static Language) {
    let fixture = language.fixture();
    let run = fixture.path("run");
    let delivery = setup(&fixture).run(&run, &[Method::GoldOnly, Method::S3], &mut boxed(language.generator())).unwrap();
    let manifest = json(&run.join("manifest.json"));
    let seed = &manifest["rounds"][0];
    assert_eq!(seed["labels"], serde_json::json!([12, 12]));
    assert!(seed["rejected"]["refusal"].as_u64() > Some(0) && seed["rejected"]["loop"].as_u64() > Some(0), "{}", seed["rejected"]);
    assert!(manifest["judge"]["accuracy"].as_f64() > Some(0.7), "{}", manifest["judge"]);
    let rows = json_lines(&run.join("dataset.jsonl"));
    assert_eq!(rows.len(), delivery.dataset_rows);
    assert!(rows.iter().all(|row| row["text"].as_str().unwrap().ends_with(language.end)), "{rows:?}");
}

#[test]
fn in_chinese() {
    the_loop_runs_in(&CHINESE);
}

#[test]
fn in_german() {
    the_loop_runs_in(&GERMAN);
}

#[test]
fn in_arabic() {
    the_loop_runs_in(&ARABIC);
}
