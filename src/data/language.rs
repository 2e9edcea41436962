//! Words, and the ends of sentences and questions, in any script.

use unicode_segmentation::UnicodeSegmentation;

/// The words of a text, as Unicode divides it (UAX #29): a Chinese, Japanese or Thai character without spaces around it counts as one.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.unicode_words()
}

/// What ends a question: `?` in the scripts that have their own; the Greek one is U+037E.
const QUESTION: &str = "?？؟⁇⁈⁉‽՞\u{37e}፧︖﹖";
/// What ends another sentence.
const SENTENCE: &str = ".!…。！｡．‼‥。۔।॥։።။៕᠃᠉᥄᱾꓿︒﹒﹗";
/// What may stand behind an end: quotation marks and brackets.
const CLOSING: &str = "\"'”’»›」』）)]】》〉";

/// Whether a character is of a script that puts no spaces between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese.
pub fn stands_close(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

fn ends_sentence(c: char) -> bool {
    SENTENCE.contains(c) || QUESTION.contains(c)
}

/// Whether a text ends with a sentence.
pub fn is_finished(text: &str) -> bool {
    text.trim_end_matches(|c| CLOSING.contains(c)).ends_with(ends_sentence)
}

/// Whether a text ends with a question. In Greek that is mostly written with an ordinary semicolon.
pub fn is_question(text: &str) -> bool {
    let text = text.trim_end_matches(|c| CLOSING.contains(c));
    let greek = |text: &str| text.ends_with(|c| matches!(c, '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}'));
    text.ends_with(|c| QUESTION.contains(c)) || text.strip_suffix(';').is_some_and(greek)
}

/// Truncates a cut-off text after its last complete sentence; the whole text if there is none.
pub fn whole_sentences(text: &str) -> &str {
    let Some((at, end)) = text.char_indices().rev().find(|(_, c)| ends_sentence(*c)) else { return text };
    let behind = at + end.len_utf8();
    let closing = text[behind..].chars().take_while(|c| CLOSING.contains(*c)).map(char::len_utf8).sum::<usize>();
    &text[..behind + closing]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_every_script() {
        for (text, count) in [
            ("It's a fine film, isn't it?", 6),
            ("这部电影非常感人。", 8),
            ("映画はよかった。", 7),
            ("فيلم جميل جدا", 3),
            ("Ein schöner Film – sehr schön!", 5),
            (" - ! ", 0),
        ] {
            assert_eq!(words(text).count(), count, "{text}");
        }
    }

    #[test]
    fn sentences_and_questions_end_in_every_script() {
        for text in ["Fine.", "好。", "جيد۔", "अच्छा।", "He said \"fine.\"", "「好。」", "Really?!", "Gut!"] {
            assert!(is_finished(text), "{text}");
        }
        for text in ["Who?", "谁？", "من؟", "ποιος\u{37e}", "「谁？」"] {
            assert!(is_question(text) && is_finished(text), "{text}");
        }
        assert!(is_question("ποιος;") && !is_question("He ran;") && !is_finished("He ran;"));
        assert!(!is_finished("and then") && !is_question("Fine.") && !is_finished(""));
    }

    #[test]
    fn a_cut_off_text_keeps_its_complete_sentences() {
        assert_eq!(whole_sentences("It begins. It goes on… and th"), "It begins. It goes on…");
        assert_eq!(whole_sentences("It begins and th"), "It begins and th");
        assert_eq!(whole_sentences("他说“好。”然后"), "他说“好。”");
    }
}
