//! The workers and what passes between them and the driver's thread.

mod uploads;

use super::jail::Jail;
use super::listing::{KEPT, Listings};
use super::parts::Parts;
use super::task::{Ground, Opened, Task};
use super::{Client, Counters, Options, WORKERS};
use crate::proto::ConnId;
use crate::proto::files::{DiskDone, DiskOp, DiskReply, FileHandle, Ticket};
use crate::wire::error::Refusal;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use uploads::Slot;

/// What a worker has done.
#[derive(Debug)]
pub(super) enum Outcome {
    Reply(Arc<Client>, DiskReply),
    /// The driver's thread gives the file its handle.
    Opened(Arc<Client>, Ticket, Box<Opened>),
    /// The stretch of the file that was read.
    Warm(Arc<Client>, FileHandle, (u64, u64)),
}

#[derive(Debug, Default)]
struct State {
    tasks: VecDeque<Task>,
    uploads: HashMap<FileHandle, Slot>,
    /// Running checksums, each with the switch that stops it.
    hashes: HashMap<(ConnId, Ticket), Arc<AtomicBool>>,
    next_sweep: Option<Instant>,
    stopping: bool,
    workers: usize,
}

#[derive(Debug)]
struct Shared {
    ground: Ground,
    state: Mutex<State>,
    /// There is a task, or the end.
    work: Condvar,
    /// A worker ended.
    ended: Condvar,
    done: Mutex<VecDeque<Outcome>>,
    handles: AtomicU64,
    sweep_every: Duration,
    tally: Tally,
}

/// What [`Counters`] shows of the past.
#[derive(Debug, Default)]
struct Tally {
    operations: AtomicU64,
    refused: AtomicU64,
    written: AtomicU64,
    published: AtomicU64,
    warmed: AtomicU64,
}

/// The workers, seen from the driver's thread.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(super) fn start(jail: Jail, notify: impl Fn() + Send + Sync + 'static, options: Options) -> io::Result<Pool> {
        let shared = Arc::new(Shared {
            ground: Ground { jail, parts: Parts::new(options.part_lifetime), listings: Listings::default() },
            // The first sweep is for what an earlier server left behind.
            state: Mutex::new(State { next_sweep: Some(Instant::now()), workers: WORKERS, ..State::default() }),
            work: Condvar::new(),
            ended: Condvar::new(),
            done: Mutex::default(),
            handles: AtomicU64::new(0),
            sweep_every: options.sweep_every,
            tally: Tally::default(),
        });
        let notify = Arc::new(notify);
        let mut pool = Pool { shared, threads: Vec::new() };
        for n in 0..WORKERS {
            let (shared, notify) = (pool.shared.clone(), notify.clone());
            let thread = std::thread::Builder::new().name(format!("disk-{n}")).spawn(move || shared.work(&*notify))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    pub(super) fn next_handle(&self) -> FileHandle {
        self.shared.next_handle()
    }

    pub(super) fn push(&self, task: Task) {
        self.shared.state().tasks.push_back(task);
        self.shared.work.notify_one();
    }

    pub(super) fn hash_begins(&self, conn: ConnId, ticket: Ticket) -> Arc<AtomicBool> {
        let stop = Arc::new(AtomicBool::new(false));
        self.shared.state().hashes.insert((conn, ticket), stop.clone());
        stop
    }

    pub(super) fn stop_hash(&self, conn: ConnId, ticket: Ticket) {
        if let Some(stop) = self.shared.state().hashes.get(&(conn, ticket)) {
            stop.store(true, Ordering::Relaxed);
        }
    }

    /// Everything of that connection is let go of.
    pub(super) fn gone(&self, client: &Arc<Client>) {
        let mut state = self.shared.state();
        client.gone.store(true, Ordering::Release);
        state.release(|slot| slot.client.id == client.id);
        drop(state);
        self.shared.work.notify_all();
    }

    pub(super) fn take_done(&self, into: &mut VecDeque<Outcome>) {
        std::mem::swap(into, &mut *lock(&self.shared.done));
    }

    pub(super) fn counters(&self) -> Counters {
        let tally = &self.shared.tally;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let state = self.shared.state();
        Counters {
            operations: read(&tally.operations),
            refused: read(&tally.refused),
            written: read(&tally.written),
            published: read(&tally.published),
            warmed: read(&tally.warmed),
            queued: state.tasks.len(),
            uploads: state.uploads.len(),
            downloads: 0,
        }
    }

    pub(super) fn shutdown(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.state();
        state.stopping = true;
        state.release(|_| true);
        self.shared.work.notify_all();
        while state.workers > 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            state = self.shared.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a disk worker ended by a panic");
            }
        }
        true
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Those that a disk keeps longer end by themselves, or with the process.
        self.shutdown(Duration::from_secs(2));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn next_handle(&self) -> FileHandle {
        FileHandle(self.handles.fetch_add(1, Ordering::Relaxed))
    }

    /// What a worker's thread runs.
    fn work(&self, notify: &impl Fn()) {
        /// Counts the worker out however it ends.
        struct Leave<'a>(&'a Shared);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.state().workers -= 1;
                self.0.ended.notify_all();
            }
        }
        let _leave = Leave(self);
        let mut scratch = Vec::new();
        while let Some(task) = self.next() {
            self.run(task, &mut scratch, notify);
        }
    }

    /// The next task; `None` when the worker should end.
    fn next(&self) -> Option<Task> {
        let mut state = self.state();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                return Some(task);
            }
            if state.stopping {
                return None;
            }
            let now = Instant::now();
            if state.next_sweep.is_some_and(|at| at <= now) {
                state.next_sweep = now.checked_add(self.sweep_every);
                return Some(Task::Sweep);
            }
            let sweep = state.next_sweep.map(|at| at - now);
            let expiry = self.ground.listings.expire().then_some(KEPT);
            state = match [sweep, expiry].into_iter().flatten().min() {
                Some(left) => self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn run(&self, task: Task, scratch: &mut Vec<u8>, notify: &impl Fn()) {
        let ground = &self.ground;
        match task {
            Task::Simple { client, ticket, op: DiskOp::Open { path } } => match ground.open(path) {
                Ok(opened) => self.done(Outcome::Opened(client, ticket, Box::new(opened)), notify),
                Err(refusal) => self.reply(client, ticket, Err(refusal), notify),
            },
            Task::Simple { client, ticket, op } => {
                // What was asked for happens also where nobody learns of it.
                let result = ground.simple(op);
                self.reply(client, ticket, result, notify);
            }
            Task::Check { client, ticket, file } => {
                let result = ground.check(file.as_deref());
                self.reply(client, ticket, result, notify);
            }
            Task::Close { answer, files } => {
                drop(files);
                if let Some((client, ticket)) = answer {
                    self.reply(client, ticket, Ok(DiskDone::Done), notify);
                }
            }
            Task::Hash(mut hash) => match hash.step(ground, scratch) {
                None => self.again(Task::Hash(hash)),
                Some(result) => {
                    self.state().hashes.remove(&(hash.client.id, hash.ticket));
                    self.reply(hash.client, hash.ticket, result, notify);
                }
            },
            Task::Create(mut create) => match create.step(ground, scratch) {
                None => self.again(Task::Create(create)),
                Some(result) => self.created(*create, result, notify),
            },
            Task::Upload(file) => self.run_upload(file, notify),
            Task::Warm { client, handle, file, offset, length } => {
                ground.warm(&file, offset, length, scratch);
                self.tally.warmed.fetch_add(1, Ordering::Relaxed);
                self.done(Outcome::Warm(client, handle, (offset, offset.saturating_add(length as u64))), notify);
            }
            Task::Sweep => ground.sweep(),
        }
    }

    /// Puts a task that is not done behind the others.
    fn again(&self, task: Task) {
        let mut state = self.state();
        if !state.stopping {
            return state.tasks.push_back(task);
        }
        drop(state);
        if let Task::Create(create) = task {
            create.abandon(&self.ground);
        }
    }

    fn reply(&self, client: Arc<Client>, ticket: Ticket, result: Result<DiskDone, Refusal>, notify: &impl Fn()) {
        self.tally.operations.fetch_add(1, Ordering::Relaxed);
        if result.is_err() {
            self.tally.refused.fetch_add(1, Ordering::Relaxed);
        }
        self.done(Outcome::Reply(client, DiskReply { ticket, result }), notify);
    }

    /// Hands something to the driver's thread, and wakes it where it has
    /// nothing else to collect yet.
    fn done(&self, outcome: Outcome, notify: &impl Fn()) {
        let mut done = lock(&self.done);
        let first = done.is_empty();
        done.push_back(outcome);
        drop(done);
        if first {
            notify();
        }
    }
}
