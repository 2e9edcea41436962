//! Mean-pooled features against transformers (see golden/make_features.py).

use lacuna_models::{Classifier, PackedBatch, Precision};
use safetensors::SafeTensors;
use std::path::Path;

#[test]
fn features_are_the_mean_hidden_states_of_transformers() {
    for architecture in ["bert", "distilbert"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(architecture);
        let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let integers = |name: &str| {
            let data = file.tensor(name).unwrap().data().chunks_exact(8);
            data.map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect::<Vec<_>>()
        };
        let [input_ids, token_type_ids, cu_seqlens] = ["input_ids", "token_type_ids", "cu_seqlens"].map(integers);
        let mut model = Classifier::load(&folder, &["a".to_string(), "b".to_string()], 1).unwrap();
        model.set_precision(Precision::F32);
        let expected: Vec<f32> = serde_json::from_slice(&std::fs::read(folder.join("features.json")).unwrap()).unwrap();
        for threads in [1, 3] {
            let batch =
                PackedBatch { input_ids: input_ids.clone(), token_type_ids: token_type_ids.clone(), cu_seqlens: cu_seqlens.clone() };
            let found = model.features(&batch, threads).unwrap();
            assert_eq!(found.len(), expected.len());
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-5, "{architecture}: {worst}");
        }
    }
}
