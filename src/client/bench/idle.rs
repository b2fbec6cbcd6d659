//! Connections that do nothing: what they cost, and that they still answer.

use super::echo::{Echo, Lines};
use super::figures::Figures;
use super::peer::Peer;
use super::progress::Progress;
use super::{End, wrong};
use crate::client::error::{ClientError, Result};
use serde::Serialize;
use std::time::{Duration, Instant};

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Connections.
    pub connections: usize,
    /// How long they stay idle.
    pub hold: Duration,
    /// The server's process, where its memory is to be measured.
    pub pid: Option<u32>,
}

/// Bytes of the one request that each connection makes.
const SIZE: usize = 64;

/// What idle connections cost. The percentiles are those of one request on
/// each connection after the silence, all of them at once.
#[derive(Clone, Debug, Serialize)]
pub struct Idleness {
    /// Connections.
    pub connections: usize,
    /// Seconds to connect and greet all of them, one after the other.
    pub connect_s: f64,
    /// What the server's resident memory grew by for each, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_each: Option<f64>,
    /// The requests after the silence.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Connects, makes one request on each connection, waits, and makes another.
pub fn run(peer: &mut (impl Peer + ?Sized), work: &Idle, progress: &mut Progress) -> Result<Idleness> {
    let memory = || work.pid.map(resident).transpose();
    let before = memory()?;
    let began = Instant::now();
    let mut lines = Lines::open(peer, work.connections, progress)?;
    let connect_s = began.elapsed().as_secs_f64();
    let end = End::Count(work.connections as u64);
    let once = Echo { connections: work.connections, pipeline: 1, size: SIZE, end, rate: None };
    // So that whatever a connection needs for its first request is counted.
    lines.run(peer, &once, progress)?;
    let until = Instant::now() + work.hold;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100).min(until.saturating_duration_since(Instant::now())));
        progress.tick(Instant::now(), lines.len() as u64, "idle connections");
    }
    let grown = before.zip(memory()?).map(|(before, after)| after.saturating_sub(before));
    let bytes_each = grown.map(|bytes| bytes as f64 / work.connections as f64);
    let figures = lines.run(peer, &once, progress)?;
    if figures.count != work.connections as u64 {
        return Err(wrong(format_args!("{} of {} connections still answer", figures.count, work.connections)));
    }
    Ok(Idleness { connections: work.connections, connect_s, bytes_each, figures })
}

/// The resident memory of a process, in bytes: VmRSS of proc_pid_status(5).
///
/// # Errors
/// `Local` where there is no such process, or no such file on this system.
pub fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(|e| ClientError::local(&path, e))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| ClientError::Local(format!("{path} has no VmRSS")))
}
