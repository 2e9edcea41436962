//! Features that come in blocks, such as u, v, |u − v| and u·v of a pair, brought to one scale a block.

/// Centres each feature, and divides each block by one number, so that its rows have a mean squared length of 1.
///
/// A penalty on weights then asks as much of each block, while distances inside of a block keep their ratios, which a scale for each
/// feature would not leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// (features)
    means: Vec<f64>,
    /// (features): 1 over the root mean squared length of its block, 0 in a block that does not vary.
    factors: Vec<f64>,
}

/// The share of a block's squared length that rounding of its means may leave of a block that does not vary.
const ROUNDING: f64 = 1e-24;

impl Scale {
    /// Learns from rows (rows, features), whose features are `parts` blocks of equal width, one after the other.
    ///
    /// # Panics
    /// If there are no rows, or their features are not `parts` blocks.
    pub fn fit(rows: &[Vec<f64>], parts: usize) -> Scale {
        let (count, features) = (rows.len() as f64, rows[0].len());
        assert!(features.is_multiple_of(parts), "{features} features are not {parts} blocks of equal width");
        let means: Vec<f64> = (0..features).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / count).collect();
        let squares = |block: &[usize], less: &dyn Fn(usize) -> f64| {
            rows.iter().map(|row| block.iter().map(|&i| (row[i] - less(i)).powi(2)).sum::<f64>()).sum::<f64>() / count
        };
        let factor = |block: &[usize]| {
            let length = squares(block, &|i| means[i]);
            if length > ROUNDING * squares(block, &|_| 0.0) { 1.0 / length.sqrt() } else { 0.0 }
        };
        let all: Vec<usize> = (0..features).collect();
        let factors = all.chunks((features / parts).max(1)).flat_map(|block| vec![factor(block); block.len()]).collect();
        Scale { means, factors }
    }

    /// A row (features) on that scale. A block that did not vary where the scale was learnt is 0.
    pub fn apply(&self, row: &[f64]) -> Vec<f64> {
        assert_eq!(row.len(), self.means.len(), "a scale is for rows of as many features as it was learnt from");
        row.iter().zip(&self.means).zip(&self.factors).map(|((x, mean), factor)| (x - mean) * factor).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_case_by_hand() {
        let rows = [vec![1.0, 5.0, 100.0, 7.0], vec![3.0, 5.0, 100.0, 1.0]];
        let scale = Scale::fit(&rows, 2);
        // Centred: (−1, 0 | 0, 3) and (1, 0 | 0, −3).
        assert_eq!(rows.map(|row| scale.apply(&row)), [[-1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, -1.0]]);
        assert_eq!(scale.apply(&[4.0, 7.0, 103.0, 4.0]), [2.0, 2.0, 1.0, 0.0]);
    }

    #[test]
    fn a_block_that_does_not_vary_is_0_for_new_rows_too() {
        let rows = vec![vec![0.1, 0.7, 1.0, 0.0], vec![0.1, 0.7, 0.0, 1.0], vec![0.1, 0.7, 0.3, 0.1]];
        let scale = Scale::fit(&rows, 2);
        assert!(rows.iter().all(|row| scale.apply(row)[..2] == [0.0, 0.0] && scale.apply(row)[2] != 0.0));
        assert_eq!(scale.apply(&[5.0, 5.0, 0.0, 0.0])[..2], [0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "5 features are not 2 blocks")]
    fn blocks_have_one_width() {
        Scale::fit(&[vec![0.0; 5]], 2);
    }

    proptest! {
        #[test]
        fn blocks_are_centred_of_length_1_and_keep_their_geometry(
            rows in proptest::collection::vec(proptest::collection::vec(-3f64..3.0, 6), 2..20), sizes in [-3f64..3.0, -3f64..3.0]
        ) {
            let rows: Vec<Vec<f64>> =
                rows.iter().map(|row| row.iter().enumerate().map(|(i, x)| 5.0 + x * 10f64.powf(sizes[i / 3])).collect()).collect();
            let scale = Scale::fit(&rows, 2);
            let scaled: Vec<Vec<f64>> = rows.iter().map(|row| scale.apply(row)).collect();
            let distance = |rows: &[Vec<f64>], other: usize, block: usize| {
                let by = |i: usize| (rows[0][i] - rows[other][i]).powi(2);
                (3 * block..3 * block + 3).map(by).sum::<f64>().sqrt()
            };
            for block in 0..2 {
                let own = |row: &Vec<f64>| row[3 * block..3 * block + 3].to_vec();
                let length: f64 = scaled.iter().flat_map(own).map(|x| x * x).sum::<f64>() / rows.len() as f64;
                prop_assert!((length - 1.0).abs() < 1e-9, "{length}");
                for other in 1..rows.len() {
                    let ratio = |rows: &[Vec<f64>]| distance(rows, other, block) / distance(rows, 1, block);
                    prop_assert!((ratio(&rows) / ratio(&scaled) - 1.0).abs() < 1e-6);
                }
            }
            for i in 0..6 {
                prop_assert!((scaled.iter().map(|row| row[i]).sum::<f64>() / rows.len() as f64).abs() < 1e-9);
            }
        }
    }
}
