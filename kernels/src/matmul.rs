//! The matrix product: strided views and a call of the `gemm` crate on the calling thread.

/// A matrix of `rows` x `cols` numbers; element (i, j) is at `i * row_stride + j * col_stride` of `data`.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// A matrix that is written: rows of `cols` neighbouring numbers, `row_stride` apart.
pub struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> Mat<'a> {
    /// Rows one after the other, `cols` numbers each; the number of rows follows from the length.
    pub fn new(data: &'a [f32], cols: usize) -> Self {
        assert!(cols > 0 && data.len().is_multiple_of(cols), "{} numbers in rows of {cols}", data.len());
        Self::strided(data, data.len() / cols, cols, cols)
    }

    /// Rows of `cols` numbers that begin `row_stride` numbers apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        Mat { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose; moves nothing.
    pub fn t(self) -> Self {
        Mat { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i` as a slice; only for a matrix that is not transposed.
    pub fn row(&self, i: usize) -> &'a [f32] {
        assert_eq!(self.col_stride, 1);
        &self.data[i * self.row_stride..][..self.cols]
    }
}

impl<'a> MatMut<'a> {
    /// Rows one after the other, `cols` numbers each; the number of rows follows from the length.
    pub fn new(data: &'a mut [f32], cols: usize) -> Self {
        assert!(cols > 0 && data.len().is_multiple_of(cols), "{} numbers in rows of {cols}", data.len());
        let rows = data.len() / cols;
        Self::strided(data, rows, cols, cols)
    }

    /// Rows of `cols` numbers that begin `row_stride` numbers apart.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        MatMut { data, rows, cols, row_stride }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i` as a slice.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.data[i * self.row_stride..][..self.cols]
    }
}

/// Rows must not overlap and the last one must end inside the slice.
fn check(len: usize, rows: usize, cols: usize, row_stride: usize) {
    assert!(row_stride >= cols, "rows of {cols} that begin {row_stride} apart overlap");
    assert!(rows == 0 || (rows - 1) * row_stride + cols <= len, "{rows} x {cols} (stride {row_stride}) does not fit into {len} numbers");
}

/// `out` (m, n) = `a` (m, k) · `b` (k, n), or `out` += with `accumulate`.
pub fn matmul(out: MatMut, a: Mat, b: Mat, accumulate: bool) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert!((out.rows, out.cols, b.rows) == (m, n, k), "({m}, {k}) times ({}, {n}) into ({}, {})", b.rows, out.rows, out.cols);
    let stride = |s: usize| s as isize;
    // SAFETY: the constructors checked that every element of the three views lies inside its slice, `out` is borrowed mutably and
    // so does not overlap `a` or `b`, and its rows do not overlap each other.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data.as_mut_ptr(),
            1,
            stride(out.row_stride),
            accumulate,
            a.data.as_ptr(),
            stride(a.col_stride),
            stride(a.row_stride),
            b.data.as_ptr(),
            stride(b.col_stride),
            stride(b.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};

    #[test]
    fn agrees_with_the_plain_product() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (1, 33, 2), (17, 1, 9), (40, 64, 33)] {
            let (a, b) = (random(m * k, 1), random(k * n, 2));
            let mut out = random(m * n, 3);
            let expected: Vec<f64> = (0..m * n)
                .map(|e| out[e] as f64 + (0..k).map(|l| a[e / n * k + l] as f64 * b[l * n + e % n] as f64).sum::<f64>())
                .collect();
            matmul(MatMut::new(&mut out, n), Mat::new(&a, k), Mat::new(&b, n), true);
            assert_close(&out, &expected, 1e-5);
        }
    }

    #[test]
    fn strided_and_transposed() {
        let a: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut out = vec![-1.0; 8];
        // Columns 1..3 of a (3, 4) matrix, transposed, times columns 0..2.
        matmul(MatMut::strided(&mut out[1..], 2, 2, 4), Mat::strided(&a[1..], 3, 2, 4).t(), Mat::strided(&a, 3, 2, 4), false);
        assert_eq!(out, [-1.0, 92.0, 107.0, -1.0, -1.0, 104.0, 122.0, -1.0]);
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn too_short_a_slice() {
        Mat::strided(&[0.0; 7], 2, 4, 4);
    }
}
