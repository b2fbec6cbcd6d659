//! Carrying out what sessions ask for, and telling them what came of it.

use super::Reactor;
use super::child::ChildSink;
use super::connections::Connections;
use super::turn::PHASE_TIME;
use crate::disk::{Completion, Disk};
use crate::flush;
use crate::proto::exec::ChildEvent;
use crate::proto::files::FileHandle;
use crate::proto::jobs::JobId;
use crate::proto::{ConnId, Effect, Input, Now};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long the effects of one connection are carried out before the others'
/// turn. Most take microseconds, but a change of nick is told to everybody in
/// a hundred rooms, and one read brings a thousand requests for that.
const EFFECTS_TIME: Duration = Duration::from_millis(2);

impl Reactor {
    /// Tells a session something and carries out what it asks for.
    pub(super) fn feed(&mut self, id: ConnId, input: Input<'_>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.feed(self.now, input);
        if conn.is_stranger {
            self.look_at_stranger(id);
        }
        self.settle(id);
    }

    /// Takes note of a stranger that has authenticated, or failed to.
    pub(super) fn look_at_stranger(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (peer, authenticated, failed) = (conn.peer, conn.session.is_authenticated(), conn.session.has_failed());
        if authenticated || failed {
            conn.is_stranger = false;
            self.admission.stranger_went();
        }
        if failed && !authenticated {
            self.counters.auth_failures += 1;
            self.admission.failed(peer.ip(), self.now.instant);
            log::warn!("{peer}: ended before it had authenticated");
        }
    }

    /// Carries out a session's effects until it has none or its time is over,
    /// then puts the connection on the lists it belongs on.
    pub(super) fn settle(&mut self, id: ConnId) {
        // Whoever had its time goes on in the next turn, whatever happens to it meanwhile.
        let had_its_time = self.conns.get(id).is_none_or(|conn| conn.in_postponed);
        let mut began = None;
        while !had_its_time && self.carry_out_next(id) {
            if began.get_or_insert_with(Instant::now).elapsed() > EFFECTS_TIME {
                self.conns.postpone(id);
                break;
            }
        }
        self.conns.note_ready(id);
        self.conns.note_dirty(id);
    }

    /// Carries out all of a session's effects.
    pub(super) fn settle_all(&mut self, id: ConnId) {
        while self.carry_out_next(id) {}
    }

    /// Goes on with the effects that were left, each connection in its turn.
    pub(super) fn run_postponed(&mut self) {
        let began = Instant::now();
        for _ in 0..self.conns.postponed.len() {
            let Some(id) = self.conns.postponed.pop_front() else { return };
            if let Some(conn) = self.conns.get_mut(id) {
                conn.in_postponed = false;
                self.settle(id);
            }
            if began.elapsed() > PHASE_TIME {
                return;
            }
        }
    }

    /// Carries out a session's next effect; `false` where it has none.
    fn carry_out_next(&mut self, id: ConnId) -> bool {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let Some(effect) = conn.out.effects.pop_front() else {
            // An idle connection keeps no buffer.
            conn.out.effects = Default::default();
            return false;
        };
        let peer = conn.peer;
        let input = match effect {
            Effect::Room(op) => Input::Room(self.rooms.apply(now, id, op, &mut self.conns)),
            Effect::Spawn(spawn) => {
                let nick = self.rooms.nick(id).map_or("-", |nick| nick);
                match self.children.start(id, nick, &peer.to_string(), *spawn) {
                    Ok(()) => return true,
                    Err(refusal) => Input::Spawned(Err(refusal)),
                }
            }
            Effect::Job(job, effect) => {
                self.children.effect(now, job, effect);
                return true;
            }
            Effect::Jobs => Input::Jobs(self.children.jobs_json(id)),
            Effect::Kill(job, signal) => Input::Killed(self.children.kill(job, signal)),
            Effect::Disk(request) => {
                self.disk.submit(id, request);
                return true;
            }
            Effect::Stats => Input::Stats(self.stats()),
        };
        if let Some(conn) = self.conns.get_mut(id) {
            conn.feed(now, input);
        }
        true
    }

    /// Passes on what a disk worker finished.
    pub(super) fn disk_completed(&mut self, completion: Completion) {
        match completion {
            Completion::Reply(id, reply) => self.feed(id, Input::Disk(reply)),
            Completion::Warm(id) => {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.warming = false;
                    self.conns.note_dirty(id);
                }
            }
        }
    }

    /// The counters, as a JSON object.
    pub(super) fn stats(&mut self) -> Vec<u8> {
        let counters = &mut self.counters;
        counters.uptime_ms = (self.now.instant - self.started).as_millis() as u64;
        counters.connections = self.conns.len();
        counters.queued_bytes = self.conns.queued();
        counters.strangers = self.admission.strangers();
        counters.jobs = self.children.len();
        counters.jobs_started = self.children.started();
        let disk = self.disk.counters();
        (counters.files_stored, counters.disk_waiting) = (disk.published, disk.queued);
        counters.open_files = self.disk.open_files();
        (counters.rooms, counters.nicks, counters.history_bytes) = self.rooms.counts();
        serde_json::to_vec(counters).expect("counters are plain data")
    }
}

/// Takes the children's events while the children themselves are borrowed;
/// effects wait until they are not.
pub(super) struct Sink<'a> {
    pub(super) now: Now,
    pub(super) conns: &'a mut Connections,
    pub(super) touched: Vec<ConnId>,
}

impl ChildSink for Sink<'_> {
    fn wants_output(&mut self, conn: ConnId) -> bool {
        self.conns.get(conn).is_none_or(|conn| conn.session.wants(&conn.out).child_read)
    }

    fn event(&mut self, conn: ConnId, job: JobId, event: ChildEvent<'_>) {
        let Some(found) = self.conns.get_mut(conn) else { return };
        found.feed(self.now, Input::Child(job, event));
        if self.touched.last() != Some(&conn) {
            self.touched.push(conn);
        }
    }
}

impl flush::Files for Disk {
    fn file(&self, file: FileHandle) -> Option<BorrowedFd<'_>> {
        Disk::file(self, file)
    }

    fn is_resident(&self, file: FileHandle, offset: u64, length: usize) -> bool {
        Disk::is_resident(self, file, offset, length)
    }
}
