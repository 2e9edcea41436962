//! Texts and pairs to token ids.

mod common;

use lacuna_models::{Span, TextEncoder};
use proptest::prelude::*;
use std::fs;

fn encoder() -> TextEncoder {
    TextEncoder::load(common::copy("bert").path()).unwrap()
}

#[test]
fn texts_and_pairs() {
    let encoder = encoder();
    let one = encoder.encode("A good FILM, ab", None, 64).unwrap();
    assert_eq!(one.input_ids, [2, 5, 7, 9, 1, 5, 6, 3]);
    assert_eq!(one.token_type_ids, [0; 8]);
    let pair = encoder.encode("good", Some("bad film"), 64).unwrap();
    assert_eq!(pair.input_ids, [2, 7, 3, 8, 9, 3]);
    assert_eq!(pair.token_type_ids, [0, 0, 0, 1, 1, 1]);
    assert_eq!(encoder.encode("", None, 8).unwrap().input_ids, [2, 3]);
}

/// The name of a special token in a text is text: it becomes other tokens, of type 0 as all of a single text are.
#[test]
fn the_name_of_a_special_token_is_text() {
    let encoded = encoder().encode("good [SEP] [CLS] film", None, 64).unwrap();
    assert_eq!((encoded.input_ids[0], *encoded.input_ids.last().unwrap()), (2, 3));
    let inner = &encoded.input_ids[1..encoded.input_ids.len() - 1];
    assert!(inner.len() > 2 && !inner.contains(&2) && !inner.contains(&3), "{inner:?}");
    assert!(encoded.token_type_ids.iter().all(|kind| *kind == 0));
}

/// A folder without tokenizer.json reads as one with it.
#[test]
fn a_vocabulary_alone_is_enough() {
    let (with, without) = (common::copy("bert"), common::copy("bert"));
    let vocabulary = |folder: &std::path::Path| {
        let json: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
        let mut tokens: Vec<(u64, String)> =
            json["model"]["vocab"].as_object().unwrap().iter().map(|(token, id)| (id.as_u64().unwrap(), token.clone())).collect();
        tokens.sort_unstable();
        tokens.into_iter().map(|(_, token)| token + "\n").collect::<String>()
    };
    fs::write(without.path().join("vocab.txt"), vocabulary(with.path())).unwrap();
    fs::remove_file(without.path().join("tokenizer.json")).unwrap();
    let (with, without) = (TextEncoder::load(with.path()).unwrap(), TextEncoder::load(without.path()).unwrap());
    for text in ["A good FILM, ab", "bad [SEP] film", ""] {
        assert_eq!(without.encode(text, Some("good"), 64).unwrap(), with.encode(text, Some("good"), 64).unwrap(), "{text}");
    }
}

/// As transformers' RobertaTokenizerFast with `split_special_tokens` (golden/make_byte_bpe.py).
#[test]
fn byte_level_tokens_are_those_of_transformers() {
    let golden: serde_json::Value = serde_json::from_slice(&fs::read(common::golden("byte_bpe").join("ids.json")).unwrap()).unwrap();
    let both = common::golden("byte_bpe");
    let alone = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        fs::copy(both.join(name), alone.path().join(name)).unwrap();
    }
    for folder in [both.as_path(), alone.path()] {
        let encoder = TextEncoder::load(folder).unwrap();
        let texts = golden["texts"].as_array().unwrap();
        for (i, text) in texts.iter().map(|text| text.as_str().unwrap()).enumerate() {
            let ids = |name: &str| golden[name][i].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect::<Vec<_>>();
            assert_eq!(encoder.encode(text, None, 512).unwrap().input_ids, ids("single"), "{text:?}");
            let pair = encoder.encode(text, texts[0].as_str(), 512).unwrap();
            assert_eq!(pair.input_ids, ids("pairs"), "{text:?}");
            assert!(pair.token_type_ids.iter().all(|kind| *kind == 0));
        }
    }
}

#[test]
fn the_longer_text_is_cut_first() {
    let encoder = encoder();
    let encoded = encoder.encode("good good good good good", Some("bad bad"), 8).unwrap();
    assert_eq!(encoded.input_ids, [2, 7, 7, 7, 3, 8, 8, 3]);
    let encoded = encoder.encode("good", Some("bad bad bad bad bad"), 7).unwrap();
    assert_eq!(encoded.input_ids, [2, 7, 3, 8, 8, 8, 3]);
    assert_eq!(encoder.encode("good bad film", None, 4).unwrap().input_ids, [2, 7, 8, 3]);
}

#[test]
fn questions_and_the_places_of_their_answers() {
    let (encoder, context) = (encoder(), "a GOOD, good  film");
    let question = encoder.encode_question("bad film", context, 12, 4).unwrap().remove(0);
    assert_eq!(question.encoded.input_ids, [2, 8, 9, 3, 5, 7, 1, 7, 9, 3]);
    assert_eq!(question.encoded.token_type_ids, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
    assert_eq!(question.context, 4..9);
    // "GOOD", then "good  film", then a part of a word, which means the whole word.
    for (bytes, span, whole) in [(2..6, (5, 5), 2..6), (8..18, (7, 8), 8..18), (3..5, (5, 5), 2..6)] {
        let span = Span { start: span.0, end: span.1 };
        assert_eq!(question.span_of(bytes), span);
        assert_eq!(question.bytes_of(span), Some(whole));
    }
    assert_eq!(question.bytes_of(NONE), None);
    let error = encoder.encode_question("bad film", context, 5, 4).unwrap_err().to_string();
    assert!(error.contains("take 5 of 5 tokens"), "{error}");
}

const NONE: Span = Span { start: 0, end: 0 };

#[test]
fn a_long_context_is_read_in_windows() {
    let (encoder, context) = (encoder(), "a GOOD, good  film");
    let windows = encoder.encode_question("bad film", context, 8, 1).unwrap();
    assert_eq!(
        windows.iter().map(|w| w.encoded.input_ids.clone()).collect::<Vec<_>>(),
        [[2, 8, 9, 3, 5, 7, 1, 3], [2, 8, 9, 3, 1, 7, 9, 3]]
    );
    assert!(windows.iter().all(|window| window.context == (4..7)));
    let spans = |bytes: std::ops::Range<usize>| windows.iter().map(|window| window.span_of(bytes.clone())).collect::<Vec<_>>();
    assert_eq!(spans(8..18), [NONE, Span { start: 5, end: 6 }]);
    assert_eq!(spans(6..7), [Span { start: 6, end: 6 }, Span { start: 4, end: 4 }]);
    assert_eq!(spans(2..12), [NONE, NONE], "cut by both windows");
    // A stride that leaves nothing new is half a window.
    assert_eq!(encoder.encode_question("bad film", context, 7, 128).unwrap().len(), 4);
}

/// Windows, offsets and answers are those of transformers; `golden/make_windows.py` makes the values.
#[test]
fn windows_are_those_of_transformers() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/windows");
    let encoder = TextEncoder::load(&folder).unwrap();
    let cases: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("windows.json")).unwrap()).unwrap();
    let mut compared = 0;
    for case in cases.as_array().unwrap() {
        let (question, context) = (case["question"].as_str().unwrap(), case["context"].as_str().unwrap());
        let number = |name: &str| case[name].as_u64().unwrap() as usize;
        let byte_of = |character: usize| context.char_indices().map(|(byte, _)| byte).chain([context.len()]).nth(character).unwrap();
        let windows = encoder.encode_question(question, context, number("max_tokens"), number("stride")).unwrap();
        let expected = case["windows"].as_array().unwrap();
        assert_eq!(windows.len(), expected.len(), "{case}");
        for (window, expected) in windows.iter().zip(expected) {
            let of = |name: &str| serde_json::from_value::<Vec<usize>>(expected[name].clone()).unwrap();
            assert_eq!(window.encoded.input_ids.iter().map(|&id| id as usize).collect::<Vec<_>>(), of("input_ids"));
            let offsets: Vec<usize> = window.offsets.iter().flat_map(|&(start, end)| [start, end]).collect();
            assert_eq!(offsets, of("offsets").into_iter().map(byte_of).collect::<Vec<_>>());
            let span = window.span_of(byte_of(number("answer_start"))..byte_of(number("answer_end")));
            assert_eq!([span.start, span.end].to_vec(), of("span"), "{case}");
            compared += 1;
        }
    }
    assert!(compared > 30);
}

#[test]
fn no_room() {
    assert!(encoder().encode("good", None, 2).unwrap_err().to_string().contains("2 tokens"));
    assert!(encoder().encode("good", Some("bad"), 4).is_err());
}

#[test]
fn not_a_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let error = || TextEncoder::load(folder.path()).err().unwrap().to_string();
    assert!(error().contains("tokenizer.json"));
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert!(error().contains("not a tokenizer"));
    fs::write(folder.path().join("tokenizer.json"), common::tokenizer_json().replace("[CLS]", "<s>")).unwrap();
    assert!(error().contains("no [CLS] token"));
}

proptest! {
    /// Any text, any room: never too long, brackets in their places.
    #[test]
    fn any_text(text in "\\PC{0,80}", pair in prop::option::of("\\PC{0,80}"), room in 5usize..40) {
        let encoded = encoder().encode(&text, pair.as_deref(), room).unwrap();
        let ids = &encoded.input_ids;
        prop_assert!(ids.len() <= room && ids.len() == encoded.token_type_ids.len());
        prop_assert!(ids[0] == 2 && ids[ids.len() - 1] == 3);
        prop_assert!(encoded.token_type_ids.is_sorted());
        prop_assert_eq!(encoded.token_type_ids[ids.len() - 1], pair.is_some() as u32);
    }

    /// Any text, any windows: a run of tokens no longer than the stride stands whole in one of them, at the bytes that it was taken from.
    #[test]
    fn an_answer_is_in_one_of_the_windows(
        context in "((good|bad|film|abb|é|ﬁlm|日本|[.,]|\\PC)[ \u{a0}]{0,2}){1,30}",
        room in 2usize..9,
        stride in 0usize..8,
        (first, length) in (any::<prop::sample::Index>(), 0usize..8),
    ) {
        let (encoder, taken) = (encoder(), 5);
        let whole = encoder.encode_question("bad film", &context, 1000, 0).unwrap().remove(0);
        let windows = encoder.encode_question("bad film", &context, taken + room, stride).unwrap();
        prop_assert!(windows.iter().all(|w| w.encoded.input_ids.len() <= taken + room && w.context.len() == w.offsets.len()));
        prop_assume!(!whole.offsets.is_empty());
        let first = first.index(whole.offsets.len());
        let shared = if stride < room { stride } else { room / 2 };
        let last = (first + length.min(shared)).min(whole.offsets.len() - 1);
        let bytes = whole.offsets[first].0..whole.offsets[last].1;
        prop_assert!(context.get(bytes.clone()).is_some(), "characters are not cut");
        let spans: Vec<Span> = windows.iter().map(|window| window.span_of(bytes.clone())).collect();
        prop_assert!(bytes.is_empty() || spans.iter().any(|span| *span != NONE));
        for (window, span) in windows.iter().zip(spans).filter(|(_, span)| *span != NONE) {
            prop_assert_eq!(window.bytes_of(span), Some(bytes.clone()));
        }
    }
}
