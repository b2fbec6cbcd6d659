//! A conversation that outlives its connections.
//!
//! - [`model`]: what was asked and seen, and what to do next; no I/O.
//! - [`action`], [`room`]: what is asked of the server, and what was seen of a
//!   room.
//! - [`mod@line`]: the connection's threads.
//! - [`engine`]: runs the model with all of these.
//! - [`send`]: puts one file on the server.

pub mod action;
pub mod engine;
pub mod line;
pub mod model;
pub mod room;
pub mod send;
