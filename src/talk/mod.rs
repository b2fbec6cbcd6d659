//! What both ends of a conversation at a terminal share: `reactorctl chat` and
//! the operator's console.
//!
//! - [`command`]: what a typed line means.
//! - [`entry`]: what happened in a chat, and how it reads as a line.
//! - [`editor`]: a line editor beside which others may print.
//! - [`gate`]: when they may.
//! - [`lines`]: what takes its place on a pipe.
//!
//! Nothing here knows a connection, a room's members or a driver.

pub mod command;
pub mod editor;
pub mod entry;
pub mod gate;
pub mod lines;
