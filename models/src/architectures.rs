//! What differs between the architectures: the names of their parameters and the fields of their config.json.

use crate::config::{Architecture, Config};
use crate::fields::Fields;
use crate::names::Names;
use crate::{ModelError, bert, distilbert, roberta};
use serde_json::{Map, Value};

impl Architecture {
    /// The names of its parameters.
    pub(crate) fn names(self) -> &'static Names {
        match self {
            Architecture::Bert => &bert::NAMES,
            Architecture::DistilBert => &distilbert::NAMES,
            Architecture::Roberta(_) => &roberta::NAMES,
        }
    }

    /// Reads the dimensions from its config.json.
    pub(crate) fn read_config(self, fields: &Fields) -> Result<Config, ModelError> {
        match self {
            Architecture::Bert => bert::read_config(fields),
            Architecture::DistilBert => distilbert::read_config(fields),
            Architecture::Roberta(family) => roberta::read_config(fields, family),
        }
    }
}

impl Config {
    /// The fields of config.json that belong to the architecture.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        match self.architecture {
            Architecture::Bert => bert::write_config(self),
            Architecture::DistilBert => distilbert::write_config(self),
            Architecture::Roberta(family) => roberta::write_config(self, family),
        }
    }
}
