//! The tokens around a text, by the names that a tokenizer's own files give them.

use serde_json::Value;
use tokenizers::Tokenizer;

/// How texts are framed: `cls text sep`, or `cls text sep pair sep`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The token that begins a row, `[CLS]` or `<s>`.
    pub cls: String,
    /// The token that ends a text, `[SEP]` or `</s>`.
    pub sep: String,
    /// How many of them stand between the texts of a pair: one, or two as in XLM-RoBERTa's tokenizer.
    pub between: usize,
    /// The token type of a pair's second text.
    pub second_type: u32,
}

impl Frame {
    /// The frame of a tokenizer: its tokens are those that `config`, the content of tokenizer_config.json, names as `cls_token` and
    /// `sep_token`, else those of the post-processor, else `[CLS]` and `[SEP]`.
    pub fn of(tokenizer: &Tokenizer, config: Option<&[u8]>) -> Frame {
        let processor = serde_json::to_value(tokenizer.get_post_processor()).unwrap_or_default();
        let config: Value = config.and_then(|config| serde_json::from_slice(config).ok()).unwrap_or_default();
        let named = |key: &str| {
            let name = config[key].as_str().or_else(|| config[key]["content"].as_str())?;
            tokenizer.token_to_id(name).map(|_| name.to_string())
        };
        let mut frame = framed_by(&processor).unwrap_or_else(Frame::of_bert);
        frame.cls = named("cls_token").unwrap_or(frame.cls);
        frame.sep = named("sep_token").unwrap_or(frame.sep);
        frame
    }

    fn of_bert() -> Frame {
        Frame { cls: "[CLS]".into(), sep: "[SEP]".into(), between: 1, second_type: 1 }
    }

    /// Number of tokens beside those of the texts.
    pub fn special(&self, pair: bool) -> usize {
        if pair { 2 + self.between } else { 2 }
    }
}

/// The frame that a post-processor makes; `None` if it makes none.
fn framed_by(processor: &Value) -> Option<Frame> {
    let text = |value: &Value| value[0].as_str().map(str::to_string);
    match processor["type"].as_str()? {
        "BertProcessing" => Some(Frame { cls: text(&processor["cls"])?, sep: text(&processor["sep"])?, ..Frame::of_bert() }),
        "RobertaProcessing" => Some(Frame { cls: text(&processor["cls"])?, sep: text(&processor["sep"])?, between: 2, second_type: 0 }),
        "Sequence" => processor["processors"].as_array()?.iter().find_map(framed_by),
        "TemplateProcessing" => by_template(processor),
        _ => None,
    }
}

fn by_template(processor: &Value) -> Option<Frame> {
    let special = |piece: &Value| piece["SpecialToken"]["id"].as_str().map(str::to_string);
    let single = processor["single"].as_array()?;
    let (cls, sep) = (special(single.first()?)?, special(single.last()?)?);
    let pair = processor["pair"].as_array()?;
    let texts: Vec<usize> = (0..pair.len()).filter(|&i| pair[i].get("Sequence").is_some()).collect();
    let [first, second] = texts[..] else { return None };
    let second_type = pair[second]["Sequence"]["type_id"].as_u64()? as u32;
    // A template that was made for single texts alone puts nothing between two.
    let framed = second > first + 1;
    Some(Frame { cls, sep, between: if framed { second - first - 1 } else { 1 }, second_type: if framed { second_type } else { 1 } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn post_processors_name_their_tokens() {
        let bert = framed_by(&json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}));
        assert_eq!(bert, Some(Frame::of_bert()));
        let roberta = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": true});
        let xlm = Frame { cls: "<s>".into(), sep: "</s>".into(), between: 2, second_type: 0 };
        assert_eq!(framed_by(&roberta), Some(xlm.clone()));
        let (token, text) =
            (|id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}}), |id: &str| json!({"Sequence": {"id": id, "type_id": 0}}));
        let template = json!({
            "type": "TemplateProcessing",
            "single": [token("<s>"), text("A"), token("</s>")],
            "pair": [token("<s>"), text("A"), token("</s>"), token("</s>"), text("B"), token("</s>")],
        });
        assert_eq!(framed_by(&json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]})), Some(xlm));
        let single =
            json!({"type": "TemplateProcessing", "single": [token("[CLS]"), text("A"), token("[SEP]")], "pair": [text("A"), text("B")]});
        assert_eq!(framed_by(&single), Some(Frame::of_bert()));
        assert_eq!(framed_by(&Value::Null), None);
    }
}
