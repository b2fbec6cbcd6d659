//! What the server was told to do, checked: the options of `reactord` once
//! they have become addresses, directories and limits.

use crate::proto::session::Services;
use crate::proto::{SessionConfig, rooms};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The most connections, where the descriptor limit allows that many.
pub const DEFAULT_MAX_CONNECTIONS: usize = 65_536;

/// The most commands that run at once.
pub const DEFAULT_MAX_JOBS: usize = 256;

/// The most that others may queue for one connection, in bytes: what Redis
/// allows its subscribers.
pub const DEFAULT_OUTPUT_LIMIT: usize = 32 << 20;

/// The least that makes sense there, in bytes.
pub const MIN_OUTPUT_LIMIT: usize = 1 << 20;

/// Messages kept for each room.
pub const DEFAULT_HISTORY: usize = 1_000;

/// Chat messages that one connection may send each second in the long run: far
/// more than people or most programs say, and twenty seconds' worth at once.
pub const DEFAULT_MESSAGE_RATE: u32 = 50_000;

/// How the sessions are driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// One event loop.
    Reactor,
    /// A thread for each connection, for comparison.
    Blocking,
}

/// What a driver needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The served directory.
    pub root: PathBuf,
    /// What must outlive a restart.
    pub state_dir: PathBuf,
    /// The token that clients must show; `None` where none is asked for.
    pub token: Option<String>,
    /// Which services are on.
    pub services: Services,
    /// The most connections at once.
    pub max_connections: usize,
    /// The most commands at once.
    pub max_jobs: usize,
    /// After this silence an idle connection is ended.
    pub idle_timeout: Option<Duration>,
    /// The most that others may queue for one connection, in bytes.
    pub output_limit: usize,
    /// The most that all queues and histories may hold together, in bytes.
    pub memory_limit: usize,
    /// Messages kept for each room.
    pub history: usize,
    /// Chat messages that one connection may send each second; 0 is no limit.
    pub message_rate: u32,
}

impl Config {
    /// What the rooms need of it. Histories may hold a quarter of the memory,
    /// so that they never crowd out the queues.
    pub fn rooms_config(&self, epoch_seed: String) -> rooms::Config {
        rooms::Config { history: self.history, history_bytes: self.memory_limit / 4, epoch_seed }
    }

    /// What sessions need of it.
    pub fn session_config(&self) -> Arc<SessionConfig> {
        Arc::new(SessionConfig {
            token: self.token.clone(),
            services: self.services,
            idle_timeout: self.idle_timeout,
            message_rate: self.message_rate,
        })
    }
}
