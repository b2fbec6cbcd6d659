//! A conversation that outlives its connections.
//!
//! - [`model`]: what was asked and seen, and what to do next; no I/O. Its
//!   parts are [`message`], what comes from the server, and [`action`], what
//!   is asked of it.
//! - [`inbox`]: what waits for the model, from all threads.
//! - [`line`]: the connection's threads.
//! - [`engine`]: runs the model with all of these.
//! - [`send`]: puts one file on the server.

pub mod action;
pub mod engine;
pub mod inbox;
pub mod line;
pub mod message;
pub mod model;
pub mod send;
