//! What every driver allows a connection, and allows itself: the limits that
//! are neither the protocol's nor an operator's choice.

use std::time::{Duration, Instant};

/// How long a connection that ended may take to read its last words.
pub const LINGER: Duration = Duration::from_secs(3);

/// How long the rest of a failed connection's input is thrown away, so that
/// closing does not reset it and the peer can read why.
pub const DRAIN_TIME: Duration = Duration::from_secs(2);

/// How much of it is thrown away at most, in bytes.
pub const DRAIN_BYTES: usize = 8 << 20;

/// After a stop, connections and commands have this long to end.
pub const STOP_TIME: Duration = Duration::from_secs(4);

/// How long to wait before another attempt when descriptors have run out and
/// none of ours was given back.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Running out of descriptors is logged once in so many times: at five tries
/// a second, once a minute.
pub const EXHAUSTED_LOG_INTERVAL: u64 = 300;

/// How long more than the soft limit may be queued for one connection.
pub const SOFT_LIMIT_TIME: Duration = Duration::from_secs(60);

/// The soft limit is this part of the hard one.
const SOFT_LIMIT_SHARE: usize = 4;

/// The soft limit is at least this: what a connection may queue for itself
/// (answers up to the high-water mark and one body beyond) is not slowness.
const SOFT_LIMIT_FLOOR: usize = 2 << 20;

/// Whether a connection for which `queued` bytes wait is to be ended because
/// it takes too little. `since` is its own note of when the soft limit was
/// passed; `limit` is the hard one, in bytes.
pub fn is_slow(queued: usize, limit: usize, since: &mut Option<Instant>, now: Instant) -> bool {
    if queued <= (limit / SOFT_LIMIT_SHARE).max(SOFT_LIMIT_FLOOR).min(limit) {
        *since = None;
        return false;
    }
    let since = *since.get_or_insert(now);
    queued > limit || now >= since + SOFT_LIMIT_TIME
}

/// Whether there is room for newcomers again after the most connections were
/// reached. Some room first: where each end let one in, the server would be
/// busy with nothing but its limit.
pub fn has_room_again(connections: usize, most: usize) -> bool {
    connections < most - most / 10
}
