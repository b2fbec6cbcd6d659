//! `reactorctl` against scripted servers: what a hostile, broken or vanishing
//! server, a closed pipe and a signal lead to.
//!
//! `real` is about the two programs together.

mod commands;
mod fake;
mod files;
mod questions;
mod real;
mod terminal;
