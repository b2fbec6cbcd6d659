//! What the server counts of itself: one plain struct, which the driver that
//! runs adds to and `stats` shows.

use serde::Serialize;

/// Counters since the start, and gauges of the present. Times are in
/// microseconds, sizes in bytes.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md describes each field of the stats body")]
pub struct Counters {
    pub mode: &'static str,
    pub version: &'static str,
    pub uptime_ms: u64,
    pub connections: usize,
    pub max_connections: usize,
    pub accepted: u64,
    pub accept_errors: u64,
    pub refused: u64,
    pub strangers: usize,
    pub closed: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub reads: u64,
    pub writes: u64,
    pub turns: u64,
    pub longest_turn_us: u64,
    pub longest_turn_phase: &'static str,
    pub slow_consumers: u64,
    pub timeouts: u64,
    pub auth_failures: u64,
    pub queued_bytes: usize,
    pub memory_limit: usize,
    pub rooms: usize,
    pub nicks: usize,
    pub history_bytes: usize,
    pub jobs: usize,
    pub jobs_started: u64,
    pub open_files: usize,
    pub files_stored: u64,
    pub disk_waiting: usize,
}
