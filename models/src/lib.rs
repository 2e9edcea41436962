//! BERT and its kin: sequence classifiers and span extractors, fine-tuned over packed tokens.
//!
//! ```no_run
//! use lacuna_models::{Classifier, PackedBatch, TextEncoder, TrainConfig, Trainer};
//! # fn main() -> Result<(), lacuna_models::ModelError> {
//! let folder = std::path::Path::new("all-MiniLM-L6-v2");
//! let labels = ["negative".to_string(), "positive".to_string()];
//! let encoder = TextEncoder::load(folder)?;
//! let mut model = Classifier::load(folder, &labels, 1)?;
//! let rows = [encoder.encode("a delight", None, 128)?, encoder.encode("a bore", None, 128)?];
//! let batch = PackedBatch::from_rows(&[&rows[0], &rows[1]]);
//! let mut trainer = Trainer::new(&model, TrainConfig { total_steps: 10, ..TrainConfig::default() });
//! for _ in 0..10 {
//!     trainer.step(&mut model, &batch, &[0.0, 1.0, 1.0, 0.0], &[1.0, 1.0])?;
//! }
//! let logits = model.logits(&batch, 1)?;
//! model.save(std::path::Path::new("classifier"), &encoder)?;
//! # Ok(())
//! # }
//! ```

mod activations;
mod affine;
mod architectures;
mod batch;
mod bert;
mod byte_bpe;
mod caught;
mod checkpoint;
mod classifier;
#[cfg(feature = "candle")]
mod composed;
mod config;
mod config_file;
mod contrastive;
mod cuda;
mod deberta;
mod dense;
mod device;
mod distilbert;
mod electra;
mod encoded;
mod encoder;
mod error;
mod family;
mod features;
mod fields;
mod frame;
mod head;
mod infer;
mod layout;
mod masks;
mod mean_layer;
mod modernbert;
mod mpnet;
mod names;
mod network;
mod optimizer;
mod parameters;
#[cfg(feature = "candle")]
mod placed;
mod pooling;
mod pre_norm;
mod precision;
mod problem;
mod relative;
mod resume;
mod roberta;
mod rounded;
mod save;
mod span;
mod span_extractor;
mod span_loss;
mod spread;
mod targets;
mod tiny;
mod tokenize;
mod train_config;
mod trainer;
mod training_memory;
mod try_out;
mod vocab_txt;
mod weight_files;

pub use batch::PackedBatch;
pub use caught::caught;
pub use classifier::Classifier;
pub use config::{Architecture, Config};
pub use config_file::{SavedHead, saved_head};
pub use contrastive::Pair;
pub use device::Device;
pub use encoded::{Encoded, EncodedQuestion};
pub use error::ModelError;
pub use family::Family;
pub use mean_layer::reads_means;
pub use network::{Forward, Network};
pub use precision::Precision;
pub use problem::Problem;
pub use span::{Span, best_span};
pub use span_extractor::SpanExtractor;
pub use targets::{MicroBatch, Targets};
pub use tokenize::{Reading, TextEncoder};
pub use train_config::TrainConfig;
pub use trainer::{StepOutcome, Trainer};
pub use training_memory::{activation_bytes, fits, training_bytes};
pub use try_out::{detect, try_out};
pub use weight_files::weight_files;
