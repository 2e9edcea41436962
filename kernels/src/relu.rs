//! ReLU, for the head of DistilBERT.

/// Replaces every negative x by 0; NaN stays NaN.
pub fn forward(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x });
}

/// Replaces the gradient of the output `y` by that of the input: 0 where `y` is 0.
pub fn backward(dy: &mut [f32], y: &[f32]) {
    assert_eq!(dy.len(), y.len());
    dy.iter_mut().zip(y).for_each(|(dy, y)| *dy = if *y == 0.0 { 0.0 } else { *dy });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, dot, gradient, random};

    #[test]
    fn forward_and_backward() {
        let (x, dy) = (random(40, 1), random(40, 2));
        let mut y = x.clone();
        forward(&mut y);
        assert!(y.iter().zip(&x).all(|(&y, &x)| y == x.max(0.0)));
        let mut dx = dy.clone();
        backward(&mut dx, &y);
        assert_close(&dx, &gradient(&x, |x| dot(&x.iter().map(|v| v.max(0.0)).collect::<Vec<_>>(), &dy)), 1e-5);
        let mut nan = [f32::NAN];
        forward(&mut nan);
        assert!(nan[0].is_nan());
    }
}
