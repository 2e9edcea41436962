//! From packed tokens to rows padded to the longest, and back: for devices that have no kernel for packed rows.

use candle_core::{Device, Result, Tensor};

/// Added to the logit of a padded place: its probability is then 0. A finite number, because a fast-math compiler may not expect others.
const NEVER: f32 = -1e9;

/// The places of the tokens of a batch's rows among its padded rows.
pub struct Padding {
    rows: usize,
    /// Tokens of the longest row: the places in each.
    longest: usize,
    /// None if all rows are of one length.
    uneven: Option<Uneven>,
    mask: Tensor,
}

struct Uneven {
    /// (rows * longest): the token at each place, the first of its row behind its last.
    tokens: Tensor,
    /// (tokens): the place of each token.
    places: Tensor,
}

impl Padding {
    /// For rows whose boundaries in tokens are `cu_seqlens`; none is empty.
    pub fn new(cu_seqlens: &[usize], device: &Device) -> Result<Self> {
        let lengths: Vec<usize> = cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]).collect();
        let (rows, longest) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
        assert!(lengths.iter().all(|&length| length > 0), "rows of lengths {lengths:?}");
        let mask = lengths.iter().flat_map(|&length| (0..longest).map(move |place| if place < length { 0.0 } else { NEVER }));
        let mask = Tensor::from_iter(mask, device)?.reshape((rows, longest))?;
        let even = lengths.iter().all(|&length| length == longest);
        let uneven = if even { None } else { Some(Uneven::new(cu_seqlens, longest, device)?) };
        Ok(Padding { rows, longest, uneven, mask })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Places in each row.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// (rows, longest): the mask added to the logit of each place, 0 for a token.
    pub fn mask(&self) -> &Tensor {
        &self.mask
    }

    /// (rows, longest, columns) of `x` (tokens, columns), contiguous. Padded places hold some token: they are to be masked, or left out by
    /// [`Padding::unpad`].
    pub fn pad(&self, x: &Tensor) -> Result<Tensor> {
        let columns = x.dim(1)?;
        let padded = match &self.uneven {
            Some(uneven) => &x.index_select(&uneven.tokens, 0)?,
            None => x,
        };
        padded.reshape((self.rows, self.longest, columns))
    }

    /// (tokens, columns) of `x` (rows, longest, columns).
    pub fn unpad(&self, x: &Tensor) -> Result<Tensor> {
        let places = x.reshape((self.rows * self.longest, x.dim(2)?))?;
        match &self.uneven {
            Some(uneven) => places.index_select(&uneven.places, 0),
            None => Ok(places),
        }
    }
}

impl Uneven {
    fn new(cu_seqlens: &[usize], longest: usize, device: &Device) -> Result<Self> {
        let (mut tokens, mut places) = (Vec::new(), Vec::new());
        for (row, ends) in cu_seqlens.windows(2).enumerate() {
            let length = ends[1] - ends[0];
            tokens.extend((0..longest).map(|place| (ends[0] + if place < length { place } else { 0 }) as u32));
            places.extend((0..length).map(|place| (row * longest + place) as u32));
        }
        Ok(Uneven { tokens: Tensor::new(tokens, device)?, places: Tensor::new(places, device)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_tensor, gradients, random, var};

    #[test]
    fn there_and_back() {
        for cu_seqlens in [vec![0, 1], vec![0, 4, 8], vec![0, 2, 3, 7, 8]] {
            let tokens = cu_seqlens[cu_seqlens.len() - 1];
            let padding = Padding::new(&cu_seqlens, &Device::Cpu).unwrap();
            let (x, dy) = (random(tokens * 3, 1), random(tokens * 3, 2));
            let vars = [var(&x, (tokens, 3))];
            let padded = padding.pad(&vars[0]).unwrap();
            assert_eq!(padded.dims(), [padding.rows(), padding.longest(), 3]);
            let back = padding.unpad(&padded).unwrap();
            assert_tensor(&back, &x, 0.0);
            assert_tensor(&gradients(&back, &dy, &vars)[0], &dy, 0.0);
        }
    }

    #[test]
    fn masks_what_is_no_token() {
        let padding = Padding::new(&[0, 2, 3, 6], &Device::Cpu).unwrap();
        assert_eq!(padding.mask().to_vec2::<f32>().unwrap(), [[0.0, 0.0, NEVER], [0.0, NEVER, NEVER], [0.0; 3]]);
    }
}
