//! The commands that run: starting them, finding them, ending them. What goes
//! on in one is its thread's.

use super::command::{Command, Order, Pipes};
use super::conn::{Conn, State};
use super::server::Server;
use super::{lock, start};
use crate::process::{self, Environment, Warden, report};
use crate::proto::exec::{JobEffect, Signal, Spawn, Spawned};
use crate::proto::jobs::{Job, JobId, Jobs};
use crate::proto::{ConnId, Now};
use crate::wire::error::Refusal;
use slab::Slab;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

#[derive(Debug)]
struct Table {
    jobs: Jobs,
    /// One for each command, also while it is being ended or still started.
    slots: Slab<Option<Arc<Command>>>,
    /// Those that a session or a `kill` may still do something to.
    by_job: HashMap<JobId, Arc<Command>>,
}

/// Every command of the server.
#[derive(Debug)]
pub(super) struct Commands {
    environment: Environment,
    warden: Warden,
    max_jobs: usize,
    table: Mutex<Table>,
    started: AtomicU64,
}

impl Commands {
    /// No commands yet, and never more than `max_jobs`, those included that
    /// are still being ended.
    pub(super) fn new(max_jobs: usize) -> Self {
        let table = Table { jobs: Jobs::default(), slots: Slab::new(), by_job: HashMap::new() };
        Commands {
            environment: Environment::from_server(),
            warden: Warden::new("/proc/self/exe"),
            max_jobs,
            table: Mutex::new(table),
            started: AtomicU64::new(0),
        }
    }

    /// Commands that run, those included that are being ended.
    pub(super) fn len(&self) -> usize {
        lock(&self.table).slots.len()
    }

    /// Commands started so far.
    pub(super) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// The JSON array that answers `jobs` for that connection.
    pub(super) fn jobs_json(&self, asker: ConnId) -> Vec<u8> {
        lock(&self.table).jobs.list(asker)
    }

    /// Does something to a command of a connection, whose state this is; gives
    /// the bytes of input that came when nobody could take them any more. A
    /// job that is not there any more is let be.
    pub(super) fn effect(&self, conn: &Conn, state: &mut State, now: Instant, job: JobId, effect: JobEffect) -> usize {
        let Some(command) = state.commands.get(&job) else { return 0 };
        match effect {
            JobEffect::Write(bytes) => return command.order(Order::Write(bytes)),
            JobEffect::CloseInput => drop(command.order(Order::CloseInput)),
            JobEffect::Resize { rows, cols } => drop(command.order(Order::Resize { rows, cols })),
            JobEffect::Signal(signal) => {
                if let Err(e) = command.signal(signal) {
                    log::warn!("job {}: cannot send {}: {e}", job.0, signal.name());
                }
            }
            JobEffect::Terminate => command.terminate(now),
            JobEffect::Release | JobEffect::Abandon => {
                let mut table = lock(&self.table);
                table.jobs.remove(job);
                table.by_job.remove(&job);
                drop(table);
                command.release(now, effect == JobEffect::Abandon);
                // Before the client learns that it is over, and starts the next.
                command.log_end(&conn.peer.to_string());
                if let Some(slot) = command.free_place() {
                    self.free(slot);
                }
                state.commands.remove(&job);
            }
        }
        0
    }

    /// Signals any command's group, whosever it is. `not_found` where there is
    /// no such job, `forbidden` where it runs as somebody else.
    pub(super) fn kill(&self, job: JobId, signal: Signal) -> Result<(), Refusal> {
        let Some(command) = lock(&self.table).by_job.get(&job).cloned() else { return Err(report::no_job(job)) };
        command.signal(signal).map_err(|e| report::cannot_signal(job, &e))
    }

    /// Ends every command, each with its grace.
    pub(super) fn terminate_all(&self) {
        let now = Instant::now();
        let all: Vec<_> = lock(&self.table).slots.iter().filter_map(|(_, command)| command.clone()).collect();
        all.iter().for_each(|command| command.terminate(now));
    }

    /// What a command whose leader has ended left behind is no more the
    /// warden's business.
    pub(super) fn spare(&self, slot: usize) {
        self.warden.forget(slot);
    }

    fn free(&self, slot: usize) {
        // Before the place is another's.
        self.warden.forget(slot);
        lock(&self.table).slots.remove(slot);
    }

    fn reserve(&self) -> Result<usize, Refusal> {
        let mut table = lock(&self.table);
        if table.slots.len() >= self.max_jobs {
            return Err(report::too_many(self.max_jobs));
        }
        Ok(table.slots.insert(None))
    }
}

impl Server {
    /// Starts a command for a connection, whose state is locked until its
    /// program runs, or cannot.
    pub(super) fn spawn(
        self: &Arc<Self>,
        conn: &Arc<Conn>,
        state: &mut State,
        now: Now,
        nick: &str,
        spec: Spawn,
    ) -> Result<Spawned, Refusal> {
        let asked = report::Asked::new(&conn.peer.to_string(), nick, &spec.program);
        let result = self.commands.reserve().and_then(|slot| {
            self.spawn_in(slot, conn, state, now, nick, spec).inspect_err(|_| self.commands.free(slot))
        });
        asked.log(&result);
        result
    }

    fn spawn_in(
        self: &Arc<Self>,
        slot: usize,
        conn: &Arc<Conn>,
        state: &mut State,
        now: Now,
        nick: &str,
        spec: Spawn,
    ) -> Result<Spawned, Refusal> {
        let commands = &self.commands;
        commands.warden.begin();
        let process::Child { mut process, stdin, stdout, stderr } = process::spawn(&commands.environment, &spec)?;
        let pid = process.pid();
        commands.warden.watch(slot, pid, process.is_on_terminal());
        let pipes = Pipes::new(&process, (stdin, stdout, stderr)).map_err(|e| {
            process.kill_and_wait();
            report::cannot_watch(&e)
        })?;
        let Spawn { id, program, .. } = spec;
        let job = Job { conn: conn.id, id, pid, nick: nick.to_owned(), program, started_ms: now.unix_ms };
        let (job, command) = {
            let mut table = lock(&commands.table);
            let job = table.jobs.add(job);
            let command = Arc::new(Command::new(job, slot, now.instant, process, &pipes));
            table.slots[slot] = Some(Arc::clone(&command));
            table.by_job.insert(job, Arc::clone(&command));
            (job, command)
        };
        let (server, theirs, of) = (Arc::clone(self), Arc::clone(conn), Arc::clone(&command));
        let started = start("command", move || {
            if let Some(slot) = of.run(&server, theirs, pipes) {
                server.commands.free(slot);
            }
            // Whoever waits for the last one looks with this locked.
            drop(lock(&server.connections));
            server.ended.notify_all();
        });
        if let Err(e) = started {
            command.kill_and_wait();
            let mut table = lock(&commands.table);
            table.jobs.remove(job);
            table.by_job.remove(&job);
            return Err(report::cannot_watch(&e));
        }
        state.commands.insert(job, command);
        commands.started.fetch_add(1, Ordering::Relaxed);
        Ok(Spawned { job, pid })
    }
}
