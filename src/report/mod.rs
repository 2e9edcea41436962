//! Pages about finished runs, comparisons and curves: what is known of them, drawn and written into one HTML file each that loads nothing.

mod area;
mod charts;
pub mod comparison;
pub mod curves;
mod estimates;
mod facts;
pub mod made;
mod page;
mod run;
pub mod sweep_line;
mod words;

pub use run::write_page;
