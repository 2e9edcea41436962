//! Where an answer stands in its context: counted in characters or in UTF-16 units, in the context's Unicode form or another.

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use super::example::Answer;

/// The span of `context` that is `text` and begins at `start`: in characters, as in SQuAD; or in UTF-16 units, as JavaScript, Java and C#
/// count; or in either Unicode form (composed or decomposed characters), where the two differ in it. The span is as the context has it.
pub fn at(context: &str, text: &str, start: usize) -> Option<Answer> {
    let answer = Answer { text: text.to_string(), start };
    if answer.bytes_in(context).is_some() {
        return Some(answer);
    }
    in_utf16(context, text, start).or_else(|| in_another_form(context, text).into_iter().find(|found| begins_at(context, found, start)))
}

/// The span of `context` that is `text`, in whatever Unicode form, if there is only one.
///
/// # Errors
/// How often it stands there.
pub fn only(context: &str, text: &str) -> Result<Answer, usize> {
    let mut found = in_another_form(context, text);
    if found.len() == 1 { Ok(found.remove(0)) } else { Err(found.len()) }
}

fn in_utf16(context: &str, text: &str, start: usize) -> Option<Answer> {
    let mut units = 0;
    let (byte, _) = context.char_indices().find(|(_, c)| {
        let here = units == start;
        units += c.len_utf16();
        here
    })?;
    let found = context[byte..].starts_with(text);
    if found { Answer::at(context, byte..byte + text.len()) } else { None }
}

/// Every span that equals `text` after decomposition (NFKD: a no-break space is a space), and neither begins nor ends within a character
/// with its marks.
fn in_another_form(context: &str, text: &str) -> Vec<Answer> {
    let (mut whole, mut places) = (String::new(), Vec::new());
    for (byte, cluster) in context.grapheme_indices(true) {
        places.push((whole.len(), byte));
        whole.extend(cluster.nfkd());
    }
    places.push((whole.len(), context.len()));
    let wanted: String = text.nfkd().collect();
    let byte_of = |place: usize| places.binary_search_by_key(&place, |(own, _)| *own).ok().map(|i| places[i].1);
    let found = whole.match_indices(&wanted).filter_map(|(from, found)| Some(byte_of(from)?..byte_of(from + found.len())?));
    found.filter_map(|bytes| Answer::at(context, bytes)).collect()
}

/// Whether a span begins at this character, counted in the context as it is, composed, or decomposed.
fn begins_at(context: &str, found: &Answer, start: usize) -> bool {
    let before = || context.chars().take(found.start);
    let forms = [before().count(), before().nfc().count(), before().nfd().count(), before().nfkc().count(), before().nfkd().count()];
    forms.contains(&start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn utf16_units_are_recognised() {
        let context = "🦀🦀 crab, crab";
        assert_eq!(at(context, "crab", 3).unwrap().start, 3);
        assert_eq!(at(context, "crab", 5).unwrap().start, 3);
        assert_eq!(at(context, "crab", 11).unwrap().start, 9);
        assert_eq!(at(context, "crab", 4), None);
        assert_eq!(at(context, "crab", 400), None);
    }

    #[test]
    fn another_unicode_form_is_recognised() {
        let context = "Zoe\u{308} met Bjo\u{308}rn.";
        for start in [9, 8] {
            assert_eq!(at(context, "Björn", start), Some(Answer { text: "Bjo\u{308}rn".into(), start: 9 }));
        }
        assert_eq!(at("Zoë met Björn.", "Bjo\u{308}rn", 9).unwrap(), Answer { text: "Björn".into(), start: 8 });
        assert_eq!(at(context, "Bjo", 9).unwrap().start, 9, "as it stands there");
        assert_eq!(at("for 12\u{a0}kr", "12 kr", 4).unwrap().text, "12\u{a0}kr");
        assert_eq!(at(context, "Björn", 3), None);
    }

    #[test]
    fn an_answer_without_a_place_must_stand_there_once() {
        assert_eq!(only("a b a", "b").unwrap().start, 2);
        assert_eq!((only("a b a", "a"), only("a b a", "c")), (Err(2), Err(0)));
    }

    proptest! {
        #[test]
        fn what_is_found_is_in_the_context(context in "[ae\u{308}é🦀 ]{0,20}", text in "[ae\u{308}é🦀]{1,3}", start in 0usize..25) {
            if let Some(found) = at(&context, &text, start) {
                prop_assert!(found.bytes_in(&context).is_some());
                prop_assert_eq!(found.text.nfkd().collect::<String>(), text.nfkd().collect::<String>());
            }
        }
    }
}
