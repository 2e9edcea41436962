//! The models that have RoBERTa's shape.

/// The models of this shape. They differ in their tokenizers, and in what transformers calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Roberta,
    XlmRoberta,
    Camembert,
}

impl Family {
    pub const ALL: [Family; 3] = [Family::Roberta, Family::XlmRoberta, Family::Camembert];

    /// `model_type` in config.json.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Roberta => "roberta",
            Family::XlmRoberta => "xlm-roberta",
            Family::Camembert => "camembert",
        }
    }

    /// How its classes in transformers begin.
    pub fn class(self) -> &'static str {
        match self {
            Family::Roberta => "Roberta",
            Family::XlmRoberta => "XLMRoberta",
            Family::Camembert => "Camembert",
        }
    }

    /// Its usual spelling.
    pub fn name(self) -> &'static str {
        match self {
            Family::Roberta => "RoBERTa",
            Family::XlmRoberta => "XLM-RoBERTa",
            Family::Camembert => "CamemBERT",
        }
    }
}
