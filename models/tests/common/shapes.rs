//! The tensors of an encoder, by the names of transformers; the benchmark of steps on a GPU has them too.

/// Name and shape of every tensor of a BERT or DistilBERT.
pub fn tensors(bert: bool, layers: usize, hidden: usize, vocabulary: usize, positions: usize) -> Vec<(String, Vec<usize>)> {
    let mut tables = vec![("word", vocabulary), ("position", positions)];
    tables.extend(bert.then_some(("token_type", 2)));
    let mut tensors: Vec<(String, Vec<usize>)> =
        tables.into_iter().map(|(table, rows)| (format!("embeddings.{table}_embeddings.weight"), vec![rows, hidden])).collect();
    let mut affine = |name: String, shape: &[usize]| {
        tensors.push((format!("{name}.weight"), shape.to_vec()));
        tensors.push((format!("{name}.bias"), shape[..1].to_vec()));
    };
    affine("embeddings.LayerNorm".into(), &[hidden]);
    let (layer, square, norms, ffn) = if bert {
        let square = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"];
        ("encoder.layer", square, ["attention.output.LayerNorm", "output.LayerNorm"], ["intermediate.dense", "output.dense"])
    } else {
        let square = ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"];
        ("transformer.layer", square, ["sa_layer_norm", "output_layer_norm"], ["ffn.lin1", "ffn.lin2"])
    };
    for i in 0..layers {
        square.iter().for_each(|part| affine(format!("{layer}.{i}.{part}"), &[hidden, hidden]));
        norms.iter().for_each(|part| affine(format!("{layer}.{i}.{part}"), &[hidden]));
        affine(format!("{layer}.{i}.{}", ffn[0]), &[4 * hidden, hidden]);
        affine(format!("{layer}.{i}.{}", ffn[1]), &[hidden, 4 * hidden]);
    }
    tensors
}
