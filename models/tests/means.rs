//! Classifiers that begin with the mean of a text's hidden states.

mod common;

use common::{batch, configure, copy, golden, labels, load};
use lacuna_models::{Classifier, TextEncoder, reads_means};
use serde_json::json;
use std::fs;

/// (rows, hidden) of a flat buffer, each row less its mean and of length 1.
fn directions(flat: &[f32], hidden: usize) -> Vec<Vec<f32>> {
    let direction = |row: &[f32]| {
        let mean = row.iter().sum::<f32>() / hidden as f32;
        let length = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>().sqrt();
        row.iter().map(|x| (x - mean) / length).collect()
    };
    flat.chunks_exact(hidden).map(direction).collect()
}

#[test]
fn the_classifier_reads_the_mean() {
    // MPNet's relative positions weigh the tokens.
    for (architecture, least) in [("bert", 0.95), ("distilbert", 0.95), ("electra", 0.9), ("deberta", 0.95), ("mpnet", 0.8)] {
        let plain = load(&golden(architecture));
        let (means, batch) = (plain.reading_means(5).unwrap(), batch(&[3, 7, 1, 12]));
        assert_eq!(means.config().num_hidden_layers, plain.config().num_hidden_layers + 1);
        assert!(!means.is_trained());
        let hidden = plain.config().hidden_size;
        let pooled = means.pooled(&batch, 2).unwrap();
        let (wanted, found) = (directions(&plain.features(&batch, 1).unwrap(), hidden), directions(&pooled, hidden));
        for (wanted, found) in wanted.iter().zip(&found) {
            let cosine: f32 = wanted.iter().zip(found).map(|(a, b)| a * b).sum();
            assert!(cosine > least, "{architecture}: {cosine}");
        }
        // Not so large that the activation would flatten them.
        assert!(pooled.iter().all(|x| x.abs() < 5.0) && pooled.iter().any(|x| x.abs() > 0.2));
    }
}

#[test]
fn it_is_saved_as_a_model_of_one_more_layer() {
    for architecture in ["bert", "distilbert"] {
        let folder = copy(architecture);
        let means = load(folder.path()).reading_means(5).unwrap();
        means.save(&folder.path().join("saved"), &TextEncoder::load(folder.path()).unwrap()).unwrap();
        let again = load(&folder.path().join("saved"));
        assert!(again.is_trained());
        assert_eq!(again.logits(&batch(&[3, 7]), 1).unwrap(), means.logits(&batch(&[3, 7]), 1).unwrap());
        assert!(!reads_means(&folder.path().join("saved")).unwrap());
    }
}

#[test]
fn the_last_layer_can_be_set() {
    let mut model = load(&golden("bert"));
    let (batch, hidden) = (batch(&[3, 7]), model.config().hidden_size);
    let pooled = model.pooled(&batch, 1).unwrap();
    let mut weights = vec![0.0; 3 * hidden];
    (weights[0], weights[hidden + 1]) = (2.0, 1.0);
    model.set_last_layer(&weights, &[0.0, 0.5, 7.0]);
    let logits = model.logits(&batch, 1).unwrap();
    for (row, pooled) in logits.chunks_exact(3).zip(pooled.chunks_exact(hidden)) {
        let wanted = [2.0 * pooled[0], pooled[1] + 0.5, 7.0];
        assert!(row.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-5), "{row:?} {wanted:?}");
    }
}

#[test]
fn a_folder_says_whether_its_encoder_reads_means() {
    let folder = copy("bert");
    let says = |architectures: serde_json::Value| {
        configure(folder.path(), json!({"architectures": architectures}));
        reads_means(folder.path()).unwrap()
    };
    assert!(says(json!(["BertModel"])) && says(json!(["DistilBertModel"])));
    assert!(
        ![json!(["BertForMaskedLM"]), json!([]), json!(null), json!(["BertModel", "BertForSequenceClassification"])].into_iter().any(says)
    );
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    for (mean, wanted) in [(true, true), (false, false)] {
        let pooling = json!({"word_embedding_dimension": 32, "pooling_mode_cls_token": !mean, "pooling_mode_mean_tokens": mean});
        fs::write(folder.path().join("1_Pooling/config.json"), pooling.to_string()).unwrap();
        assert_eq!([says(json!(["BertModel"])), says(json!(["BertForMaskedLM"]))], [wanted; 2]);
    }
    fs::write(folder.path().join("1_Pooling/config.json"), "{").unwrap();
    assert!(reads_means(folder.path()).unwrap_err().to_string().contains("1_Pooling"));
}

#[test]
fn a_saved_classifier_of_these_labels_is_trained() {
    let folder = copy("bert");
    let encoder = TextEncoder::load(folder.path()).unwrap();
    load(folder.path()).save(&folder.path().join("saved"), &encoder).unwrap();
    let saved = |names: &[&str]| Classifier::load(&folder.path().join("saved"), &labels(names), 1).unwrap().is_trained();
    assert!(saved(&["a", "b", "c"]) && !saved(&["a", "b"]));
}

/// ModernBERT has a setting, and no layer is added; what config.json says can be taken back.
#[test]
fn a_modernbert_reads_means_by_its_setting() {
    let (first, means) = (load(&golden("modernbert")), load(&golden("modernbert_means")));
    let batch = batch(&[3, 7, 1, 12]);
    assert!(!first.config().mean_pooling() && means.config().mean_pooling());
    assert!(reads_means(&golden("modernbert_means")).unwrap() && !reads_means(&golden("modernbert")).unwrap());
    let there = first.reading_means(5).unwrap();
    assert_eq!(there.config().num_hidden_layers, first.config().num_hidden_layers);
    assert_ne!(there.logits(&batch, 1).unwrap(), first.logits(&batch, 1).unwrap());
    let back = there.reading_first().unwrap().unwrap();
    assert_eq!(back.logits(&batch, 1).unwrap(), first.logits(&batch, 1).unwrap());
    assert!(first.reading_first().unwrap().is_none() && load(&golden("bert")).reading_first().unwrap().is_none());
}
