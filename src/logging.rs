//! The log: to standard error, and never in the way.
//!
//! Whoever reads standard error may stop reading it. So lines are handed to a
//! thread, over a channel of bounded length; where that is full they are
//! counted instead of waited for.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Lines that may wait for a slow reader of standard error.
const BACKLOG: usize = 4_096;

/// Ends the log; dropping it writes what is still there.
#[derive(Debug)]
pub struct LogGuard {
    sender: SyncSender<Option<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
}

struct LineSender {
    sender: SyncSender<Option<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
}

impl Write for LineSender {
    /// env_logger hands over one whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.sender.try_send(Some(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the log at `RUST_LOG`, or `info` where that is not set.
pub fn start() -> io::Result<LogGuard> {
    let (sender, receiver) = sync_channel(BACKLOG);
    let dropped = Arc::new(AtomicU64::new(0));
    let target = LineSender { sender: sender.clone(), dropped: Arc::clone(&dropped) };
    let writer = std::thread::Builder::new().name("log".into()).spawn(move || write_lines(&receiver, &dropped))?;
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .target(env_logger::Target::Pipe(Box::new(target)))
        .init();
    Ok(LogGuard { sender, writer: Some(writer) })
}

fn write_lines(lines: &Receiver<Option<Vec<u8>>>, dropped: &AtomicU64) {
    let mut stderr = io::stderr();
    while let Ok(Some(line)) = lines.recv() {
        let lost = dropped.swap(0, Ordering::Relaxed);
        let written = match lost {
            0 => stderr.write_all(&line),
            _ => writeln!(stderr, "({lost} lines of the log were lost)").and_then(|()| stderr.write_all(&line)),
        };
        if written.is_err() {
            // Nobody can be told; the server goes on without a log.
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // A reader of standard error that stopped must not hold up the end,
        // and a full channel means just that.
        if self.sender.try_send(None).is_ok()
            && let Some(writer) = self.writer.take()
        {
            let give_up = std::time::Instant::now() + std::time::Duration::from_millis(500);
            while !writer.is_finished() && std::time::Instant::now() < give_up {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
}
