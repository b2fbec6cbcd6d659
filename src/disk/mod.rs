//! The disk: everything about files that may block, on a small pool of workers.
//!
//! A driver submits [`DiskRequest`]s, is woken through the function it gave,
//! and collects what came of them. Only [`Disk::file`] and
//! [`Disk::is_resident`] act at once, and neither waits for a disk. Both
//! drivers use it; it knows neither sockets nor the protocol's order.
//!
//! ```text
//!   driver's thread                         two workers
//!   submit ---> queue of tasks -----------> jail, create, upload, tree,
//!   poll  <---- completions, one wake <---- listing, hashing, warm, parts
//! ```
//!
//! An upload belongs to the worker that is busy with it: its operations queue
//! up meanwhile, and no lock is held while a disk is waited for. Checksums of
//! whole files go in steps, so that a large file keeps no worker from others.

mod create;
mod hashing;
mod jail;
mod listing;
mod parts;
mod pool;
mod refusal;
mod task;
mod tree;
mod upload;
mod warm;

use crate::proto::ConnId;
use crate::proto::files::{DiskDone, DiskOp, DiskReply, DiskRequest, FileHandle};
use crate::wire::files::Status;
use pool::{Outcome, Pool};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use task::Task;

/// How many threads wait for disks.
pub const WORKERS: usize = 2;

/// How the disk is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a part with a key is kept unused.
    pub part_lifetime: Duration,
    /// How often such parts are looked for.
    pub sweep_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { part_lifetime: Duration::from_secs(24 * 3_600), sweep_every: Duration::from_secs(3_600) }
    }
}

/// What a driver collects.
#[derive(Debug)]
pub enum Completion {
    /// The answer to a request of this connection.
    Reply(ConnId, DiskReply),
    /// A stretch that this connection wants to send was read from the disk.
    Warm(ConnId),
}

/// What the disk did so far, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Operations answered.
    pub operations: u64,
    /// Of those, the refused ones.
    pub refused: u64,
    /// Bytes of uploads written.
    pub written: u64,
    /// Uploads published.
    pub published: u64,
    /// Cold stretches read ahead of a download.
    pub warmed: u64,
    /// Operations that wait for a worker, now.
    pub queued: usize,
    /// Open uploads, now.
    pub uploads: usize,
    /// Files open for downloads, now.
    pub downloads: usize,
}

/// A connection as the workers see it.
#[derive(Debug)]
struct Client {
    id: ConnId,
    gone: AtomicBool,
}

impl Client {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

/// A file open for downloads.
#[derive(Debug)]
struct OpenFile {
    fd: OwnedFd,
    path: String,
    /// Identity, length and modification time when it was opened.
    version: task::Version,
    /// Whether its content has no other place than memory.
    in_memory: bool,
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An open file as the driver's thread knows it.
#[derive(Debug)]
struct Download {
    owner: ConnId,
    file: Arc<OpenFile>,
    /// Where the stretch that a worker read last begins and ends.
    warm: (u64, u64),
}

/// The disk of one driver.
#[derive(Debug)]
pub struct Disk {
    pool: Pool,
    clients: HashMap<ConnId, Arc<Client>>,
    files: HashMap<FileHandle, Download>,
    ready: VecDeque<Outcome>,
}

impl Disk {
    /// Opens the root, makes it where it is missing, and starts the workers;
    /// they call `notify` when [`Disk::poll`] has something again.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with the root, or that the kernel is
    /// older than Linux 5.6.
    pub fn open(root: &Path, notify: impl Fn() + Send + Sync + 'static) -> io::Result<Disk> {
        Disk::open_with(root, notify, Options::default())
    }

    /// [`Disk::open`] with other than the usual options.
    ///
    /// # Errors
    /// As [`Disk::open`].
    pub fn open_with(root: &Path, notify: impl Fn() + Send + Sync + 'static, options: Options) -> io::Result<Disk> {
        let pool = Pool::start(jail::Jail::open(root)?, notify, options)?;
        Ok(Disk { pool, clients: HashMap::new(), files: HashMap::new(), ready: VecDeque::new() })
    }

    /// Hands an operation to the workers; [`Disk::poll`] has its answer later.
    /// Not for a connection that is [`gone`](Disk::gone).
    pub fn submit(&mut self, conn: ConnId, request: DiskRequest) {
        let client =
            self.clients.entry(conn).or_insert_with(|| Arc::new(Client { id: conn, gone: AtomicBool::new(false) }));
        let client = client.clone();
        let DiskRequest { ticket, op } = request;
        let task = match op {
            DiskOp::Check { file } => {
                let file = self.files.get(&file).map(|open| open.file.clone());
                Task::Check { client, ticket, file }
            }
            // The last close of a removed file frees its blocks, which takes time.
            DiskOp::Close { file } => {
                let file = self.files.remove(&file).map(|open| open.file);
                Task::Close { answer: Some((client, ticket)), files: Vec::from_iter(file) }
            }
            DiskOp::Write { file, bytes } => {
                return self.pool.upload(client, file, ticket, task::Step::Write(bytes));
            }
            DiskOp::Finish { file, blake3 } => {
                return self.pool.upload(client, file, ticket, task::Step::Finish(blake3));
            }
            DiskOp::Release { file, keep } => {
                return self.pool.upload(client, file, ticket, task::Step::Release { keep });
            }
            DiskOp::StopHash { ticket: hash } => {
                self.pool.stop_hash(conn, hash);
                Task::Close { answer: Some((client, ticket)), files: Vec::new() }
            }
            DiskOp::Hash { path } => {
                let stop = self.pool.hash_begins(conn, ticket);
                Task::Hash(Box::new(task::HashTask::new(client, ticket, path, stop)))
            }
            DiskOp::Create(create) => Task::Create(Box::new(task::CreateTask::new(client, ticket, *create))),
            op => Task::Simple { client, ticket, op },
        };
        self.pool.push(task);
    }

    /// What was done since; call it until `None` after each wake.
    pub fn poll(&mut self) -> Option<Completion> {
        loop {
            if self.ready.is_empty() {
                self.pool.take_done(&mut self.ready);
            }
            match self.ready.pop_front()? {
                Outcome::Reply(client, reply) if !client.is_gone() => return Some(Completion::Reply(client.id, reply)),
                Outcome::Warm(client, file, stretch) if !client.is_gone() => {
                    if let Some(open) = self.files.get_mut(&file) {
                        open.warm = stretch;
                    }
                    return Some(Completion::Warm(client.id));
                }
                Outcome::Opened(client, ticket, opened) if !client.is_gone() => {
                    let file = self.pool.next_handle();
                    let Status { length: total, mtime_ms, mode, .. } = opened.status;
                    let done = DiskDone::Opened { file, total, mtime_ms, mode };
                    self.files.insert(file, Download { owner: client.id, file: Arc::new(opened.file), warm: (0, 0) });
                    return Some(Completion::Reply(client.id, DiskReply { ticket, result: Ok(done) }));
                }
                Outcome::Opened(_, _, opened) => {
                    self.pool.push(Task::Close { answer: None, files: vec![Arc::new(opened.file)] });
                }
                Outcome::Reply(..) | Outcome::Warm(..) => {}
            }
        }
    }

    /// The connection is gone: its files are closed, its uploads dropped (or
    /// their parts kept, where they have a key), and nothing of it is
    /// answered any more.
    pub fn gone(&mut self, conn: ConnId) {
        let Some(client) = self.clients.remove(&conn) else { return };
        self.pool.gone(&client);
        let files: Vec<_> = self.files.extract_if(|_, open| open.owner == conn).map(|(_, open)| open.file).collect();
        if !files.is_empty() {
            self.pool.push(Task::Close { answer: None, files });
        }
    }

    /// A file that [`DiskDone::Opened`] named, for `sendfile`.
    pub fn file(&self, file: FileHandle) -> Option<BorrowedFd<'_>> {
        self.files.get(&file).map(|open| open.file.fd.as_fd())
    }

    /// The same for a thread that sends it by itself and may wait: the file
    /// stays open for as long as that has it.
    pub fn shared(&self, file: FileHandle) -> Option<Arc<impl AsFd + use<>>> {
        self.files.get(&file).map(|open| open.file.clone())
    }

    /// Whether sending that stretch would most likely not wait for the disk;
    /// does not wait itself. False also where the file system cannot tell,
    /// until a worker has read that very stretch.
    pub fn is_resident(&self, file: FileHandle, offset: u64, length: usize) -> bool {
        let Some(open) = self.files.get(&file) else { return true };
        let (begin, end) = open.warm;
        // Asked again, the kernel might say no for ever: under memory pressure,
        // or on a file system that knows no reads without waiting.
        let just_read = begin <= offset && offset.saturating_add(length as u64) <= end;
        just_read || warm::is_resident(&open.file, offset, length)
    }

    /// Has a worker read that stretch, so that it is resident; answered by
    /// [`Completion::Warm`].
    pub fn warm(&mut self, conn: ConnId, file: FileHandle, offset: u64, length: usize) {
        if let (Some(client), Some(open)) = (self.clients.get(&conn), self.files.get(&file)) {
            let (client, open) = (client.clone(), open.file.clone());
            self.pool.push(Task::Warm { client, handle: file, file: open, offset, length });
        }
    }

    /// Files open for downloads.
    pub fn open_files(&self) -> usize {
        self.files.len()
    }

    /// What the disk did so far, and what it holds now.
    pub fn counters(&self) -> Counters {
        Counters { downloads: self.files.len(), ..self.pool.counters() }
    }

    /// Ends the workers after what they are at: uploads are released as if
    /// their connections were gone. Waits at most `limit`; says whether they
    /// have ended.
    pub fn shutdown(&mut self, limit: Duration) -> bool {
        self.clients.clear();
        self.files.clear();
        self.pool.shutdown(limit)
    }
}

#[cfg(test)]
mod tests;
