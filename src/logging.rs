//! The log: to standard error, and never in the way.
//!
//! Whoever reads standard error may stop reading it. So lines are handed to a
//! thread, over a channel of bounded length; where that is full they are
//! counted instead of waited for. Where somebody types at the same terminal,
//! the lines are printed above what is being typed.

use crate::talk::editor::Printer;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Lines that may wait for a slow reader of standard error.
const BACKLOG: usize = 4_096;

/// What the writer is told.
enum Order {
    Line(Vec<u8>),
    /// From now on, print above what is being typed.
    Above(Printer),
    End,
}

/// Ends the log; dropping it writes what is still there.
#[derive(Debug)]
pub struct LogGuard {
    sender: SyncSender<Order>,
    writer: Option<JoinHandle<()>>,
}

struct LineSender {
    sender: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
}

impl Write for LineSender {
    /// env_logger hands over one whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.sender.try_send(Order::Line(line.to_vec())) {
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
        // It would log what is typed, and each line that is printed above it.
        .filter_module("rustyline", log::LevelFilter::Off)
        .target(env_logger::Target::Pipe(Box::new(target)))
        .init();
    Ok(LogGuard { sender, writer: Some(writer) })
}

fn write_lines(orders: &Receiver<Order>, dropped: &AtomicU64) {
    let mut above = None;
    while let Ok(order) = orders.recv() {
        let mut line = match order {
            Order::Line(line) => line,
            Order::Above(printer) => {
                above = Some(printer);
                continue;
            }
            Order::End => return,
        };
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            line.splice(0..0, format!("({lost} lines of the log were lost)\n").into_bytes());
        }
        let written = match &above {
            Some(printer) => printer.print(String::from_utf8_lossy(&line).trim_end()),
            None => io::stderr().write_all(&line),
        };
        if written.is_err() {
            // Nobody can be told; the server goes on without a log.
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LogGuard {
    /// From now on, prints above the line that is being typed, unless standard
    /// error leads somewhere else.
    pub fn print_above(&self, printer: Printer) {
        if io::stderr().is_terminal() && self.sender.try_send(Order::Above(printer)).is_err() {
            log::warn!("the log is behind, and may break the line that is being typed");
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // A reader of standard error that stopped must not hold up the end,
        // and a full channel means just that.
        if self.sender.try_send(Order::End).is_ok()
            && let Some(writer) = self.writer.take()
        {
            let give_up = std::time::Instant::now() + std::time::Duration::from_millis(500);
            while !writer.is_finished() && std::time::Instant::now() < give_up {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
}
