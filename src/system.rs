//! What this machine and this user give a server: clocks, directories,
//! descriptors and memory.

use crate::proto::Now;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Descriptors kept free of connections: for commands, files and the server's own.
const HEADROOM: usize = 64;

/// The part of the machine's memory that queues and histories may hold.
const MEMORY_SHARE: u64 = 8;

/// Reads both clocks.
pub fn now() -> Now {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
    Now { instant: Instant::now(), unix_ms }
}

/// Where state is kept unless an option says otherwise.
pub fn default_state_dir() -> Option<PathBuf> {
    let set = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let state =
        set.or_else(|| std::env::home_dir().filter(|dir| dir.is_absolute()).map(|home| home.join(".local/state")))?;
    Some(state.join("reactord"))
}

/// Makes a directory that only its owner may enter, with its parents.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Raises the descriptor limit as far as it goes and returns it.
pub fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(e) = setrlimit(Resource::Nofile, raised) {
            log::warn!("cannot raise the descriptor limit: {e}");
        }
    }
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| n as usize)
}

/// How many connections that many descriptors allow: commands and files need
/// some too.
pub fn connections_for(descriptors: usize) -> usize {
    descriptors.saturating_sub(HEADROOM).max(descriptors / 2).max(1)
}

/// What queues and histories may hold together, in bytes.
pub fn default_memory_limit() -> usize {
    let info = rustix::system::sysinfo();
    (info.totalram * u64::from(info.mem_unit) / MEMORY_SHARE) as usize
}
