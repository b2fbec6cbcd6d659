//! What both ends of a conversation at a terminal share: `reactorctl chat` and
//! the operator's console.
//!
//! - [`command`]: what a typed line means.
//! - [`event`]: what the server says.
//! - [`entry`]: what happened in a chat, and how it reads as a line.
//! - [`screen`]: where it is shown.
//! - [`editor`]: a line editor beside which others may print.
//! - [`gate`]: when they may.
//! - [`lines`]: what takes its place on a pipe.
//! - [`reader`]: the thread that reads typed lines, from either.
//! - [`inbox`]: what waits for a conversation.
//!
//! Nothing here knows a connection, a room's members or a driver.

pub mod command;
pub mod editor;
pub mod entry;
pub mod event;
pub mod gate;
pub mod inbox;
pub mod lines;
pub mod reader;
pub mod screen;
