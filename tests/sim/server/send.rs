//! The end of a turn, as `src/reactor/send.rs` has it: one write for each
//! connection that has something, and the end of those that are over.

use super::conns::Conn;
use super::{Later, Server};
use crate::network::Socket;
use crate::rng::Rng;
use crate::support::disk::Disk;
use crate::support::world::take;
use reactord::ending::{Signs, Step};
use reactord::proto::files::FileHandle;
use reactord::proto::outbox::LOW_WATER;
use reactord::proto::{ConnId, Input};
use reactord::stall::Stall;

const FLUSH_ROUNDS: usize = 4;

#[derive(Clone, Copy, PartialEq)]
enum Flushed {
    /// Everything is sent, or the turn's budget used.
    Done,
    Blocked,
    Cold,
    Shrank(FileHandle),
}

impl Server {
    pub(super) fn flush(&mut self, sockets: &mut [Socket], rng: &mut Rng) {
        let mut dirty = std::mem::take(&mut self.conns.dirty);
        for served in 0..dirty.len() {
            if served > 0 && rng.chance(2) {
                dirty.drain(..served);
                dirty.append(&mut self.conns.dirty);
                self.conns.dirty = dirty;
                return;
            }
            let id = dirty[served];
            let Some(conn) = self.conns.get(id) else { continue };
            conn.in_dirty = false;
            if sockets[conn.client].broken && !conn.out.queue.is_empty() {
                self.remove(id, sockets);
                continue;
            }
            self.flush_one(id, sockets, rng);
            if self.advance_end(id, sockets) {
                self.remove(id, sockets);
                continue;
            }
            self.note_stall(id, sockets);
            self.conns.note_ready(id);
            self.conns.arm(id);
        }
    }

    fn flush_one(&mut self, id: ConnId, sockets: &mut [Socket], rng: &mut Rng) {
        for _ in 0..FLUSH_ROUNDS {
            let Some(conn) = self.conns.get(id).filter(|conn| conn.can_write()) else { return };
            let before = conn.out.queue.len();
            let flushed = write(conn, &self.disk, &mut sockets[conn.client], self.write_budget, rng);
            let left = conn.out.queue.len();
            self.touched.push(conn.client);
            let resumes = left < before && conn.stage.is_serving() && left < LOW_WATER && conn.session.wants_drained();
            if left < before {
                conn.stall = None;
                self.idle_turns = 0;
            }
            match flushed {
                Flushed::Cold => {
                    conn.warming = true;
                    self.later.push(Later::Warm(id));
                    return;
                }
                Flushed::Shrank(file) => {
                    conn.out.queue.replace_front_file_by_zeros();
                    self.feed(id, Input::FileShrank(file));
                    continue;
                }
                Flushed::Blocked => conn.writable = false,
                Flushed::Done => {}
            }
            if resumes {
                self.feed(id, Input::Drained);
            }
            if left < before {
                self.ready_children.extend(self.stalled.remove(&id).unwrap_or_default());
            }
            if flushed == Flushed::Blocked {
                return;
            }
        }
        self.conns.note_dirty(id);
    }

    fn note_stall(&mut self, id: ConnId, sockets: &[Socket]) {
        let now = self.conns.now.instant;
        let Some(conn) = self.conns.get(id) else { return };
        if !conn.stalls() {
            conn.stall = None;
        } else if conn.stall.is_none() {
            conn.stall = Stall::begin(now, sockets[conn.client].sent.len());
        }
    }

    fn advance_end(&mut self, id: ConnId, sockets: &mut [Socket]) -> bool {
        let now = self.conns.now.instant;
        let Some(conn) = self.conns.get(id) else { return false };
        let signs = Signs {
            failed: conn.session.has_failed(),
            finished: conn.session.is_finished(&conn.out),
            unsent: !conn.out.queue.is_empty(),
        };
        match conn.stage.advance(signs, now) {
            Step::Nothing => false,
            Step::Close(_) => true,
            Step::Shut if sockets[conn.client].broken => true,
            Step::Shut => {
                sockets[conn.client].shut = true;
                self.touched.push(conn.client);
                conn.readable = true;
                false
            }
        }
    }
}

/// Sends until the queue is empty, the socket full or the budget used.
fn write(conn: &mut Conn, disk: &Disk, socket: &mut Socket, mut budget: usize, rng: &mut Rng) -> Flushed {
    while !conn.out.queue.is_empty() && budget > 0 {
        if conn.out.queue.front_file().is_some() && rng.chance(5) {
            return Flushed::Cold;
        }
        if socket.room() == 0 {
            socket.blocked();
            return Flushed::Blocked;
        }
        match take(&mut conn.out, disk, socket.room().min(budget)) {
            Ok(bytes) => {
                socket.write(&bytes);
                budget -= bytes.len();
            }
            Err(file) => return Flushed::Shrank(file),
        }
    }
    Flushed::Done
}
