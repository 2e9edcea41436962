//! The screen of `lacuna review`: one doubtful row at a time, a key for each decision.

use std::io::IsTerminal;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, List, ListState, Paragraph, Wrap};
use ratatui::{DefaultTerminal, Frame};

use super::doubts::Doubt;
use crate::error::{Error, Result};
use crate::run::review::Verdict;

/// Keeps a decision about a row.
type Keep<'k> = &'k mut dyn FnMut(&Doubt, Verdict, Option<String>) -> Result<()>;

/// # Errors
/// This is no terminal.
pub(super) fn check_terminal() -> Result<()> {
    match std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        true => Ok(()),
        false => {
            Err(Error::Failed("this is no terminal: --csv FILE writes the rows into a file, --decisions FILE reads it again".to_string()))
        }
    }
}

/// Shows the rows until the person leaves; each decision is kept at once, and the last one about a row counts.
///
/// # Errors
/// No terminal; a decision that cannot be kept.
pub(super) fn show(doubts: &[Doubt], names: &[String], keep: Keep) -> Result<()> {
    let error =
        |error: std::io::Error| Error::Failed(format!("the terminal cannot be used: {error}; --csv FILE writes the rows into a file"));
    let mut terminal = ratatui::try_init().inspect_err(|_| ratatui::restore()).map_err(error)?;
    // What was typed before there was a row to see is no decision.
    while event::poll(Duration::ZERO).is_ok_and(|waiting| waiting) && event::read().is_ok() {}
    let outcome = ask(&mut terminal, Screen::new(doubts, names), keep);
    ratatui::restore();
    outcome.map_err(error)?
}

fn ask(terminal: &mut DefaultTerminal, mut screen: Screen, keep: Keep) -> std::io::Result<Result<()>> {
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        let Event::Key(key) = event::read()? else { continue };
        if key.kind != KeyEventKind::Press {
            continue;
        }
        match screen.press(key.code, key.modifiers) {
            Pressed::Nothing => {}
            Pressed::Leave => return Ok(Ok(())),
            Pressed::Decided(verdict, label) => {
                let said = in_words(verdict, label.as_deref());
                if let Err(error) = keep(&screen.doubts[screen.at], verdict, label) {
                    return Ok(Err(error));
                }
                screen.decided(said);
            }
        }
    }
}

fn in_words(verdict: Verdict, label: Option<&str>) -> String {
    match verdict {
        Verdict::Accept => "accepted".to_string(),
        Verdict::Reject => "rejected".to_string(),
        Verdict::Relabel => format!("relabelled: {}", label.unwrap_or_default()),
    }
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
enum Pressed {
    Nothing,
    Decided(Verdict, Option<String>),
    Leave,
}

struct Screen<'d> {
    doubts: &'d [Doubt],
    names: &'d [String],
    /// What was decided here about each row; the last decision counts.
    said: Vec<Option<String>>,
    at: usize,
    /// Lines of the text that are above the screen.
    scrolled: u16,
    /// The list of labels, while one is chosen.
    labels: Option<ListState>,
}

impl<'d> Screen<'d> {
    fn new(doubts: &'d [Doubt], names: &'d [String]) -> Self {
        Screen { doubts, names, said: vec![None; doubts.len()], at: 0, scrolled: 0, labels: None }
    }

    /// Notes what was decided, and goes to the next row that nothing was decided about, if there is one.
    fn decided(&mut self, said: String) {
        (self.labels, self.said[self.at]) = (None, Some(said));
        let open = |place: &usize| self.said[*place].is_none();
        let next = (self.at + 1..self.doubts.len()).chain(0..self.at).find(open);
        self.go_to(next.unwrap_or(self.at));
    }

    fn go_to(&mut self, place: usize) {
        (self.at, self.scrolled) = (place, 0);
    }

    fn press(&mut self, key: KeyCode, with: KeyModifiers) -> Pressed {
        match with.difference(KeyModifiers::SHIFT).is_empty() {
            false if key == KeyCode::Char('c') && with.contains(KeyModifiers::CONTROL) => return Pressed::Leave,
            false => return Pressed::Nothing,
            true => {}
        }
        if let Some(list) = &mut self.labels {
            match key {
                KeyCode::Up => list.select_previous(),
                KeyCode::Down => list.select_next(),
                KeyCode::Esc => self.labels = None,
                KeyCode::Enter => {
                    let chosen = list.selected().and_then(|place| self.names.get(place)).cloned();
                    return chosen.map_or(Pressed::Nothing, |label| Pressed::Decided(Verdict::Relabel, Some(label)));
                }
                _ => {}
            }
            return Pressed::Nothing;
        }
        match key {
            KeyCode::Char('a') => return Pressed::Decided(Verdict::Accept, None),
            KeyCode::Char('r') => return Pressed::Decided(Verdict::Reject, None),
            KeyCode::Char('q') | KeyCode::Esc => return Pressed::Leave,
            KeyCode::Char('l') => {
                // The cursor begins on what the others say.
                let doubt = &self.doubts[self.at];
                let (other, _) = doubt.judged.as_ref().filter(|(label, _)| *label != doubt.label).unwrap_or(&doubt.predicted);
                let said = self.names.iter().position(|name| name == other);
                self.labels = Some(ListState::default().with_selected(said));
            }
            KeyCode::Right => self.go_to((self.at + 1).min(self.doubts.len() - 1)),
            KeyCode::Left => self.go_to(self.at.saturating_sub(1)),
            KeyCode::Down => self.scrolled = self.scrolled.saturating_add(1),
            KeyCode::Up => self.scrolled = self.scrolled.saturating_sub(1),
            _ => {}
        }
        Pressed::Nothing
    }

    fn draw(&mut self, frame: &mut Frame) {
        let doubt = &self.doubts[self.at];
        let [head, text, foot] = Layout::vertical([Constraint::Length(4), Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
        let says = |who: &str, (label, p): &(String, f64)| Line::from(format!("{who:<8}{label}, {:.0} %", 100.0 * p));
        let said = self.said[self.at].as_ref().map_or(String::new(), |said| format!(" · {said}, unless you decide again"));
        let place = format!("{} of {} · {}{said}", self.at + 1, self.doubts.len(), doubt.id);
        let lines = vec![
            Line::from(place).style(Style::new().dim()),
            Line::from(format!("{:<8}{}", "label", doubt.label)).style(Style::new().bold()),
            doubt.judged.as_ref().map_or_else(|| Line::from("judge   not asked"), |judged| says("judge", judged)),
            says("model", &doubt.predicted),
        ];
        frame.render_widget(Paragraph::new(lines), head);
        let whole = doubt.text_pair.as_ref().map_or(doubt.text.clone(), |pair| format!("{}\n\n{pair}", doubt.text));
        if let Some(list) = &mut self.labels {
            let names = List::new(self.names.iter().map(String::as_str)).highlight_symbol("> ").block(Block::bordered().title("its label"));
            frame.render_stateful_widget(names, text, list);
        } else {
            frame.render_widget(Paragraph::new(whole).wrap(Wrap { trim: false }).scroll((self.scrolled, 0)).block(Block::bordered()), text);
        }
        let keys = if self.labels.is_some() {
            "↑ ↓ enter   esc back"
        } else if self.said.iter().all(Option::is_some) {
            "all are decided: q leave   ← → rows   a r l decide again"
        } else {
            "a accept  r reject  l label  ← → rows  ↑ ↓ text  q leave"
        };
        frame.render_widget(Paragraph::new(keys).style(Style::new().dim()), foot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn doubts() -> Vec<Doubt> {
        ["A lame comedy.", "Warm and witty."].into_iter().enumerate().map(|(i, text)| Doubt::for_a_test(&format!("0-{i}"), text)).collect()
    }

    #[test]
    fn keys_decide_and_the_list_of_labels_begins_with_what_the_judge_says() {
        let (doubts, names) = (doubts(), vec!["negative".to_string(), "positive".to_string()]);
        let mut screen = Screen::new(&doubts, &names);
        assert_eq!(screen.press(KeyCode::Char('a'), KeyModifiers::NONE), Pressed::Decided(Verdict::Accept, None));
        screen.decided(in_words(Verdict::Accept, None));
        assert_eq!(screen.at, 1);
        assert_eq!(screen.press(KeyCode::Char('l'), KeyModifiers::NONE), Pressed::Nothing);
        assert_eq!(
            screen.press(KeyCode::Char('r'), KeyModifiers::NONE),
            Pressed::Nothing,
            "letters decide nothing while a label is chosen"
        );
        assert_eq!(screen.press(KeyCode::Enter, KeyModifiers::NONE), Pressed::Decided(Verdict::Relabel, Some("positive".to_string())));
        screen.press(KeyCode::Up, KeyModifiers::NONE);
        assert_eq!(screen.press(KeyCode::Enter, KeyModifiers::NONE), Pressed::Decided(Verdict::Relabel, Some("negative".to_string())));
        screen.press(KeyCode::Esc, KeyModifiers::NONE);
        screen.decided(in_words(Verdict::Relabel, Some("negative")));
        assert_eq!(screen.at, 1, "after the last row one can still go back");
        let mut terminal = Terminal::new(TestBackend::new(60, 12)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let shown = terminal.backend().to_string();
        assert!(shown.contains("relabelled: negative, unless you decide") && shown.contains("all are decided: q leave"), "{shown}");
        screen.press(KeyCode::Left, KeyModifiers::NONE);
        assert_eq!((screen.at, screen.said[0].as_deref(), screen.said[1].as_deref()), (0, Some("accepted"), Some("relabelled: negative")));
        assert_eq!(screen.press(KeyCode::Esc, KeyModifiers::NONE), Pressed::Leave);
        let mut screen = Screen::new(&doubts, &names);
        assert_eq!(screen.press(KeyCode::Char('r'), KeyModifiers::CONTROL), Pressed::Nothing);
        assert_eq!(screen.press(KeyCode::Char('c'), KeyModifiers::CONTROL), Pressed::Leave);
    }

    #[test]
    fn the_screen_shows_the_row_and_what_is_said_of_it() {
        let (doubts, names) = (doubts(), vec!["negative".to_string(), "positive".to_string()]);
        let mut terminal = Terminal::new(TestBackend::new(60, 12)).unwrap();
        let mut screen = Screen::new(&doubts, &names);
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let shown = terminal.backend().to_string();
        for part in ["1 of 2 · 0-0", "label   negative", "judge   positive, 90 %", "A lame comedy.", "q leave"] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
    }
}
