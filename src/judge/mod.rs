//! The generator as a judge: its posterior, calibrated on gold rows.

pub mod calibration;
pub mod judges;
pub mod kept;
pub mod knowledge;
pub mod panel;
pub mod posterior;
pub mod probe;
pub mod questions;
pub mod reply;
pub mod stack;
