//! The generator as a judge: its posterior, calibrated on gold rows.

pub mod calibration;
pub mod posterior;
