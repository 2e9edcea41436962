//! tanh, for the pooler of BERT: few numbers, so the standard library's.

/// Replaces every x by tanh x.
pub fn forward(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = x.tanh());
}

/// Replaces the gradient of the output `y` by that of the input: `dy` *= 1 − y².
pub fn backward(dy: &mut [f32], y: &[f32]) {
    assert_eq!(dy.len(), y.len());
    dy.iter_mut().zip(y).for_each(|(dy, y)| *dy *= 1.0 - y * y);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, dot, gradient, random};

    #[test]
    fn forward_and_backward() {
        let (x, dy) = (random(9, 1), random(9, 2));
        let reference = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())).collect() };
        let mut y = x.clone();
        forward(&mut y);
        assert_close(&y, &reference(&crate::testing::wide(&x)), 1e-6);
        let mut dx = dy.clone();
        backward(&mut dx, &y);
        assert_close(&dx, &gradient(&x, |x| dot(&reference(x), &dy)), 1e-5);
    }
}
