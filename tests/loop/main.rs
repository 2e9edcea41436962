//! The commands and the loop, on a scripted generator and tiny models. One executable: each costs a link of everything.

mod bad_input;
mod baselines;
mod common;
mod crashes;
mod devices;
mod init;
mod kinds;
mod languages;
mod look;
mod qa;
mod reading;
mod report;
mod resume;
mod review;
mod scripted;
mod sets;
mod words;
