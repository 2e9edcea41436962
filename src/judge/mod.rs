//! The generator as a judge: its posterior, calibrated on gold rows.

pub mod calibration;
pub mod knowledge;
pub mod posterior;
pub mod questions;
