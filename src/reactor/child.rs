//! The commands that run: what comes from them, what goes to them, and their
//! end. Which connection wants what is left to the sessions; how a process is
//! started and signalled, to [`process`].
//!
//! A command is started by a thread of its own. Its slot is taken from the
//! moment it is asked for, so that the limit holds for those too that are only
//! being started.
//!
//! Events only latch readiness. [`Children::run`] then does the reading and
//! writing, each child in its turn and within a budget; whoever has more to do
//! stays on the ready list. A child whose reader is behind leaves the list with
//! its readiness latched, and [`Children::resume`] puts it back.
//!
//! A command that is being ended keeps its slot, unseen by everybody, until it
//! has ended with its whole group or was killed.

mod key;
mod running;
mod starter;

use crate::process::{self, Environment, Warden, report, terminal};
use crate::proto::exec::{ChildEvent, JobEffect, KILL_GRACE, Signal, Spawn, Spawned};
use crate::proto::jobs::{Job, JobId, Jobs};
use crate::proto::{ConnId, Now};
use crate::wire::MAX_OUTPUT;
use crate::wire::error::Refusal;
use key::ChildKey;
use mio::Registry;
use mio::event::Event;
use running::{Running, Wants};
use slab::Slab;
use starter::{Order, Starter};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// What all children may move in one turn before the loop goes on, in bytes.
const TURN_BUDGET: usize = 4 << 20;

/// Who listens to the children.
pub trait ChildSink {
    /// Whether that connection can take more output now.
    fn wants_output(&mut self, conn: ConnId) -> bool;
    /// Something that a command of that connection did.
    fn event(&mut self, conn: ConnId, job: JobId, event: ChildEvent<'_>);
}

/// Every command of the server.
#[derive(Debug)]
pub struct Children {
    registry: Registry,
    starter: Starter,
    warden: Arc<Warden>,
    max_jobs: usize,
    /// One for each command; `None` while it is being started.
    slots: Slab<Option<Running>>,
    /// How many are being started.
    starting: usize,
    /// Whether all are being ended, those included that are yet to come.
    stopping: bool,
    /// Those that a session or a `kill` may still do something to.
    by_job: HashMap<JobId, ChildKey>,
    jobs: Jobs,
    ready: VecDeque<ChildKey>,
    stalled: HashMap<ConnId, Vec<ChildKey>>,
    /// When those that are being ended are killed. All have the same grace, so
    /// the order is that of time.
    kills: VecDeque<(Instant, ChildKey)>,
    generation: u32,
    /// The one buffer that outputs are read into.
    buffer: Vec<u8>,
    started: u64,
}

impl Children {
    /// No commands yet, and never more than `max_jobs`, those included that
    /// are still being started or ended. Their descriptors are registered with
    /// `registry`. `notify` is called, by another thread, when
    /// [`Children::poll_started`] has something.
    ///
    /// # Errors
    /// There can be no thread to start commands.
    pub fn new(
        registry: Registry,
        max_jobs: usize,
        warden: Warden,
        notify: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let warden = Arc::new(warden);
        Ok(Children {
            registry,
            starter: Starter::new(Environment::from_server(), Arc::clone(&warden), notify)?,
            warden,
            max_jobs,
            slots: Slab::new(),
            starting: 0,
            stopping: false,
            by_job: HashMap::new(),
            jobs: Jobs::default(),
            ready: VecDeque::new(),
            stalled: HashMap::new(),
            kills: VecDeque::new(),
            generation: 0,
            buffer: vec![0; MAX_OUTPUT],
            started: 0,
        })
    }

    /// Has a command started for a connection; [`Children::poll_started`] says
    /// what came of it, unless it is refused at once.
    pub fn start(&mut self, conn: ConnId, nick: &str, peer: &str, spec: Spawn) -> Result<(), Refusal> {
        if self.slots.len() >= self.max_jobs {
            let refused = Err(report::too_many(self.max_jobs));
            report::Asked::new(peer, nick, &spec.program).log(&refused);
            return refused.map(drop);
        }
        self.generation = ChildKey::next_generation(self.generation);
        let slot = self.slots.vacant_entry();
        let key = ChildKey { slot: slot.key() as u32, generation: self.generation };
        self.starter.order(Order { key, conn, nick: nick.to_owned(), peer: peer.to_owned(), spec })?;
        slot.insert(None);
        self.starting += 1;
        Ok(())
    }

    /// How many are being started: [`Children::poll_started`] has no more than
    /// that at a time.
    pub fn starting(&self) -> usize {
        self.starting
    }

    /// What came of the start of a command, and whose it is. Where that one is
    /// gone by now, [`JobEffect::Abandon`] is left to the caller.
    pub fn poll_started(&mut self, now: Now) -> Option<(ConnId, Result<Spawned, Refusal>)> {
        let (order, result) = self.starter.poll()?;
        self.starting -= 1;
        let (conn, key) = (order.conn, order.key);
        let asked = report::Asked::new(&order.peer, &order.nick, &order.spec.program);
        let result = result.and_then(|child| self.take_charge(now, order, child));
        asked.log(&result);
        match &result {
            Ok(_) => {
                self.started += 1;
                if self.stopping {
                    self.terminate(now, key);
                }
            }
            Err(_) => drop(self.slots.remove(key.slot as usize)),
        }
        Some((conn, result))
    }

    fn take_charge(&mut self, now: Now, order: Order, child: process::Child) -> Result<Spawned, Refusal> {
        let Order { key, conn, nick, peer, spec: Spawn { id, program, .. } } = order;
        let pid = child.process.pid();
        let mut running = Running::new(&self.registry, key, conn, &peer, now.instant, child).map_err(|e| {
            self.warden.forget(key.slot as usize);
            report::cannot_watch(&e)
        })?;
        let job = self.jobs.add(Job { conn, id, pid, nick, program, started_ms: now.unix_ms });
        running.job = job;
        self.by_job.insert(job, key);
        self.slots[key.slot as usize] = Some(running);
        Ok(Spawned { job, pid })
    }

    /// Does something to a command. A job that is not there any more is let be.
    pub fn effect(&mut self, now: Now, job: JobId, effect: JobEffect) {
        let Some(&key) = self.by_job.get(&job) else { return };
        let Some(child) = get(&mut self.slots, key) else { return };
        match effect {
            JobEffect::Write(bytes) => match &mut child.input {
                Some(input) => input.push(bytes),
                None => child.dropped += bytes.len(),
            },
            JobEffect::CloseInput => {
                if let Some(input) = &mut child.input {
                    input.push_end();
                }
            }
            JobEffect::Signal(signal) => {
                if let Err(e) = child.process.signal(signal) {
                    log::warn!("job {}: cannot send {}: {e}", job.0, signal.name());
                }
                return;
            }
            JobEffect::Resize { rows, cols } => {
                if let Some(input) = &child.input
                    && let Err(e) = terminal::resize(input, rows, cols)
                {
                    log::warn!("job {}: cannot resize its terminal: {e}", job.0);
                }
                return;
            }
            JobEffect::Terminate => return self.terminate(now, key),
            JobEffect::Release => return self.release(now, key),
            JobEffect::Abandon => {
                self.terminate(now, key);
                return self.release(now, key);
            }
        }
        self.note_ready(key);
    }

    /// Begins to end a command, once.
    fn terminate(&mut self, now: Now, key: ChildKey) {
        let Some(child) = get(&mut self.slots, key).filter(|child| !child.terminating) else { return };
        child.terminating = true;
        if let Err(e) = child.process.terminate() {
            log::warn!("job {}: cannot ask it to end: {e}", child.job.0);
        }
        self.kills.push_back((now.instant + KILL_GRACE, key));
    }

    /// Lets go of a command, which is ended unless it has ended.
    fn release(&mut self, now: Now, key: ChildKey) {
        let Some(child) = get(&mut self.slots, key) else { return };
        child.close(&self.registry);
        child.released = true;
        let (conn, job, stalled, running) = (child.conn, child.job, child.stalled, child.exited.is_none());
        self.jobs.remove(job);
        self.by_job.remove(&job);
        if stalled && let Some(keys) = self.stalled.get_mut(&conn) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.stalled.remove(&conn);
            }
        }
        if running {
            self.terminate(now, key);
        } else {
            self.log_end(now, key);
        }
        self.reap(key);
    }

    /// Takes note of an event; `packed` is what the token said of the child.
    pub fn handle_event(&mut self, packed: usize, event: &Event) {
        let (key, part) = ChildKey::unpack(packed);
        if let Some(child) = get(&mut self.slots, key) {
            child.latch(part, event.is_read_closed() || event.is_error());
            self.note_ready(key);
        }
    }

    /// That connection may take output again: its stalled commands go on.
    pub fn resume(&mut self, conn: ConnId) {
        for key in self.stalled.remove(&conn).unwrap_or_default() {
            if let Some(child) = get(&mut self.slots, key) {
                child.stalled = false;
                self.note_ready(key);
            }
        }
    }

    fn note_ready(&mut self, key: ChildKey) {
        if let Some(child) = get(&mut self.slots, key).filter(|child| !child.queued) {
            child.queued = true;
            self.ready.push_back(key);
        }
    }

    /// Whether [`Children::run`] has something to do without another event.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Gives each ready child its turn. To be called in each turn of the loop
    /// before the sessions' deadlines, so that no command is taken for silent
    /// whose output only was not read. Sessions may get events while an `exec`
    /// of theirs waits; effects are to be carried out afterwards.
    pub fn run(&mut self, now: Now, sink: &mut impl ChildSink) {
        let mut budget = TURN_BUDGET;
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { return };
            let Some(child) = get(&mut self.slots, key) else { continue };
            // Not those that have exited: their silence is being measured.
            if budget == 0 && child.exited.is_none() {
                self.ready.push_back(key);
                continue;
            }
            child.queued = false;
            let ran_before = child.exited.is_some();
            let (moved, wants) = child.run(&self.registry, &mut self.buffer, sink);
            budget = budget.saturating_sub(moved);
            let conn = child.conn;
            if wants == Wants::Reader && !std::mem::replace(&mut child.stalled, true) {
                self.stalled.entry(conn).or_default().push(key);
            }
            match (ran_before, child.exited, child.released, child.terminating) {
                (false, Some(_), true, _) => self.log_end(now, key),
                // What it leaves behind is left alone, also by the warden.
                (false, Some(_), false, false) => self.warden.forget(key.slot as usize),
                _ => {}
            }
            if wants == Wants::Turn {
                self.note_ready(key);
            }
            self.reap(key);
        }
    }

    /// When [`Children::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.kills.front().map(|(at, _)| *at)
    }

    /// Kills those whose grace is over.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(&(at, key)) = self.kills.front() {
            if at > now.instant {
                return;
            }
            self.kills.pop_front();
            let Some(child) = get(&mut self.slots, key) else { continue };
            child.killed = true;
            if let Err(e) = child.process.signal(Signal::KILL) {
                log::warn!("job {}: cannot kill it: {e}", child.job.0);
            }
            self.reap(key);
        }
    }

    /// Frees a slot whose command is done.
    fn reap(&mut self, key: ChildKey) {
        if get(&mut self.slots, key).is_some_and(|child| child.is_done()) {
            self.warden.forget(key.slot as usize);
            self.slots.remove(key.slot as usize);
            while self.kills.front().is_some_and(|(_, key)| get(&mut self.slots, *key).is_none()) {
                self.kills.pop_front();
            }
        }
    }

    /// The JSON array that answers `jobs` for that connection.
    pub fn jobs_json(&self, asker: ConnId) -> Vec<u8> {
        self.jobs.list(asker)
    }

    /// Signals any command's group, whosever it is. `not_found` where there is
    /// no such job, `forbidden` where it runs as somebody else.
    pub fn kill(&mut self, job: JobId, signal: Signal) -> Result<(), Refusal> {
        let found = self.by_job.get(&job).and_then(|key| get(&mut self.slots, *key));
        let Some(child) = found else {
            return Err(report::no_job(job));
        };
        child.process.signal(signal).map_err(|e| report::cannot_signal(job, &e))
    }

    /// Ends every command, each with its grace, and those that are being
    /// started as soon as they run. Others are not started any more.
    pub fn terminate_all(&mut self, now: Now) {
        self.stopping = true;
        self.starter.stop();
        for key in self.slots.iter().filter_map(|(_, child)| Some(child.as_ref()?.key)).collect::<Vec<_>>() {
            self.terminate(now, key);
        }
    }

    /// Whether no command is left, not even one that is being started or ended.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Commands that run, those included that are being started or ended.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Commands started so far.
    pub fn started(&self) -> u64 {
        self.started
    }

    fn log_end(&mut self, now: Now, key: ChildKey) {
        let Some(child) = get(&mut self.slots, key) else { return };
        let moved = (child.bytes_in, child.bytes_out);
        let took = now.instant.saturating_duration_since(child.started);
        report::log_end(&child.peer, child.job, child.exited, child.terminating, took, moved);
    }
}

/// The child with that key, if the slot is still its own.
fn get(slots: &mut Slab<Option<Running>>, key: ChildKey) -> Option<&mut Running> {
    slots.get_mut(key.slot as usize)?.as_mut().filter(|child| child.key == key)
}

#[cfg(test)]
mod tests;
