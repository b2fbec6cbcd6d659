//! A load generator: known work against a server, every answer checked, and
//! the figures that come of it.
//!
//! # Layout
//!
//! - [`target`]: who may be put under load.
//! - [`peer`]: how a kind of server is spoken to; [`frames`] is reactord's.
//! - [`payload`]: bytes that no two requests share.
//! - [`mod@line`]: one connection without blocking, and many of them under one poll.
//! - [`echo`], [`fanout`], [`churn`], [`idle`]: one thread, one poll.
//! - [`transfer`], [`exec`]: files and commands, a thread for each connection.
//! - [`figures`]: throughput and percentiles. [`progress`]: the live line.
//!
//! Latency is measured from the moment at which a request was *meant* to be
//! sent where a rate is given: a server that stalls is charged for those that
//! had to wait behind the stall, too. Without a rate the next request is meant
//! to be sent when its place in the pipeline becomes free.

pub mod churn;
pub mod echo;
pub mod exec;
pub mod fanout;
pub mod figures;
pub mod frames;
pub mod idle;
pub mod line;
pub mod payload;
pub mod peer;
pub mod progress;
pub mod target;
pub mod transfer;

pub use figures::Figures;
pub use frames::Reactord;
pub use peer::{Peer, Publishing};
pub use progress::Progress;

use crate::client::error::ClientError;
use std::time::{Duration, Instant};

/// The most connections of one run; descriptors may allow fewer.
pub const MAX_CONNECTIONS: usize = 60_000;

/// The most connections that have a thread each.
pub const MAX_THREADS: usize = 256;

/// The longest run.
pub const MAX_DURATION: Duration = Duration::from_secs(3_600);

/// After so long without one answer a run is given up.
pub const STUCK: Duration = Duration::from_secs(20);

/// When a run ends by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// After so many requests, all connections together.
    Count(u64),
    /// After so long; what is under way is still waited for.
    Time(Duration),
}

impl End {
    /// Whether one more request may be made after `asked` of them.
    fn allows(self, asked: u64, began: Instant, now: Instant) -> bool {
        match self {
            End::Count(count) => asked < count,
            End::Time(time) => now < began + time,
        }
    }
}

/// An answer that is not what it must be.
fn wrong(what: impl std::fmt::Display) -> ClientError {
    ClientError::Wrong(what.to_string())
}

fn stuck(done: u64, of: u64) -> ClientError {
    wrong(format_args!("nothing came for {} s, with {done} of {of} answered", STUCK.as_secs()))
}
