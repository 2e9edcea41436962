//! Embeddings: the sum of rows of several tables (word, position, token type).

use crate::vectorised;
#[cfg(feature = "candle")]
use candle_core::Tensor;

/// A table of rows of `hidden` numbers, and the row that each token takes from it.
pub struct Lookup<'a> {
    /// (vocabulary, hidden)
    pub table: &'a [f32],
    /// (tokens), each below the vocabulary
    pub ids: &'a [u32],
}

vectorised! {
    /// `out` (tokens, hidden) = the sum over `lookups` of the row each token takes.
    pub fn forward(lookups: &[Lookup], hidden: usize, out: &mut [f32]) {
        assert!(hidden > 0 && lookups.iter().all(|l| l.ids.len() * hidden == out.len()), "shapes of the embeddings");
        out.fill(0.0);
        for (t, out) in out.chunks_exact_mut(hidden).enumerate() {
            for lookup in lookups {
                let row = &lookup.table[lookup.ids[t] as usize * hidden..][..hidden];
                out.iter_mut().zip(row).for_each(|(o, r)| *o += r);
            }
        }
    }
}

vectorised! {
    /// Adds each token's gradient to the row it took: `dtable` (vocabulary, hidden); no other row is touched.
    pub fn backward(ids: &[u32], dout: &[f32], hidden: usize, dtable: &mut [f32]) {
        assert_eq!(ids.len() * hidden, dout.len());
        for (&id, dout) in ids.iter().zip(dout.chunks_exact(hidden)) {
            let row = &mut dtable[id as usize * hidden..][..hidden];
            row.iter_mut().zip(dout).for_each(|(r, d)| *r += d);
        }
    }
}

/// [`forward`] of candle's operations, for pairs of a table (vocabulary, hidden) and ids (tokens). A table's gradient is as large as it.
#[cfg(feature = "candle")]
pub fn composed(lookups: &[(&Tensor, &[u32])]) -> candle_core::Result<Tensor> {
    let mut rows = lookups.iter().map(|(table, ids)| table.index_select(&Tensor::new(*ids, table.device())?, 0));
    let first = rows.next().expect("embeddings look into one table or more")?;
    rows.try_fold(first, |sum, rows| sum + rows?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, dot, gradient, random, wide};

    #[test]
    fn forward_and_backward() {
        let hidden = 5;
        let (words, types) = (random(7 * hidden, 1), random(2 * hidden, 2));
        let (word_ids, type_ids) = ([6, 0, 6, 3], [0, 1, 1, 0]);
        let dout = random(4 * hidden, 3);
        let reference = |words: &[f64], types: &[f64]| -> Vec<f64> {
            (0..4 * hidden)
                .map(|e| {
                    words[word_ids[e / hidden] as usize * hidden + e % hidden] + types[type_ids[e / hidden] as usize * hidden + e % hidden]
                })
                .collect()
        };
        let mut out = vec![f32::NAN; 4 * hidden];
        forward(&[Lookup { table: &words, ids: &word_ids }, Lookup { table: &types, ids: &type_ids }], hidden, &mut out);
        assert_close(&out, &reference(&wide(&words), &wide(&types)), 1e-6);

        let (mut dwords, mut dtypes) = (vec![0.0; words.len()], vec![0.0; types.len()]);
        backward(&word_ids, &dout, hidden, &mut dwords);
        backward(&type_ids, &dout, hidden, &mut dtypes);
        assert_close(&dwords, &gradient(&words, |w| dot(&reference(w, &wide(&types)), &dout)), 1e-5);
        assert_close(&dtypes, &gradient(&types, |t| dot(&reference(&wide(&words), t), &dout)), 1e-5);
        assert!(dwords[hidden..3 * hidden].iter().all(|&d| d == 0.0));
    }

    #[cfg(feature = "candle")]
    #[test]
    fn composed_is_the_same() {
        use crate::testing::{assert_tensor, gradients, var};
        let hidden = 5;
        let (words, types, dout) = (random(7 * hidden, 1), random(2 * hidden, 2), random(4 * hidden, 3));
        let (word_ids, type_ids) = ([6, 0, 6, 3], [0, 1, 1, 0]);
        let mut out = vec![0.0; 4 * hidden];
        forward(&[Lookup { table: &words, ids: &word_ids }, Lookup { table: &types, ids: &type_ids }], hidden, &mut out);
        let (mut dwords, mut dtypes) = (vec![0.0; words.len()], vec![0.0; types.len()]);
        backward(&word_ids, &dout, hidden, &mut dwords);
        backward(&type_ids, &dout, hidden, &mut dtypes);

        let vars = [var(&words, (7, hidden)), var(&types, (2, hidden))];
        let found = composed(&[(&vars[0], &word_ids), (&vars[1], &type_ids)]).unwrap();
        assert_tensor(&found, &out, 1e-6);
        gradients(&found, &dout, &vars).iter().zip([dwords, dtypes]).for_each(|(found, expected)| assert_tensor(found, &expected, 1e-6));
    }
}
