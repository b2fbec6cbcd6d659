//! What the protocol means: sessions, their services and the rooms they share.
//!
//! Nothing here touches a socket, a file, a process or a clock. A driver feeds
//! a [`Session`] with [`Input`] values, sends what its [`Outbox`] queues and
//! carries out the [`Effect`]s it asks for; the answers come back as further
//! inputs. So every test, the fuzzer and the simulator run the same code as
//! the server.
//!
//! ```text
//!   bytes, events, answers                 frames, effects
//!   ------- Input ------>   Session   ------- Outbox ------>
//!                              |
//!                 chat      exec      files      (one state machine each)
//! ```
//!
//! Services know neither each other nor the rooms; only the session knows them.

pub mod chat;
pub mod command;
mod dispatch;
pub mod endpoint;
pub mod exec;
pub mod files;
pub mod flood;
pub mod history;
pub mod jobs;
pub mod names;
pub mod outbox;
pub mod paths;
pub mod plain;
pub mod rooms;
pub mod session;
pub mod signals;

pub use endpoint::{Endpoint, Kind};
pub use outbox::{Chunk, Outbox, SendQueue};
pub use session::{Session, SessionConfig};

use crate::wire::error::Refusal;
use std::time::Instant;

/// A connection, for as long as the server runs: no two ever share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

impl ConnId {
    /// The operator's console, which is no connection but a member like one.
    /// Drivers give this identity to nobody else.
    pub const OPERATOR: ConnId = ConnId(u64::MAX);
}

/// Both clocks, as the driver read them.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock, for deadlines.
    pub instant: Instant,
    /// Milliseconds since the Unix epoch, for what people read.
    pub unix_ms: u64,
}

/// What a driver tells a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes from the peer, at least one.
    Bytes(&'a [u8]),
    /// The peer ended its sending side.
    Eof,
    /// The connection is gone: let go of everything. The last input.
    Gone,
    /// The answer to [`Effect::Room`].
    Room(rooms::Reply),
    /// Frames for the peer from a room or another nick.
    Delivery(&'a rooms::Delivery),
    /// The answer to [`Effect::Spawn`].
    Spawned(Result<exec::Spawned, Refusal>),
    /// Something that a running command did.
    Child(jobs::JobId, exec::ChildEvent<'a>),
    /// The answer to [`Effect::Jobs`]: a JSON array.
    Jobs(Vec<u8>),
    /// The answer to [`Effect::Kill`].
    Killed(Result<(), Refusal>),
    /// The answer to one [`Effect::Disk`].
    Disk(files::DiskReply),
    /// A queued stretch of this file could not be sent whole, because the file
    /// shrank; the driver sent zeros in its place, so that the frame is complete.
    FileShrank(files::FileHandle),
    /// The answer to [`Effect::Stats`]: a JSON object.
    Stats(Vec<u8>),
    /// The send queue fell below its low-water mark.
    Drained,
    /// The peer does not take what is queued for it; end the connection.
    SlowConsumer,
    /// An operator ended the connection.
    Kicked,
    /// The server is stopping.
    Shutdown,
}

/// What a session asks of its driver. Effects are carried out in their order.
#[derive(Debug)]
pub enum Effect {
    /// Apply to the rooms; answered by [`Input::Room`] before anything else.
    Room(rooms::Op),
    /// Start a command; answered by [`Input::Spawned`], which may take its time.
    /// A session asks for no second one before. Where [`Input::Gone`] comes
    /// first, the driver lets the command go by itself, as
    /// [`Abandon`](exec::JobEffect::Abandon) does.
    Spawn(Box<exec::Spawn>),
    /// Do something to a running command of this session; not answered.
    Job(jobs::JobId, exec::JobEffect),
    /// List the running commands; answered by [`Input::Jobs`].
    Jobs,
    /// Signal any command; answered by [`Input::Killed`].
    Kill(jobs::JobId, exec::Signal),
    /// A disk operation for the worker; each is answered by one [`Input::Disk`]
    /// (unless [`Input::Gone`] came before). Those on one file keep their order.
    Disk(files::DiskRequest),
    /// The server's counters; answered by [`Input::Stats`].
    Stats,
}
