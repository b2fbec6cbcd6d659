//! What is counted, and what `stats` shows of it.

use super::conn::Conn;
use super::lock;
use super::server::Server;
use crate::counters::Counters;
use std::sync::atomic::{AtomicU64, Ordering};

/// Events of which each is counted by whoever caused it.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: AtomicU64,
    pub(super) accept_errors: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) slow_consumers: AtomicU64,
    pub(super) auth_failures: AtomicU64,
}

/// Traffic of many connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    reads: u64,
    writes: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Totals {
    pub(super) fn add(&mut self, conn: &Conn) {
        self.reads += conn.traffic.reads.load(Ordering::Relaxed);
        self.writes += conn.traffic.writes.load(Ordering::Relaxed);
        self.bytes_in += conn.traffic.bytes_in.load(Ordering::Relaxed);
        self.bytes_out += conn.traffic.bytes_out.load(Ordering::Relaxed);
    }
}

pub(super) fn count(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

impl Server {
    /// The counters, as a JSON object.
    pub(super) fn stats(&self) -> Vec<u8> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        let (connections, traffic) = {
            let connections = lock(&self.connections);
            let mut traffic = connections.closed;
            connections.by_id.values().for_each(|conn| traffic.add(conn));
            (connections.by_id.len(), traffic)
        };
        let (disk, open_files) = {
            let disk = lock(&self.disk);
            (disk.counters(), disk.open_files())
        };
        let (rooms, nicks, history_bytes) = lock(&self.chat).rooms.counts();
        let counters = Counters {
            mode: "blocking",
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            connections,
            max_connections: self.config.max_connections,
            accepted: load(&counts.accepted),
            accept_errors: load(&counts.accept_errors),
            refused: load(&counts.refused),
            strangers: lock(&self.admission).strangers(),
            closed: load(&counts.closed),
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
            reads: traffic.reads,
            writes: traffic.writes,
            // There is no loop whose turns could be counted.
            turns: 0,
            longest_turn_us: 0,
            longest_turn_phase: "",
            slow_consumers: load(&counts.slow_consumers),
            timeouts: load(&counts.timeouts),
            auth_failures: load(&counts.auth_failures),
            queued_bytes: self.queued.load(Ordering::Relaxed),
            memory_limit: self.config.memory_limit,
            rooms,
            nicks,
            history_bytes,
            jobs: self.commands.len(),
            jobs_started: self.commands.started(),
            open_files,
            files_stored: disk.published,
            disk_waiting: disk.queued,
        };
        serde_json::to_vec(&counters).expect("counters are plain data")
    }
}
