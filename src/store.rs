//! Chat history on disk, so that a restart keeps it.
//!
//! The file is `history.redb` under the state directory, an embedded database
//! that survives a crash at any point (copy on write, checksums). One worker
//! thread writes it; the loop only hands over what changed, at most every
//! [`INTERVAL`], and only while the worker has nothing else to do. So a slow
//! disk slows nobody, and what waits for it is what the rooms keep anyway.
//!
//! # What is promised
//!
//! - A message is on the disk at most [`INTERVAL`] and two writes after it was
//!   said. That is the most that `kill -9` or a power failure loses: answers to
//!   `say` do not wait for the disk. What was written stays, whole and in order.
//! - An end in good order loses nothing: [`Store::close`] writes the rest and
//!   marks the file as *intact*. The next start goes on with the same numbers
//!   and epochs.
//! - The mark is taken away, durably, before the first number is given out.
//!   A start that does not find it goes on after the last number on the disk;
//!   numbers above may have been given out and lost, so every room gets a new
//!   epoch. A number thus never names two messages of one epoch.
//! - Where the disk fails, the chat goes on, the log says so once, and it is
//!   tried again every [`RETRY`], then with everything that is kept.

mod database;
#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::proto::Now;
use crate::proto::rooms::{Rooms, Unsaved};
use database::HistoryFile;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The file's name under the state directory.
pub const FILE_NAME: &str = "history.redb";

/// The least time between the beginnings of two writes.
pub const INTERVAL: Duration = Duration::from_millis(50);

/// The time between two tries where writing failed.
pub const RETRY: Duration = Duration::from_secs(5);

/// The most that the end of the server waits for the disk.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the history cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file open.
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is none of ours, or not as we left it.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The system refused something.
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        why: String,
    },
    /// The disk did not answer in time.
    Stalled,
}

impl StoreError {
    fn from_redb(path: &Path, error: redb::Error) -> Self {
        use std::io::ErrorKind::{InvalidData, UnexpectedEof};
        let (path, why) = (path.to_owned(), error.to_string());
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => StoreError::InUse { path },
            redb::Error::Io(e) if !matches!(e.kind(), InvalidData | UnexpectedEof) => StoreError::Io { path, why },
            redb::Error::PreviousIo => StoreError::Io { path, why },
            _ => StoreError::Damaged { path, why },
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path } => {
                let path = path.display();
                write!(f, "{path} is in use: stop the other reactord, or give this one its own --state-dir")
            }
            Self::Damaged { path, why } => {
                let path = path.display();
                write!(f, "{path} holds no readable chat history ({why}): move it away to start with an empty one")
            }
            Self::Io { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Stalled => {
                write!(f, "the disk did not take the chat history within {} s", CLOSE_TIMEOUT.as_secs())
            }
        }
    }
}

impl std::error::Error for StoreError {}

#[derive(Debug)]
enum Job {
    Save(Unsaved),
    MarkIntact,
}

/// The history's file and its worker.
#[derive(Debug)]
pub struct Store {
    jobs: Sender<Job>,
    done: Receiver<Result<(), StoreError>>,
    worker: JoinHandle<()>,
    /// Whether the worker owes an answer; it never has more than one job.
    busy: bool,
    /// The next write begins no earlier.
    next: Instant,
    /// Whether the last write failed.
    failing: bool,
}

impl Store {
    /// The rooms of a server that starts at `now`, as an earlier one left them,
    /// and what goes on keeping them; that is nothing where chat is off. Blocks
    /// like [`Store::open`].
    pub fn open_rooms(config: &Config, now: Now) -> Result<(Rooms, Option<Store>), StoreError> {
        let mut rooms = Rooms::new(config.rooms_config(format!("{:x}", now.unix_ms)));
        let open = || Store::open(&config.state_dir, now.instant, &mut rooms);
        let store = config.services.chat.then(open).transpose()?;
        Ok((rooms, store))
    }

    /// Opens the history under `state_dir`, which exists, and puts what it
    /// holds into `rooms`. Blocks for as long as the disk needs; for before
    /// the loop begins.
    pub fn open(state_dir: &Path, now: Instant, rooms: &mut Rooms) -> Result<Store, StoreError> {
        let path = state_dir.join(FILE_NAME);
        let (mut file, contents) = HistoryFile::open(&path)?;
        if !contents.intact {
            log::warn!("the last server did not end in good order: the last chat messages may be lost");
        }
        rooms.restore(contents.rooms, contents.intact);
        let (jobs, todo) = channel();
        let (finished, done) = channel();
        let work = move || {
            for job in todo {
                let result = match job {
                    Job::Save(unsaved) => file.save(&unsaved),
                    Job::MarkIntact => file.mark_intact(),
                };
                if finished.send(result).is_err() {
                    return;
                }
            }
        };
        let worker = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(work)
            .map_err(|e| StoreError::Io { path, why: format!("cannot start its thread: {e}") })?;
        Ok(Store { jobs, done, worker, busy: false, next: now, failing: false })
    }

    /// Hands over what changed, where it is time; never blocks. To be called
    /// at the end of each turn, and again when the time comes that it gives;
    /// `None` means that everything said is on the disk.
    pub fn save(&mut self, now: Instant, rooms: &mut Rooms) -> Option<Instant> {
        if self.busy {
            match self.done.try_recv() {
                Ok(result) => self.finished(now, result, rooms),
                Err(TryRecvError::Empty) => return Some(self.next.max(now + INTERVAL)),
                Err(TryRecvError::Disconnected) => self.worker_died(now, rooms),
            }
        }
        if !rooms.has_unsaved() {
            return None;
        }
        if now >= self.next
            && let Some(unsaved) = rooms.take_unsaved()
        {
            self.next = now + INTERVAL;
            self.busy = self.jobs.send(Job::Save(unsaved)).is_ok();
            if !self.busy {
                self.worker_died(now, rooms);
            }
        }
        Some(self.next)
    }

    fn finished(&mut self, now: Instant, result: Result<(), StoreError>, rooms: &mut Rooms) {
        self.busy = false;
        match result {
            Ok(()) if self.failing => log::info!("the chat history is saved again"),
            Ok(()) => {}
            Err(e) => {
                if !self.failing {
                    log::error!("the chat history cannot be saved, which will be tried again: {e}");
                }
                rooms.save_anew();
                self.next = now + RETRY;
                self.failing = true;
                return;
            }
        }
        self.failing = false;
    }

    fn worker_died(&mut self, now: Instant, rooms: &mut Rooms) {
        let why = "its thread has ended".to_owned();
        self.finished(now, Err(StoreError::Io { path: FILE_NAME.into(), why }), rooms);
    }

    /// Saves the rest and marks the file as intact. Waits for the disk, but no
    /// longer than [`CLOSE_TIMEOUT`]; where that is not enough, or writing
    /// fails, the next start finds what was saved before, and no mark.
    pub fn close(self, now: Instant, rooms: &mut Rooms) -> Result<(), StoreError> {
        let deadline = now + CLOSE_TIMEOUT;
        if self.busy {
            self.wait(deadline).inspect_err(|_| rooms.save_anew())?;
        }
        if let Some(unsaved) = rooms.take_unsaved() {
            self.carry_out(Job::Save(unsaved), deadline)?;
        }
        self.carry_out(Job::MarkIntact, deadline)?;
        drop(self.jobs);
        self.worker.join().map_err(|_| StoreError::Stalled)
    }

    fn carry_out(&self, job: Job, deadline: Instant) -> Result<(), StoreError> {
        self.jobs.send(job).map_err(|_| StoreError::Stalled)?;
        self.wait(deadline)
    }

    fn wait(&self, deadline: Instant) -> Result<(), StoreError> {
        match self.done.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(StoreError::Stalled),
        }
    }
}
