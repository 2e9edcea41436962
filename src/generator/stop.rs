//! Joins the bytes of tokens into a text and finds stop strings.

/// The text of a completion in progress. A token may end in the middle of a character.
pub struct GrowingText {
    bytes: Vec<u8>,
    stop: Vec<String>,
    /// Length of the longest stop string in bytes.
    longest: usize,
}

impl GrowingText {
    /// The text ends before the first stop string; none of `stop` may be empty.
    pub fn new(stop: Vec<String>) -> Self {
        let longest = stop.iter().map(String::len).max().unwrap_or(0);
        GrowingText { bytes: Vec::new(), stop, longest }
    }

    /// Appends the bytes of a token. Returns true once a stop string is complete, even across tokens; the text is then cut before the
    /// earliest one.
    pub fn push(&mut self, piece: &[u8]) -> bool {
        let searched = (self.bytes.len() + 1).saturating_sub(self.longest);
        self.bytes.extend_from_slice(piece);
        let found = self.stop.iter().filter_map(|stop| find(&self.bytes[searched..], stop.as_bytes())).min();
        if let Some(at) = found {
            self.bytes.truncate(searched + at);
        }
        found.is_some()
    }

    /// The text: an incomplete character at the end is dropped, other invalid bytes become U+FFFD.
    pub fn into_text(mut self) -> String {
        if let Err(error) = std::str::from_utf8(&self.bytes[complete_from(&self.bytes)..])
            && error.error_len().is_none()
        {
            let whole = complete_from(&self.bytes) + error.valid_up_to();
            self.bytes.truncate(whole);
        }
        String::from_utf8(self.bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

/// The start of the last, possibly incomplete character: the last byte that is not a continuation byte.
fn complete_from(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| byte & 0xC0 != 0x80).unwrap_or(0)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len().max(1)).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(pieces: &[&[u8]], stop: &[&str]) -> (String, bool) {
        let mut text = GrowingText::new(stop.iter().map(|stop| stop.to_string()).collect());
        let stopped = pieces.iter().any(|piece| text.push(piece));
        (text.into_text(), stopped)
    }

    #[test]
    fn a_stop_string_may_span_tokens() {
        assert_eq!(write(&[b"Good film", b".\n", b"\nNext"], &["\n\n"]), ("Good film.".into(), true));
        assert_eq!(write(&[b"a#", b"#", b"#b"], &["###"]), ("a".into(), true));
    }

    #[test]
    fn the_earliest_stop_string_wins() {
        assert_eq!(write(&[b"one \"two\" END"], &["END", "\""]), ("one ".into(), true));
    }

    #[test]
    fn a_character_may_span_tokens() {
        let cafe = "café ☕".as_bytes();
        assert_eq!(write(&[&cafe[..4], &cafe[4..7], &cafe[7..]], &[]), ("café ☕".into(), false));
        assert_eq!(write(&[&cafe[..7]], &[]), ("café ".into(), false), "half a character at the end is dropped");
        assert_eq!(write(&[b"a\xFFb"], &[]), ("a\u{FFFD}b".into(), false));
        assert_eq!(write(&[b"\x80\x80"], &[]), ("\u{FFFD}\u{FFFD}".into(), false));
    }

    proptest! {
        #[test]
        fn the_split_into_tokens_does_not_matter(text in "[abé☕]{0,30}", cuts in prop::collection::vec(0..40usize, 0..10), stop in "[abé]{1,3}") {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let want = text.split_once(&stop).map_or((text.clone(), false), |(before, _)| (before.to_string(), true));
            prop_assert_eq!(write(&pieces, &[&stop]), want);
        }

        #[test]
        fn any_bytes_give_a_text(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let (text, _) = write(&[&bytes], &[]);
            let whole = String::from_utf8_lossy(&bytes);
            prop_assert!(whole.starts_with(&text));
        }
    }
}
