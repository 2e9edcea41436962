//! What differs between the architectures: the names of their parameters and the fields of their config.json.

use crate::config::{Architecture, Config};
use crate::family::Family;
use crate::fields::Fields;
use crate::names::Names;
use crate::{ModelError, bert, deberta, distilbert, electra, modernbert, mpnet, roberta};
use serde_json::{Map, Value};

/// What is applied between a head's dense layer and its classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Tanh,
    Relu,
    Gelu,
}

impl Architecture {
    /// The architecture of a config.json, by its `model_type`.
    pub(crate) fn of_type(model_type: &str) -> Option<Architecture> {
        Architecture::all().find(|architecture| architecture.model_type() == model_type)
    }

    pub(crate) fn all() -> impl Iterator<Item = Architecture> {
        let families = Family::ALL.into_iter().map(Architecture::Roberta);
        [Architecture::Bert, Architecture::DistilBert].into_iter().chain(families).chain([
            Architecture::Mpnet,
            Architecture::Electra,
            Architecture::ModernBert,
            Architecture::Deberta,
        ])
    }

    /// `model_type` in its config.json.
    pub(crate) fn model_type(self) -> &'static str {
        match self {
            Architecture::Bert => "bert",
            Architecture::DistilBert => "distilbert",
            Architecture::Roberta(family) => family.model_type(),
            Architecture::Mpnet => "mpnet",
            Architecture::Electra => "electra",
            Architecture::ModernBert => "modernbert",
            Architecture::Deberta => "deberta-v2",
        }
    }

    /// How its classes in transformers begin.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Architecture::Bert => "Bert",
            Architecture::DistilBert => "DistilBert",
            Architecture::Roberta(family) => family.class(),
            Architecture::Mpnet => "MPNet",
            Architecture::Electra => "Electra",
            Architecture::ModernBert => "ModernBert",
            Architecture::Deberta => "DebertaV2",
        }
    }

    /// Whether the classes of one of them in transformers begin so.
    pub(crate) fn has_class(class: &str) -> bool {
        Architecture::all().any(|architecture| architecture.class() == class)
    }

    /// The activation of its head for labels.
    pub(crate) fn activation(self) -> Activation {
        match self {
            Architecture::Bert | Architecture::Roberta(_) | Architecture::Mpnet => Activation::Tanh,
            Architecture::DistilBert => Activation::Relu,
            Architecture::Electra | Architecture::ModernBert | Architecture::Deberta => Activation::Gelu,
        }
    }

    /// Whether numbers are dropped out before its head for answers.
    pub(crate) fn drops_before_spans(self) -> bool {
        matches!(self, Architecture::DistilBert | Architecture::ModernBert)
    }

    /// The names of its parameters.
    pub(crate) fn names(self) -> &'static Names {
        match self {
            Architecture::Bert => &bert::NAMES,
            Architecture::DistilBert => &distilbert::NAMES,
            Architecture::Roberta(_) => &roberta::NAMES,
            Architecture::Mpnet => &mpnet::NAMES,
            Architecture::Electra => &electra::NAMES,
            Architecture::ModernBert => &modernbert::NAMES,
            Architecture::Deberta => &deberta::NAMES,
        }
    }

    /// Reads the dimensions from its config.json.
    pub(crate) fn read_config(self, fields: &Fields) -> Result<Config, ModelError> {
        match self {
            Architecture::Bert => bert::read_config(fields),
            Architecture::DistilBert => distilbert::read_config(fields),
            Architecture::Roberta(family) => roberta::read_config(fields, family),
            Architecture::Mpnet => mpnet::read_config(fields),
            Architecture::Electra => electra::read_config(fields),
            Architecture::ModernBert => modernbert::read_config(fields),
            Architecture::Deberta => deberta::read_config(fields),
        }
    }
}

impl Config {
    /// The fields of config.json that belong to the architecture.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        if let Some(modern) = &self.modern {
            return modernbert::write_config(self, modern);
        }
        if let Some(distances) = &self.disentangled {
            return deberta::write_config(self, distances);
        }
        match self.architecture {
            Architecture::DistilBert => distilbert::write_config(self),
            Architecture::Mpnet => mpnet::write_config(self),
            Architecture::Electra => electra::write_config(self),
            _ => bert::write_config(self),
        }
    }
}
