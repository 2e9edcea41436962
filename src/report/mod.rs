//! The page about a finished run: what is known of it, drawn and written into one HTML file that loads nothing.

mod charts;
mod facts;
mod page;
mod words;

pub use page::write_page;
