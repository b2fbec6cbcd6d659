//! The blocking client library under `reactorctl`.
//!
//! # Layout
//!
//! - [`config`]: where the server is, and the token.
//! - [`connection`]: one greeted connection; requests out, frames in. Its
//!   parts are [`halves`], which write and read, and [`frame`].
//! - [`exec`]: a remote command with its streams, signals and status; its
//!   parts are [`outbox`], [`escape`] and [`terminal`].
//! - [`files`]: uploads and downloads, of trees too.
//! - [`chat`]: a conversation that outlives its connections.
//! - [`progress`]: bars, notes and the summary of transfers.
//! - [`interrupt`]: signals that end a transfer.
//! - [`stdio`]: standard input and output without a buffer.
//! - [`signals`]: signals by name and number.
//! - [`mod@bench`]: a load generator.
//! - [`error`]: what can go wrong, and the exit statuses.
//!
//! The library uses `std::net` and, where both directions must go on at the
//! same time, threads; only the load generator has a poll. It knows the wire
//! layer and nothing of the server.

pub mod bench;
pub mod chat;
pub mod config;
pub mod connection;
pub mod error;
pub mod escape;
pub mod exec;
pub mod files;
pub mod frame;
pub mod halves;
pub mod interrupt;
pub mod outbox;
pub mod progress;
pub mod signals;
pub mod stdio;
pub mod terminal;

pub use crate::text;
pub use config::{Config, Flags, Host};
pub use connection::Connection;
pub use error::{ClientError, Result, ServerError};
