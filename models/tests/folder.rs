//! Model folders: loading, saving, and the messages of refused folders.

mod common;

use common::{batch, configure, copy, golden, labels, load, load_error, rewrite};
use lacuna_models::{Classifier, ModelError, Problem, Reading, TextEncoder};
use proptest::prelude::*;
use serde_json::json;
use std::fs;

#[test]
fn saved_and_loaded_again() {
    for architecture in ["bert", "distilbert"] {
        let folder = copy(architecture);
        let encoder = TextEncoder::load(folder.path()).unwrap();
        let model = load(folder.path());
        let saved = folder.path().join("deep/saved");
        model.save(&saved, &encoder).unwrap();
        model.save(&saved, &encoder).unwrap();
        let again = load(&saved);
        assert_eq!((again.config(), again.flat().unwrap()), (model.config(), model.flat().unwrap()));
        assert_eq!(again.logits(&batch(&[3, 7]), 1).unwrap(), model.logits(&batch(&[3, 7]), 1).unwrap());
        let mut names: Vec<_> = fs::read_dir(&saved).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let expected =
            ["config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"];
        assert_eq!(names, expected);
        let encoded = encoder.encode("a good film", None, 12).unwrap();
        assert_eq!(TextEncoder::load(&saved).unwrap().encode("a good film", None, 12).unwrap(), encoded);
        assert!(fs::read_to_string(saved.join("vocab.txt")).unwrap().starts_with("[PAD]\n[UNK]\n[CLS]\n"));
    }
}

#[test]
fn tokenizer_files_are_copied_or_made_for_the_architecture() {
    let folder = copy("distilbert");
    fs::write(folder.path().join("vocab.txt"), "as it is").unwrap();
    let files = TextEncoder::load(folder.path()).unwrap().files(load(folder.path()).config()).unwrap();
    let file = |name: &str| String::from_utf8(files.iter().find(|(n, _)| *n == name).unwrap().1.clone()).unwrap();
    assert_eq!(file("vocab.txt"), "as it is");
    let config: serde_json::Value = serde_json::from_str(&file("tokenizer_config.json")).unwrap();
    assert_eq!(config["model_input_names"], json!(["input_ids", "attention_mask"]));
    assert_eq!(config["model_max_length"], 12);
    let tokenizer: serde_json::Value = serde_json::from_str(&file("tokenizer.json")).unwrap();
    assert!(tokenizer["padding"].is_null() && tokenizer["truncation"].is_null());
}

#[test]
fn a_saved_model_says_how_it_reads() {
    let folder = copy("bert");
    let mut encoder = TextEncoder::load(folder.path()).unwrap();
    let saved = |encoder: &TextEncoder| {
        load(folder.path()).save(&folder.path().join("saved"), encoder).unwrap();
        TextEncoder::load(&folder.path().join("saved")).unwrap().reading()
    };
    assert_eq!(saved(&encoder), Some(Reading { max_tokens: 12, stride: None }));
    encoder.set_reading(Reading { max_tokens: 9, stride: Some(3) });
    assert_eq!(saved(&encoder), Some(Reading { max_tokens: 9, stride: Some(3) }));
    // Windows that share nothing are not texts that are cut.
    encoder.set_reading(Reading { max_tokens: 9, stride: Some(0) });
    assert_eq!(saved(&encoder), Some(Reading { max_tokens: 9, stride: Some(0) }));
    // More than the model has positions for.
    encoder.set_reading(Reading { max_tokens: 256, stride: None });
    assert_eq!(saved(&encoder), Some(Reading { max_tokens: 12, stride: None }));
    // What transformers writes where a tokenizer has no bound.
    fs::write(folder.path().join("tokenizer_config.json"), r#"{"model_max_length": 1e30, "do_lower_case": true}"#).unwrap();
    let mut unbounded = TextEncoder::load(folder.path()).unwrap();
    assert_eq!(unbounded.reading(), None);
    unbounded.set_reading(Reading { max_tokens: 8, stride: None });
    assert_eq!(saved(&unbounded), Some(Reading { max_tokens: 8, stride: None }));
    let config: serde_json::Value = serde_json::from_slice(&fs::read(folder.path().join("saved/tokenizer_config.json")).unwrap()).unwrap();
    assert_eq!(config["do_lower_case"], true);
}

#[test]
fn config_json_names_the_labels() {
    let json: serde_json::Value = serde_json::from_str(&load(&golden("bert")).config_json()).unwrap();
    assert_eq!(json["architectures"], json!(["BertForSequenceClassification"]));
    assert_eq!(json["id2label"], json!({"0": "a", "1": "b", "2": "c"}));
    assert_eq!(json["label2id"], json!({"a": 0, "b": 1, "c": 2}));
    assert_eq!(json["hidden_dropout_prob"], json!(0.0));
}

/// Of several labels a text: the problem and the thresholds are saved, in the order of the labels; another problem's head is no
/// trained one.
#[test]
fn several_labels_keep_their_thresholds() {
    let folder = copy("bert_several");
    let names = labels(&["LABEL_0", "LABEL_1", "LABEL_2"]);
    let load = |problem, folder: &std::path::Path, names: &[String]| Classifier::load_for(problem, folder, names, 1).unwrap();
    let mut model = load(Problem::MultiLabel, folder.path(), &names);
    assert!(model.is_trained());
    assert_eq!(model.thresholds(), [0.5; 3]);
    model.set_thresholds(&[0.1, 0.2, 0.3]);
    let saved = folder.path().join("saved");
    model.save(&saved, &TextEncoder::load(folder.path()).unwrap()).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&fs::read(saved.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["problem_type"], "multi_label_classification");
    assert_eq!(lacuna_models::saved_head(&saved).unwrap(), lacuna_models::SavedHead::LabelSets(names.clone()));
    let again = load(Problem::MultiLabel, &saved, &labels(&["LABEL_2", "LABEL_0", "LABEL_1"]));
    assert_eq!(again.thresholds(), [0.3, 0.1, 0.2]);
    let other = load(Problem::SingleLabel, &saved, &names);
    assert!(!other.is_trained());
    assert_eq!(other.thresholds(), [0.5; 3]);
    assert_eq!(lacuna_models::saved_head(&golden("bert")).unwrap(), lacuna_models::SavedHead::Labels(names));
}

/// RoBERTa is BERT with other names, positions that begin behind the padding's, and a head of its own; each name of the family stays.
#[test]
fn roberta_and_its_like_are_saved_as_they_are_named() {
    for (model_type, class) in [("roberta", "Roberta"), ("xlm-roberta", "XLMRoberta"), ("camembert", "Camembert")] {
        let folder = copy("roberta");
        configure(folder.path(), json!({"model_type": model_type, "pad_token_id": 1}));
        let model = load(folder.path());
        assert_eq!((model.config().max_position_embeddings, model.config().first_position), (12, 2));
        let saved = folder.path().join("saved");
        model.save(&saved, &TextEncoder::load(folder.path()).unwrap()).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&fs::read(saved.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["architectures"], json!([format!("{class}ForSequenceClassification")]));
        let of = |name: &str| config[name].clone();
        assert_eq!((of("model_type"), of("max_position_embeddings"), of("pad_token_id")), (json!(model_type), json!(14), json!(1)));
        let names: Vec<String> = model.parameters().map(|(name, ..)| name).collect();
        assert!(names.iter().any(|name| name == "classifier.out_proj.weight") && names.iter().all(|name| !name.contains("pooler")));
        assert_eq!(load(&saved).flat().unwrap(), model.flat().unwrap());
        // The encoder alone, as a checkpoint of its masked language model has it.
        rewrite(folder.path(), |name, shape, data| {
            let encoder = !name.starts_with("classifier.");
            encoder.then(|| (name.strip_prefix("roberta.").unwrap_or(name).to_string(), shape.to_vec(), data))
        });
        let again = load(folder.path());
        let words = model.parameters().next().unwrap().1;
        assert_eq!(again.flat().unwrap()[words.clone()], model.flat().unwrap()[words]);
        fs::remove_file(folder.path().join("config.json")).unwrap();
    }
    let folder = copy("roberta");
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let error = load_error(folder.path());
    assert!(error.contains("RoBERTa without its config.json"), "{error}");
}

/// What was read from a config.json is written, and so read again; the other heads of transformers are replaced.
#[test]
fn other_architectures_are_saved_as_they_are_named() {
    let cases = [
        ("mpnet", "MPNet", json!({"relative_attention_num_buckets": 32, "max_position_embeddings": 14, "type_vocab_size": null})),
        ("electra", "Electra", json!({"embedding_size": 16, "hidden_size": 32})),
        ("modernbert", "ModernBert", json!({"local_attention": 2, "global_attn_every_n_layers": 3, "classifier_pooling": "cls"})),
        ("deberta", "DebertaV2", json!({"position_buckets": 4, "max_relative_positions": 12, "position_biased_input": false})),
        ("modernbert_means", "ModernBert", json!({"classifier_pooling": "mean", "global_rope_theta": 160000.0})),
    ];
    for (kind, class, fields) in cases {
        let folder = copy(kind);
        let model = load(folder.path());
        let saved = folder.path().join("saved");
        model.save(&saved, &TextEncoder::load(folder.path()).unwrap()).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&fs::read(saved.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["architectures"], json!([format!("{class}ForSequenceClassification")]));
        fields.as_object().unwrap().iter().for_each(|(name, value)| assert_eq!(&config[name], value, "{kind}: {name}"));
        let again = load(&saved);
        assert_eq!((again.config(), again.flat().unwrap()), (model.config(), model.flat().unwrap()));
        // The encoder alone, without its prefix.
        rewrite(folder.path(), |name, shape, data| {
            let prefix = if class == "ModernBert" { "model." } else { &format!("{kind}.") };
            name.strip_prefix(prefix).map(|name| (name.to_string(), shape.to_vec(), data))
        });
        let (bare, words) = (load(folder.path()), model.parameters().next().unwrap().1);
        assert_eq!(bare.flat().unwrap()[words.clone()], model.flat().unwrap()[words]);
        assert!(!bare.is_trained());
        for (name, range, shape) in bare.parameters().filter(|(name, ..)| name == "head.norm.weight") {
            assert!(bare.flat().unwrap()[range].iter().all(|&x| x == 1.0), "{name} {shape:?}");
        }
    }
}

#[test]
fn old_names_and_no_prefix() {
    for architecture in ["bert", "distilbert"] {
        let folder = copy(architecture);
        let model = load(folder.path());
        rewrite(folder.path(), |name, shape, data| {
            let name = name.replace(&format!("{architecture}."), "");
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
            Some((name, shape.to_vec(), data))
        });
        assert_eq!(load(folder.path()).flat().unwrap(), model.flat().unwrap());
    }
}

#[test]
fn a_missing_head_is_drawn_from_the_seed() {
    let folder = copy("bert");
    rewrite(folder.path(), |name, shape, data| {
        (name.starts_with("bert.") && !name.contains("pooler")).then(|| (name.into(), shape.to_vec(), data))
    });
    let load = |seed| Classifier::load(folder.path(), &labels(&["a", "b", "c", "d", "e"]), seed).unwrap();
    let (model, same, other) = (load(7), load(7), load(8));
    assert_eq!(model.flat().unwrap(), same.flat().unwrap());
    for (name, range, shape) in model.parameters() {
        let (drawn, data) = (name.contains("pooler") || name.contains("classifier"), &model.flat().unwrap()[range.clone()]);
        assert_eq!(data != &other.flat().unwrap()[range], drawn && shape.len() == 2, "{name}");
        if drawn && shape.len() == 2 {
            let deviation = (data.iter().map(|x| x * x).sum::<f32>() / data.len() as f32).sqrt();
            assert!((0.017..0.023).contains(&deviation), "{name}: standard deviation {deviation}");
        } else if drawn {
            assert!(data.iter().all(|&x| x == 0.0), "{name}");
        }
    }
}

#[test]
fn a_head_for_other_labels_is_drawn_and_the_pooler_kept() {
    let (three, two) = (load(&golden("bert")), Classifier::load(&golden("bert"), &labels(&["x", "y"]), 1).unwrap());
    let tensor = |model: &Classifier, wanted: &str| {
        let (_, range, _) = model.parameters().find(|(name, ..)| name == wanted).unwrap();
        model.flat().unwrap()[range].to_vec()
    };
    assert_eq!(tensor(&three, "bert.pooler.dense.weight"), tensor(&two, "bert.pooler.dense.weight"));
    assert_eq!(tensor(&two, "classifier.bias"), [0.0, 0.0]);
}

#[test]
fn saved_labels_in_another_order() {
    let folder = copy("bert");
    let model = load(folder.path());
    let saved = folder.path().join("saved");
    model.save(&saved, &TextEncoder::load(folder.path()).unwrap()).unwrap();
    let turned = Classifier::load(&saved, &labels(&["c", "a", "b"]), 1).unwrap();
    let (logits, found) = (model.logits(&batch(&[4]), 1).unwrap(), turned.logits(&batch(&[4]), 1).unwrap());
    assert_eq!(found, [logits[2], logits[0], logits[1]]);
}

/// A BERT of hidden size 384 made from the committed one, which is too narrow for the rule about heads.
fn widen(folder: &std::path::Path) {
    rewrite(folder, |name, shape, _| {
        let shape: Vec<usize> = shape.iter().map(|&n| if n == 32 { 384 } else { n }).collect();
        let n = shape.iter().product();
        Some((name.into(), shape, (0..n).map(|i| ((i * 31) % 17) as f32 * 0.01).collect()))
    });
}

#[test]
fn dimensions_from_the_tensors() {
    for architecture in ["bert", "distilbert"] {
        let folder = copy(architecture);
        widen(folder.path());
        let pooling = r#"{"word_embedding_dimension": 384, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#;
        fs::write(folder.path().join("config.json"), pooling).unwrap();
        let with_pooling_config = load(folder.path()).config().clone();
        fs::remove_file(folder.path().join("config.json")).unwrap();
        let config = load(folder.path()).config().clone();
        assert_eq!(config, with_pooling_config);
        assert_eq!((config.hidden_size, config.num_attention_heads, config.num_hidden_layers), (384, 12, 2));
        assert_eq!((config.vocab_size, config.intermediate_size, config.max_position_embeddings), (40, 64, 12));
        assert_eq!(config.type_vocab_size, if architecture == "bert" { 2 } else { 0 });
    }
}

#[test]
fn ambiguous_heads_ask_for_a_config() {
    let folder = copy("bert");
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let error = load_error(folder.path());
    assert!(error.contains("attention heads") && error.contains("config.json"), "{error}");
}

#[test]
fn unsupported_configurations_are_refused() {
    for (changes, words) in [
        (json!({"model_type": "deberta"}), vec!["model_type", "\"deberta\"", "xlm-roberta", "deberta-v2"]),
        (json!({"model_type": "deberta-v2"}), vec!["relative_attention", "missing", "only true"]),
        (json!({"model_type": "modernbert", "mlp_bias": true}), vec!["mlp_bias", "only false"]),
        (json!({"model_type": "modernbert", "layer_types": ["full_attention"]}), vec!["layer_types", "each of the 2 layers"]),
        (json!({"model_type": "modernbert", "classifier_pooling": "max"}), vec!["classifier_pooling", "max"]),
        (json!({"model_type": "modernbert", "rope_scaling": {"type": "linear", "factor": 2}}), vec!["rope_scaling", "linear"]),
        (
            json!({"model_type": "modernbert", "rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}}),
            vec!["rope_parameters", "yarn", "default"],
        ),
        (json!({"model_type": "mpnet", "relative_attention_num_buckets": 64}), vec!["relative_attention_num_buckets", "only 32"]),
        (json!({"model_type": "roberta", "pad_token_id": 30}), vec!["max_position_embeddings", "padding 30"]),
        (json!({"hidden_act": "relu"}), vec!["hidden_act", "relu", "gelu"]),
        (json!({"position_embedding_type": "relative_key"}), vec!["position_embedding_type", "relative_key"]),
        (json!({"is_decoder": true}), vec!["is_decoder"]),
        (json!({"hidden_size": null, "model_type": "bert"}), vec!["hidden_size", "missing"]),
        (json!({"hidden_size": -32}), vec!["hidden_size", "-32"]),
        (json!({"hidden_size": 1u64 << 60}), vec!["hidden_size"]),
        (json!({"num_attention_heads": 5}), vec!["32", "5 heads"]),
        (json!({"num_hidden_layers": 100_000}), vec!["100000 layers"]),
        (json!({"hidden_dropout_prob": 1.5}), vec!["hidden_dropout_prob", "1.5"]),
        (json!({"num_hidden_layers": 3}), vec!["bert.encoder.layer.2.attention.self.query.weight", "missing"]),
        (json!({"vocab_size": 41}), vec!["word_embeddings", "[40, 32]", "[41, 32]"]),
    ] {
        let folder = copy("bert");
        configure(folder.path(), changes.clone());
        let error = load_error(folder.path());
        let path = folder.path().to_str().unwrap();
        assert!(error.contains(path) && words.iter().all(|word| error.contains(word)), "{changes}: {error}");
    }
}

#[test]
fn missing_and_misshapen_tensors_are_reported() {
    let folder = copy("distilbert");
    rewrite(folder.path(), |name, shape, data| (!name.contains("layer.1.ffn.lin2.bias")).then(|| (name.into(), shape.to_vec(), data)));
    let error = load_error(folder.path());
    assert!(error.contains("distilbert.transformer.layer.1.ffn.lin2.bias") && error.contains("DistilBERT"), "{error}");

    let folder = copy("bert");
    rewrite(folder.path(), |name, shape, data| {
        let turned = if name.contains("layer.0.output.dense.weight") { vec![64, 32] } else { shape.to_vec() };
        Some((name.into(), turned, data))
    });
    let error = load_error(folder.path());
    assert!(error.contains("layer.0.output.dense.weight") && error.contains("[64, 32]"), "{error}");
}

/// Weights in several files: each tensor is found wherever it is, and what is wrong with the index or a file is said with its name.
#[test]
fn shards() {
    let folder = copy("bert");
    let (path, index) = (|name: &str| folder.path().join(name), folder.path().join("model.safetensors.index.json"));
    let whole = load(folder.path());
    let bytes = fs::read(path("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let names = file.names();
    let mut map = serde_json::Map::new();
    for (i, part) in names.chunks(names.len().div_ceil(3)).enumerate() {
        let shard = format!("model-0000{}-of-00003.safetensors", i + 1);
        let views = part.iter().map(|name| (name.to_string(), file.tensor(name).unwrap()));
        fs::write(path(&shard), safetensors::serialize(views, None).unwrap()).unwrap();
        part.iter().for_each(|name| _ = map.insert(name.to_string(), shard.clone().into()));
    }
    fs::remove_file(path("model.safetensors")).unwrap();
    assert!(load_error(folder.path()).contains("model.safetensors"));
    fs::write(&index, json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string()).unwrap();
    assert_eq!(load(folder.path()).flat().unwrap(), whole.flat().unwrap());
    assert_eq!(lacuna_models::weight_files(folder.path()).unwrap().len(), 3);
    let head = lacuna_models::saved_head(folder.path()).unwrap();
    assert_eq!(head, lacuna_models::saved_head(&golden("bert")).unwrap(), "whichever shard has the classifier");

    fs::remove_file(path("model-00002-of-00003.safetensors")).unwrap();
    assert!(load_error(folder.path()).contains("model-00002-of-00003.safetensors"));
    for (content, words) in [
        ("{", "not an index of weights"),
        ("{}", "no `weight_map`"),
        (r#"{"weight_map": {}}"#, "does not name files"),
        (r#"{"weight_map": {"a": 3}}"#, "does not name files"),
        (r#"{"weight_map": {"a": "../a.safetensors"}}"#, "\"../a.safetensors\", which is no file of its folder"),
        (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "which is no file of its folder"),
    ] {
        fs::write(&index, content).unwrap();
        let error = load_error(folder.path());
        assert!(error.contains("model.safetensors.index.json") && error.contains(words), "{error}");
    }
}

#[test]
fn missing_files_are_reported() {
    let folder = copy("bert");
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let error = TextEncoder::load(folder.path()).err().unwrap().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert!(load_error(folder.path()).contains("model.safetensors"));
    fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
    assert!(load_error(folder.path()).contains("pytorch_model.bin"));
    assert!(load_error(&folder.path().join("nowhere")).contains("nowhere"));
}

#[test]
fn labels_must_be_distinct() {
    for names in [vec![], vec!["a", "a"]] {
        let error = Classifier::load(&golden("bert"), &labels(&names), 1).err().unwrap();
        assert!(matches!(error, ModelError::Labels(_)), "{error}");
    }
}

#[test]
fn saving_to_the_path_of_a_file_is_an_error() {
    let folder = copy("bert");
    let file = folder.path().join("a file");
    fs::write(&file, "").unwrap();
    let error = load(folder.path()).save(&file, &TextEncoder::load(folder.path()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("a file"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A weight file with arbitrary damage gives a model or an error, never a panic.
    #[test]
    fn damaged_weights_never_panic(cut in 0usize..60_000, place in 0usize..12_000, byte: u8) {
        let folder = copy("bert");
        let path = folder.path().join("model.safetensors");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..cut.min(whole.len() - 1)]).unwrap();
        let error = load_error(folder.path());
        prop_assert!(error.contains("model.safetensors"), "{}", error);
        let mut flipped = whole.clone();
        flipped[place] = byte;
        fs::write(&path, flipped).unwrap();
        let _ = Classifier::load(folder.path(), &labels(&["a", "b", "c"]), 1);
    }

    /// The same for the text of config.json and tokenizer.json.
    #[test]
    fn damaged_json_never_panics(place in 0usize..700, byte: u8) {
        let folder = copy("bert");
        for name in ["config.json", "tokenizer.json"] {
            let path = folder.path().join(name);
            let mut bytes = fs::read(&path).unwrap();
            bytes[place] = byte;
            fs::write(path, bytes).unwrap();
        }
        let _ = Classifier::load(folder.path(), &labels(&["a", "b", "c"]), 1);
        let _ = TextEncoder::load(folder.path());
    }
}
