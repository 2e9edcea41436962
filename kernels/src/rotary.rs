//! Rotary positions (Su et al., arXiv 2104.09864): queries and keys are turned by angles that grow with their position, the numbers of
//! the first half of a head with those of the second.

use crate::vectorised;
#[cfg(feature = "candle")]
use candle_core::{D, Result, Tensor};

/// Cosine and sine of the angle of each position and pair of numbers.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// (positions, head_size / 2)
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Rotation {
    /// For positions up to this number: pair i of a head is turned by position · theta^(−2i / head_size).
    pub fn new(theta: f64, head_size: usize, positions: usize) -> Self {
        assert!(head_size.is_multiple_of(2), "a head of {head_size} numbers");
        let half = head_size / 2;
        let speeds: Vec<f32> = (0..half).map(|i| 1.0 / (theta as f32).powf(2.0 * i as f32 / head_size as f32)).collect();
        let angles = (0..positions).flat_map(|position| speeds.iter().map(move |speed| (position as f32 * speed) as f64));
        let (sin, cos) = angles.map(|angle| (angle.sin() as f32, angle.cos() as f32)).unzip();
        Rotation { cos, sin, half }
    }

    fn at(&self, position: u32) -> (&[f32], &[f32]) {
        let place = position as usize * self.half..(position as usize + 1) * self.half;
        (&self.cos[place.clone()], &self.sin[place])
    }
}

/// Turns the first `heads` heads of each row of `x`, which begin `stride` numbers apart, by the angles of its position; back with `back`,
/// which is the backward.
pub fn turn(rotation: &Rotation, position_ids: &[u32], heads: usize, x: &mut [f32], stride: usize, back: bool) {
    let size = 2 * rotation.half;
    assert!(heads * size <= stride && position_ids.len().saturating_sub(1) * stride + heads * size <= x.len(), "shapes of a rotation");
    for (row, &position) in x.chunks_mut(stride).zip(position_ids) {
        let (cos, sin) = rotation.at(position);
        row[..heads * size].chunks_exact_mut(size).for_each(|head| turn_head(head, cos, sin, if back { -1.0 } else { 1.0 }));
    }
}

vectorised! {
    fn turn_head(head: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let (first, second) = head.split_at_mut(cos.len());
        for (((x, y), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*x, *y) = (*x * cos - *y * sin * sign, *y * cos + *x * sin * sign);
        }
    }
}

/// [`turn`] of candle's operations, of `x` (tokens, heads * head_size).
#[cfg(feature = "candle")]
pub fn composed(rotation: &Rotation, position_ids: &[u32], x: &Tensor) -> Result<Tensor> {
    let (tokens, half) = (x.dim(0)?, rotation.half);
    let table = |of: fn(&Rotation, u32) -> &[f32]| {
        let angles: Vec<f32> = position_ids.iter().flat_map(|&position| of(rotation, position)).copied().collect();
        Tensor::from_vec(angles, (tokens, 1, half), x.device())
    };
    let (cos, sin) = (table(|rotation, position| rotation.at(position).0)?, table(|rotation, position| rotation.at(position).1)?);
    let x = x.reshape((tokens, (), 2 * half))?;
    let [first, second] = [0, half].map(|start| x.narrow(D::Minus1, start, half));
    let (first, second) = (first?.contiguous()?, second?.contiguous()?);
    let turned = [(first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?, (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?];
    Tensor::cat(&turned, D::Minus1)?.reshape((tokens, ()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, dot, gradient, random, wide};

    const POSITIONS: [u32; 4] = [0, 1, 2, 40];

    fn reference(x: &[f64], heads: usize, head_size: usize, stride: usize) -> Vec<f64> {
        let mut y = x.to_vec();
        let half = head_size / 2;
        for (token, position) in POSITIONS.iter().enumerate() {
            for (head, i) in (0..heads).flat_map(|head| (0..half).map(move |i| (head, i))) {
                let angle = *position as f64 * 100f64.powf(-2.0 * i as f64 / head_size as f64);
                let at = token * stride + head * head_size + i;
                let (a, b) = (x[at], x[at + half]);
                (y[at], y[at + half]) = (a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos());
            }
        }
        y
    }

    #[test]
    fn turned_and_turned_back() {
        for (heads, head_size, stride) in [(1, 2, 2), (2, 6, 20), (3, 32, 96)] {
            let (x, dy) = (random(4 * stride, 1), random(4 * stride, 2));
            let rotation = Rotation::new(100.0, head_size, 41);
            let mut y = x.clone();
            turn(&rotation, &POSITIONS, heads, &mut y, stride, false);
            assert_close(&y, &reference(&wide(&x), heads, head_size, stride), 1e-5);
            let mut dx = dy.clone();
            turn(&rotation, &POSITIONS, heads, &mut dx, stride, true);
            assert_close(&dx, &gradient(&x, |x| dot(&reference(x, heads, head_size, stride), &dy)), 1e-5);
        }
    }

    #[cfg(feature = "candle")]
    #[test]
    fn composed_is_the_same() {
        use crate::testing::{assert_tensor, gradients, var};
        let (heads, head_size) = (3, 8);
        let (x, dy) = (random(4 * heads * head_size, 1), random(4 * heads * head_size, 2));
        let rotation = Rotation::new(100.0, head_size, 41);
        let (mut y, mut dx) = (x.clone(), dy.clone());
        turn(&rotation, &POSITIONS, heads, &mut y, heads * head_size, false);
        turn(&rotation, &POSITIONS, heads, &mut dx, heads * head_size, true);
        let vars = [var(&x, (4, heads * head_size))];
        let found = composed(&rotation, &POSITIONS, &vars[0]).unwrap();
        assert_tensor(&found, &y, 1e-6);
        assert_tensor(&gradients(&found, &dy, &vars)[0], &dx, 1e-6);
    }
}
