//! RoBERTa (Liu et al., arXiv 1907.11692) and the models that share its shape: XLM-RoBERTa (which multilingual E5 and BGE-M3 are) and
//! CamemBERT. BERT's encoder, with positions that begin behind the padding's and a head of its own.

use crate::ModelError;
use crate::bert;
use crate::config::{Architecture, Config};
use crate::family::Family;
use crate::fields::Fields;
use crate::names::Names;

/// The parameters of `RobertaForSequenceClassification`. (It drops out numbers of `<s>` before its head's dense layer too; we do not.)
pub const NAMES: Names = Names { prefix: "roberta.", head: "classifier.dense", classifier: "classifier.out_proj", ..bert::NAMES };

/// Reads the fields of a config.json.
pub fn read_config(fields: &Fields, family: Family) -> Result<Config, ModelError> {
    let config = Config { architecture: Architecture::Roberta(family), ..bert::read_config(fields)? };
    let pad_token_id = fields.number("pad_token_id", 1.0)? as u32;
    skip_positions(Config { pad_token_id, ..config }, pad_token_id, fields)
}

/// The dimensions of a model whose positions begin behind the padding's: the table's first rows are that one and those before it.
pub fn skip_positions(config: Config, padding: u32, fields: &Fields) -> Result<Config, ModelError> {
    let (rows, skipped) = (config.max_position_embeddings, padding as usize + 1);
    if rows <= skipped {
        return fields.error(format!("`max_position_embeddings` is {rows}, with padding {padding}"));
    }
    Ok(Config { first_position: skipped, max_position_embeddings: rows - skipped, ..config })
}
