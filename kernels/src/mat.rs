//! Strided views of matrices of f32: one to read, which may be transposed, and one to write.

/// A matrix of `rows` x `cols` numbers; element (i, j) is at `i * row_stride + j * col_stride` of `data`.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    pub(crate) data: &'a [f32],
    rows: usize,
    cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

/// A matrix that is written: rows of `cols` neighbouring numbers, `row_stride` apart.
pub struct MatMut<'a> {
    pub(crate) data: &'a mut [f32],
    rows: usize,
    cols: usize,
    pub(crate) row_stride: usize,
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

    /// Whether the numbers of a column are neighbours, not those of a row.
    pub(crate) fn is_transposed(&self) -> bool {
        self.col_stride != 1
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "does not fit")]
    fn too_short_a_slice() {
        Mat::strided(&[0.0; 7], 2, 4, 4);
    }
}
