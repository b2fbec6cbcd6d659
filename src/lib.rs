//! reactord: chat, remote commands and files for a LAN, over one TCP port.
//!
//! # Layout
//!
//! Every connection is a session: a state machine that knows no sockets, no
//! files, no processes and no clock. Bytes and events go in, frames and
//! effects come out. Two drivers run the same sessions.
//!
//! ```text
//!            bin/reactord                         bin/reactorctl
//!                 |                                     |
//!        +--------+---------+                           |
//!     reactor            blocking                    client
//!        +---- disk, process, listen ...                |
//!               proto   (sessions, services, rooms)     |
//!                 |                                     |
//!               wire    (frames, messages)  ------------+
//! ```
//!
//! An arrow goes down only, and the drivers never import each other;
//! `tests/layers.rs` holds that.

pub mod admission;
pub mod blocking;
pub mod client;
pub mod config;
pub mod console;
pub mod counters;
pub mod disk;
pub mod ending;
pub mod flush;
pub mod limits;
pub mod listen;
pub mod logging;
pub mod memory;
pub mod process;
pub mod proto;
pub mod reactor;
pub mod signals;
pub mod stall;
pub mod store;
mod sys;
pub mod system;
pub mod talk;
pub mod text;
pub mod timers;
pub mod token;
pub mod wire;
