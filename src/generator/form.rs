//! Constrained decoding: the output is one of given strings, a span of a context, or a JSON object with given fields.
//!
//! A form is an automaton over bytes. The vocabulary is a trie; walking both together finds the allowed next tokens. To complete the
//! output within its token budget, the last tokens are reserved for the shortest way to an end.

use super::prefix::Token;
use std::collections::HashMap;
use std::sync::Arc;

/// What a completion must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Exactly one of these.
    Choice(Vec<String>),
    /// A verbatim span of whole words of this text; a space before it is not part of the answer.
    Span(String),
    /// One line with a JSON object that has these fields, in this order.
    Json(Vec<Field>),
}

/// A field of a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    /// The allowed values; any string if empty.
    pub one_of: Vec<String>,
}

/// A part of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// One of these byte strings; none of them is a prefix of what follows.
    OneOf(Vec<Vec<u8>>),
    /// The content of a JSON string, and its closing quotation mark.
    JsonText,
}

/// The automaton's state: what decides which bytes may follow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// After `at` bytes of a part whose remaining choices are `alive`.
    Choosing {
        part: usize,
        alive: Vec<u32>,
        at: usize,
    },
    /// Inside a JSON string.
    Text {
        part: usize,
        inside: Inside,
    },
    /// In a span: the byte positions of the context that it may have reached; before its first byte, those where it may begin.
    Span {
        ends: Vec<u32>,
        begun: bool,
        spaced: bool,
    },
    End,
}

/// The position in a JSON string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Inside {
    Between,
    Escape,
    /// Inside a UTF-8 character: the number of bytes left, and the bounds of the next byte.
    Character {
        more: u8,
        low: u8,
        high: u8,
    },
}

/// A compiled form.
struct Automaton {
    parts: Vec<Part>,
    context: Vec<u8>,
}

impl Automaton {
    fn new(form: &Form) -> Self {
        match form {
            Form::Choice(choices) => {
                Automaton { parts: vec![Part::OneOf(choices.iter().map(|choice| choice.clone().into_bytes()).collect())], context: vec![] }
            }
            Form::Span(context) => Automaton { parts: vec![], context: context.clone().into_bytes() },
            Form::Json(fields) => Automaton { parts: json_parts(fields), context: vec![] },
        }
    }

    fn start(&self) -> State {
        if self.parts.is_empty() {
            let begins = (0..self.context.len()).filter(|&at| begins_word(&self.context, at)).map(|at| at as u32).collect();
            return State::Span { ends: begins, begun: false, spaced: false };
        }
        self.enter(0)
    }

    fn enter(&self, part: usize) -> State {
        match self.parts.get(part) {
            Some(Part::OneOf(choices)) => State::Choosing { part, alive: (0..choices.len() as u32).collect(), at: 0 },
            Some(Part::JsonText) => State::Text { part, inside: Inside::Between },
            None => State::End,
        }
    }

    /// The state after one more byte; `None` if the byte is not allowed.
    fn next(&self, state: &State, byte: u8) -> Option<State> {
        match state {
            State::Choosing { part, alive, at } => self.choose(*part, alive, *at, byte),
            State::Text { part, inside } => match inside.next(byte)? {
                Some(inside) => Some(State::Text { part: *part, inside }),
                None => Some(self.enter(part + 1)),
            },
            State::Span { begun: false, spaced: false, ends } if byte == b' ' => {
                Some(State::Span { ends: ends.clone(), begun: false, spaced: true })
            }
            State::Span { ends, spaced, .. } => {
                let goes_on = |&&end: &&u32| self.context.get(end as usize) == Some(&byte);
                let ends: Vec<u32> = ends.iter().filter(goes_on).map(|end| end + 1).collect();
                (!ends.is_empty()).then_some(State::Span { ends, begun: true, spaced: *spaced })
            }
            State::End => None,
        }
    }

    /// Continues the choices that have this byte next; if none has and one is complete, moves on to the next part.
    fn choose(&self, part: usize, alive: &[u32], at: usize, byte: u8) -> Option<State> {
        let Part::OneOf(choices) = &self.parts[part] else { return None };
        let next = |choice: u32| choices[choice as usize].get(at);
        let left: Vec<u32> = alive.iter().copied().filter(|&choice| next(choice) == Some(&byte)).collect();
        if left.is_empty() {
            let complete = alive.iter().any(|&choice| next(choice).is_none());
            return if complete && part + 1 < self.parts.len() { self.next(&self.enter(part + 1), byte) } else { None };
        }
        let over = left.iter().all(|&choice| choices[choice as usize].len() == at + 1);
        Some(if over { self.enter(part + 1) } else { State::Choosing { part, alive: left, at: at + 1 } })
    }

    /// Whether the output may end here.
    fn may_end(&self, state: &State) -> bool {
        match state {
            State::End => true,
            State::Choosing { part, alive, at } => {
                let Part::OneOf(choices) = &self.parts[*part] else { return false };
                part + 1 == self.parts.len() && alive.iter().any(|&choice| choices[choice as usize].len() == *at)
            }
            State::Text { .. } => false,
            State::Span { ends, begun, .. } => *begun && ends.iter().any(|&end| ends_word(&self.context, end as usize)),
        }
    }

    /// The shortest bytes that complete the output; a span may be cut off anywhere and needs none.
    fn shortest_end(&self, state: &State) -> Vec<u8> {
        let (part, mut bytes) = match state {
            State::End | State::Span { .. } => return Vec::new(),
            State::Choosing { part, alive, at } => {
                let Part::OneOf(choices) = &self.parts[*part] else { return Vec::new() };
                let rest = alive.iter().map(|&choice| &choices[choice as usize][*at..]).min_by_key(|rest| rest.len());
                (*part, rest.unwrap_or_default().to_vec())
            }
            State::Text { part, inside } => (*part, inside.shortest_end()),
        };
        for part in &self.parts[part + 1..] {
            match part {
                Part::OneOf(choices) => bytes.extend(choices.iter().min_by_key(|choice| choice.len()).into_iter().flatten()),
                Part::JsonText => bytes.push(b'"'),
            }
        }
        bytes
    }
}

impl Inside {
    /// After one more byte of a JSON string: `None` if the byte is not allowed, `Some(None)` if it ends the string.
    fn next(self, byte: u8) -> Option<Option<Self>> {
        let character = |more, low, high| Some(Some(Inside::Character { more, low, high }));
        match (self, byte) {
            (Inside::Between, b'"') => Some(None),
            (Inside::Between, b'\\') => Some(Some(Inside::Escape)),
            (Inside::Between, 0x20..0x7F) => Some(Some(Inside::Between)),
            // Well-formed UTF-8: The Unicode Standard, table 3-7.
            (Inside::Between, 0xC2..=0xDF) => character(1, 0x80, 0xBF),
            (Inside::Between, 0xE0) => character(2, 0xA0, 0xBF),
            (Inside::Between, 0xED) => character(2, 0x80, 0x9F),
            (Inside::Between, 0xE1..=0xEF) => character(2, 0x80, 0xBF),
            (Inside::Between, 0xF0) => character(3, 0x90, 0xBF),
            (Inside::Between, 0xF1..=0xF3) => character(3, 0x80, 0xBF),
            (Inside::Between, 0xF4) => character(3, 0x80, 0x8F),
            (Inside::Escape, b'"' | b'\\' | b'/' | b'n' | b't') => Some(Some(Inside::Between)),
            (Inside::Character { more: 1, low, high }, byte) if (low..=high).contains(&byte) => Some(Some(Inside::Between)),
            (Inside::Character { more, low, high }, byte) if (low..=high).contains(&byte) => character(more - 1, 0x80, 0xBF),
            _ => None,
        }
    }

    fn shortest_end(self) -> Vec<u8> {
        match self {
            Inside::Between => b"\"".to_vec(),
            Inside::Escape => b"n\"".to_vec(),
            Inside::Character { more, low, .. } => {
                let mut bytes = vec![0x80; usize::from(more)];
                bytes[0] = low;
                bytes.push(b'"');
                bytes
            }
        }
    }
}

fn json_parts(fields: &[Field]) -> Vec<Part> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let inner = |text: &String| quoted(text).trim_start_matches('"').as_bytes()[..quoted(text).len() - 2].to_vec();
    let mut parts = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let before = if i == 0 { "{" } else { ", " };
        parts.push(Part::OneOf(vec![format!("{before}{}: \"", quoted(&field.name)).into_bytes()]));
        if field.one_of.is_empty() {
            parts.push(Part::JsonText);
        } else {
            parts.push(Part::OneOf(field.one_of.iter().map(inner).collect()));
            parts.push(Part::OneOf(vec![b"\"".to_vec()]));
        }
    }
    parts.push(Part::OneOf(vec![b"}".to_vec()]));
    parts
}

/// Letters, digits and everything beyond ASCII.
fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

fn begins_word(context: &[u8], at: usize) -> bool {
    !context[at].is_ascii_whitespace() && (at == 0 || !in_word(context[at - 1]) || !in_word(context[at]))
}

fn ends_word(context: &[u8], end: usize) -> bool {
    !context[end - 1].is_ascii_whitespace() && (end == context.len() || !in_word(context[end]) || !in_word(context[end - 1]))
}

impl Form {
    /// Refuses an invalid form, and a `max_tokens` that may be too small for it, at one byte per token.
    pub fn check(&self, max_tokens: usize) -> Result<(), String> {
        let empty = match self {
            Form::Choice(choices) => choices.is_empty() || choices.iter().any(String::is_empty),
            Form::Span(context) => context.trim().is_empty(),
            Form::Json(fields) => fields.is_empty() || fields.iter().any(|field| field.one_of.iter().any(String::is_empty)),
        };
        if empty {
            return Err("the form is empty: it needs choices, a context or fields, none of them empty".into());
        }
        let automaton = Automaton::new(self);
        let least = automaton.shortest_end(&automaton.start()).len();
        if max_tokens < least {
            return Err(format!("max_tokens is {max_tokens}, but the form may need {least}"));
        }
        Ok(())
    }
}

/// The bytes of all tokens, as a trie.
pub struct Vocabulary {
    /// The children of a node are neighbours, in the order of their bytes.
    nodes: Vec<TrieNode>,
    /// The bytes of each token.
    pieces: Vec<Vec<u8>>,
    /// The end-of-text tokens.
    ends: Vec<Token>,
}

#[derive(Clone, Copy)]
struct TrieNode {
    byte: u8,
    /// Its children are `children..children + n_children`.
    children: u32,
    n_children: u16,
    /// The token whose last byte is this node.
    token: Option<Token>,
}

impl Vocabulary {
    /// `pieces` are the bytes of every token, empty for control tokens; `ends` the end-of-text tokens.
    pub fn new(pieces: Vec<Vec<u8>>, ends: Vec<Token>) -> Self {
        let mut order: Vec<(&[u8], Token)> = pieces.iter().zip(0..).map(|(piece, token)| (&piece[..], token)).collect();
        order.retain(|(piece, _)| !piece.is_empty());
        order.sort();
        let mut nodes = vec![TrieNode { byte: 0, children: 0, n_children: 0, token: None }];
        // (node, the tokens below it, its depth in bytes), level by level.
        let mut open = vec![(0usize, 0..order.len(), 0usize)];
        let mut next = 0;
        while let Some((node, range, depth)) = open.get(next).cloned() {
            next += 1;
            let ending = order[range.clone()].iter().take_while(|(piece, _)| piece.len() == depth).count();
            nodes[node].token = order[range.clone()][..ending].first().map(|&(_, token)| token);
            nodes[node].children = nodes.len() as u32;
            let mut start = range.start + ending;
            for same in order[start..range.end].chunk_by(|a, b| a.0[depth] == b.0[depth]) {
                open.push((nodes.len(), start..start + same.len(), depth + 1));
                nodes.push(TrieNode { byte: same[0].0[depth], children: 0, n_children: 0, token: None });
                nodes[node].n_children += 1;
                start += same.len();
            }
        }
        Vocabulary { nodes, pieces, ends }
    }

    /// The tokens that are allowed next.
    fn allowed(&self, automaton: &Automaton, state: &State) -> Vec<Token> {
        let mut allowed = if automaton.may_end(state) { self.ends.clone() } else { Vec::new() };
        let mut open = vec![(0usize, state.clone())];
        while let Some((node, state)) = open.pop() {
            let TrieNode { children, n_children, .. } = self.nodes[node];
            for child in children as usize..children as usize + usize::from(n_children) {
                if let Some(after) = automaton.next(&state, self.nodes[child].byte) {
                    allowed.extend(self.nodes[child].token);
                    open.push((child, after));
                }
            }
        }
        allowed.sort_unstable();
        allowed
    }
}

/// Keeps one completion to its form.
pub struct Guide<'v> {
    vocabulary: &'v Vocabulary,
    automaton: Automaton,
    state: State,
    /// Cache of allowed tokens: states inside a string recur.
    known: HashMap<State, Arc<[Token]>>,
}

impl<'v> Guide<'v> {
    /// `form` has passed [`Form::check`].
    pub fn new(form: &Form, vocabulary: &'v Vocabulary) -> Self {
        let automaton = Automaton::new(form);
        let state = automaton.start();
        Guide { vocabulary, automaton, state, known: HashMap::new() }
    }

    /// The tokens that may come next when `budget` tokens are left, including this one. Never empty if every single byte is a token of
    /// the vocabulary.
    pub fn allowed(&mut self, budget: usize) -> Arc<[Token]> {
        let rest = self.automaton.shortest_end(&self.state);
        if !rest.is_empty() && rest.len() + self.longest_detour() > budget {
            let hurry = Automaton { parts: vec![Part::OneOf(vec![rest])], context: vec![] };
            return self.vocabulary.allowed(&hurry, &hurry.start()).into();
        }
        if let Some(known) = self.known.get(&self.state) {
            return known.clone();
        }
        let allowed: Arc<[Token]> = self.vocabulary.allowed(&self.automaton, &self.state).into();
        self.known.insert(self.state.clone(), allowed.clone());
        allowed
    }

    /// The most bytes by which one token can lengthen the shortest way to an end: it may open a character or an escape, or begin a longer
    /// choice.
    fn longest_detour(&self) -> usize {
        let spread = |part: &Part| match part {
            Part::OneOf(choices) => {
                let lengths = || choices.iter().map(Vec::len);
                lengths().max().unwrap_or(0) - lengths().min().unwrap_or(0)
            }
            Part::JsonText => 3,
        };
        1 + self.automaton.parts.iter().map(spread).max().unwrap_or(0)
    }

    /// Records a written token; returns true when the output is complete.
    pub fn push(&mut self, token: Token) -> bool {
        let piece = usize::try_from(token).ok().and_then(|token| self.vocabulary.pieces.get(token)).map_or(&[][..], |piece| piece);
        for &byte in piece {
            // An allowed token always has a next state; any other token would end the output.
            self.state = self.automaton.next(&self.state, byte).unwrap_or(State::End);
        }
        match &self.state {
            State::End => true,
            State::Span { ends, .. } => ends.iter().all(|&end| end as usize == self.automaton.context.len()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::seq::IndexedRandom;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    /// All single bytes, some words and pieces, and an end token last.
    fn vocabulary() -> Vocabulary {
        let mut pieces: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let words =
            ["pos", "positive", "neg", "ative", " the", "the ", "\", \"", "{\"text\": \"", "\"}", "Paris", " Par", "is", "é", "a\\", "}\n"];
        pieces.extend(words.map(|word| word.as_bytes().to_vec()));
        pieces.push(Vec::new());
        let end = pieces.len() as Token - 1;
        Vocabulary::new(pieces, vec![end])
    }

    /// Writes random allowed tokens.
    fn write(form: &Form, seed: u64, max_tokens: usize) -> (String, bool) {
        assert_eq!(form.check(max_tokens), Ok(()));
        let vocabulary = vocabulary();
        let end = vocabulary.ends[0];
        let (mut guide, mut bytes, mut rng) = (Guide::new(form, &vocabulary), Vec::new(), ChaCha8Rng::seed_from_u64(seed));
        for written in 0..max_tokens {
            let token = *guide.allowed(max_tokens - written).choose(&mut rng).expect("some token is always allowed");
            bytes.extend(&vocabulary.pieces[token as usize]);
            if token == end || guide.push(token) {
                return (String::from_utf8(bytes).expect("valid UTF-8"), true);
            }
        }
        (String::from_utf8_lossy(&bytes).into_owned(), false)
    }

    fn choice(choices: &[&str]) -> Form {
        Form::Choice(choices.iter().map(|choice| choice.to_string()).collect())
    }

    fn row() -> Form {
        let labels = vec!["positive".into(), "negative".into(), "a \"b\"".into()];
        Form::Json(vec![Field { name: "text".into(), one_of: vec![] }, Field { name: "label".into(), one_of: labels }])
    }

    #[test]
    fn the_first_allowed_tokens_are_prefixes_of_the_choices() {
        let vocabulary = vocabulary();
        let allowed = Guide::new(&choice(&["positive", "negative"]), &vocabulary).allowed(99);
        let mut pieces: Vec<&str> = allowed.iter().map(|&token| std::str::from_utf8(&vocabulary.pieces[token as usize]).unwrap()).collect();
        pieces.sort_unstable();
        assert_eq!(pieces, ["n", "neg", "p", "pos", "positive"]);
    }

    #[test]
    fn a_choice_may_be_a_prefix_of_another() {
        let seen: std::collections::BTreeSet<String> = (0..200).map(|seed| write(&choice(&["pos", "positive"]), seed, 30).0).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["pos", "positive"]);
    }

    #[test]
    fn impossible_forms_are_refused_with_the_reason() {
        for form in [choice(&[]), choice(&["a", ""]), Form::Span(" ".into()), Form::Json(vec![])] {
            assert!(form.check(99).unwrap_err().contains("the form is empty"));
        }
        assert!(row().check(10).unwrap_err().contains("max_tokens is 10"));
    }

    proptest! {
        #[test]
        fn choices_are_written_whole(seed: u64, budget in 8..30usize) {
            let choices = ["positive", "negative", "posh"];
            let (text, complete) = write(&choice(&choices), seed, budget);
            prop_assert!(complete && choices.contains(&text.as_str()), "{}", text);
        }

        #[test]
        fn rows_are_valid_json_for_any_draws_and_any_budget(seed: u64, budget in 40..160usize) {
            let (text, complete) = write(&row(), seed, budget);
            prop_assert!(complete, "{}", text);
            let row: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            prop_assert!(row["text"].is_string());
            prop_assert!(["positive", "negative", "a \"b\""].contains(&row["label"].as_str().unwrap()));
            prop_assert_eq!(row.as_object().unwrap().len(), 2);
        }

        #[test]
        fn spans_are_whole_words_of_the_context(seed: u64) {
            let context = "In 1889, the tower — called \"la dame\" — opened in Paris; the café came later.";
            let (text, complete) = write(&Form::Span(context.into()), seed, 200);
            let span = text.strip_prefix(' ').unwrap_or(&text);
            prop_assert!(complete && !span.is_empty());
            let found = context.match_indices(span).any(|(at, _)| {
                begins_word(context.as_bytes(), at) && ends_word(context.as_bytes(), at + span.len())
            });
            prop_assert!(found, "{}", span);
        }

        #[test]
        fn the_trie_agrees_with_a_search_of_all_tokens(seed: u64, budget in 40..60usize) {
            let (vocabulary, form) = (vocabulary(), row());
            let mut guide = Guide::new(&form, &vocabulary);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            for _ in 0..budget / 4 {
                let mut found = guide.allowed(10_000).to_vec();
                let follows = |piece: &Vec<u8>| {
                    !piece.is_empty() && piece.iter().try_fold(guide.state.clone(), |state, &byte| guide.automaton.next(&state, byte)).is_some()
                };
                let want: Vec<Token> = vocabulary.pieces.iter().zip(0..).filter(|(piece, _)| follows(piece)).map(|(_, token)| token).collect();
                found.sort_unstable();
                // Of several tokens with the same bytes, the trie has the first only.
                let bytes = |tokens: &[Token]| tokens.iter().map(|&t| vocabulary.pieces[t as usize].clone()).collect::<std::collections::BTreeSet<_>>();
                prop_assert_eq!(bytes(&found), bytes(&want));
                if guide.push(*found.choose(&mut rng).unwrap()) {
                    break;
                }
            }
        }
    }
}
