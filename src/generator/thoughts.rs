//! Models that think before they answer: their thoughts are closed before they begin.

/// How a model marks its thoughts: the tag that opens them, and the one that closes them.
const TAGS: [(&str, &str); 10] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<mm:think>", "</mm:think>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
];

/// OpenAI's harmony format: an assistant's turn names its channel, and `final` is the one that people see.
const HARMONY: (&str, &str) = ("<|channel|>", "<|channel|>final<|message|>");

/// ServiceNow's Apriel: what opens its thoughts, and what closes them.
const APRIEL: (&str, &str) = ("Here are my reasoning steps:", "\n[BEGIN FINAL RESPONSE]\n");

/// How the templates of DeepSeek's models begin an assistant's turn.
const DEEPSEEK: &str = "<｜Assistant｜>";

/// What must follow the start of the assistant's turn so that the answer begins behind the thoughts. `source` is the chat template;
/// `turn`, what it renders behind the user's message.
///
/// A thought that the template opens is closed. Models distilled from DeepSeek-R1 whose template opens none open one by themselves: they
/// get an empty one. Other templates that know of thoughts and open none are of models that were asked not to think, or of their siblings
/// that cannot.
pub fn closing(source: &str, turn: &str) -> String {
    let tail = turn.trim_end();
    for (open, close) in TAGS {
        if tail.ends_with(open) {
            let line = if turn.len() > tail.len() { "" } else { "\n" };
            return format!("{line}\n{close}\n\n");
        }
    }
    if tail.ends_with("<|start|>assistant") && source.contains(HARMONY.0) {
        return HARMONY.1.to_string();
    }
    if tail.ends_with(APRIEL.0) {
        return APRIEL.1.to_string();
    }
    let (open, close) = TAGS[0];
    match source.contains(DEEPSEEK) && source.contains(close) && !turn.contains(close) {
        true => format!("{open}\n\n{close}\n\n"),
        false => String::new(),
    }
}

/// Whether a text has a tag of a model's thoughts.
pub fn has_tag(text: &str) -> bool {
    TAGS.iter().any(|(open, close)| text.contains(open) || text.contains(close)) || text.contains(HARMONY.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_thought_is_closed() {
        assert_eq!(closing("", "<|im_start|>assistant\n<think>\n"), "\n</think>\n\n");
        assert_eq!(closing("", "<｜Assistant｜><think>"), "\n\n</think>\n\n");
        assert_eq!(closing("", "[/INST][THINK]"), "\n\n[/THINK]\n\n");
        assert_eq!(closing("", "<|begin_assistant|>\nHere are my reasoning steps:\n"), "\n[BEGIN FINAL RESPONSE]\n");
    }

    #[test]
    fn a_closed_thought_and_a_model_without_any_stay_as_they_are() {
        assert_eq!(closing("</think>", "assistant\n<think>\n\n</think>\n\n"), "");
        assert_eq!(closing("</think>", "<｜Assistant｜></think>"), "");
        assert_eq!(closing("no tags", "<|im_start|>assistant\n"), "");
    }

    #[test]
    fn a_model_that_would_think_by_itself_gets_an_empty_thought() {
        let source = "{% set content = content.split('</think>')[-1] %}{{'<｜Assistant｜>'}}";
        assert_eq!(closing(source, "<｜Assistant｜>"), "<think>\n\n</think>\n\n");
        // LFM2.5-Instruct strips thoughts of earlier turns, Granite 3.3 speaks of them where it is asked to think; neither thinks here.
        let lfm = "{%- if not keep_past_thinking %}{%- set content = content.split('</think>')[-1] %}{%- endif %}<|im_start|>assistant";
        let granite = "{%- if thinking %}Write your thoughts between <think></think>{%- endif %}<|start_of_role|>assistant<|end_of_role|>";
        assert_eq!([closing(lfm, "<|im_end|>\n<|im_start|>assistant\n"), closing(granite, "<|end_of_role|>")], ["", ""]);
    }

    #[test]
    fn harmony_answers_on_the_final_channel() {
        let source = "<|start|>assistant<|channel|>analysis<|message|>";
        assert_eq!(closing(source, "<|end|><|start|>assistant"), "<|channel|>final<|message|>");
    }

    #[test]
    fn tags_of_thoughts_are_seen() {
        assert!(has_tag("<think>Let me see") && has_tag("so it is.</think> Fine.") && !has_tag("I think so < that"));
    }
}
