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
    let question = encoder.encode_question("bad film", context, 12).unwrap();
    assert_eq!(question.encoded.input_ids, [2, 8, 9, 3, 5, 7, 1, 7, 9, 3]);
    assert_eq!(question.encoded.token_type_ids, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
    assert_eq!(question.context, 4..9);
    // "GOOD", then "good  film", then a part of a word, which means the whole word.
    for (bytes, span, text) in [(2..6, (5, 5), "GOOD"), (8..18, (7, 8), "good  film"), (3..5, (5, 5), "GOOD")] {
        let span = Span { start: span.0, end: span.1 };
        assert_eq!(question.span_of(bytes), span);
        assert_eq!(question.text_of(context, span), text);
    }
    assert_eq!(question.text_of(context, Span { start: 0, end: 0 }), "");
    let cut = encoder.encode_question("bad film", context, 8).unwrap();
    assert_eq!((cut.context.clone(), cut.encoded.input_ids.len()), (4..7, 8));
    assert_eq!(cut.span_of(8..18), Span { start: 0, end: 0 });
    let error = encoder.encode_question("bad film", context, 5).unwrap_err().to_string();
    assert!(error.contains("take 5 of 5 tokens"), "{error}");
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
}
