//! The end of a turn: one write for each connection that has something, and
//! the end of those that take too little.

use super::Reactor;
use super::turn::{PHASE_TIME, is_over};
use crate::flush::Flushed;
use crate::proto::{ConnId, Input};
use std::io;
use std::time::Instant;

/// How often one connection's queue is refilled and flushed again in a turn.
const FLUSH_ROUNDS: usize = 4;

/// After so many bytes the clock is looked at, however few they went to: eight
/// downloads may move 32 MiB.
const CLOCK_BYTES: u64 = 4 << 20;

impl Reactor {
    /// Writes once to each connection that has something, and reaps those that ended.
    pub(super) fn flush(&mut self) {
        let began = Instant::now();
        let mut dirty = std::mem::take(&mut self.conns.dirty);
        let mut looked_at = self.counters.bytes_out;
        for served in 0..dirty.len() {
            let has_sent_much = self.counters.bytes_out - looked_at >= CLOCK_BYTES;
            if has_sent_much {
                looked_at = self.counters.bytes_out;
            }
            if is_over(began, served, PHASE_TIME) || (has_sent_much && began.elapsed() > PHASE_TIME) {
                dirty.drain(..served);
                dirty.append(&mut self.conns.dirty);
                self.conns.dirty = dirty;
                return;
            }
            let id = dirty[served];
            let Some(conn) = self.conns.get_mut(id) else { continue };
            conn.in_dirty = false;
            if let Err(e) = self.flush_one(id) {
                self.remove(id, &e.to_string());
                continue;
            }
            let now = self.now.instant;
            let Some(conn) = self.conns.get_mut(id) else { continue };
            if let Some(e) = conn.unread_error() {
                self.remove(id, &e.to_string());
                continue;
            }
            if let Some(why) = conn.advance_end(now) {
                self.remove(id, why);
                continue;
            }
            conn.note_stall(now);
            self.conns.account(id);
            self.conns.note_ready(id);
            self.conns.arm(id);
        }
    }

    /// Ends those that most is queued for, while all together hold more than
    /// the server may.
    pub(super) fn enforce_memory_limit(&mut self) {
        while self.conns.queued() > self.config.memory_limit {
            let Some(id) = self.conns.largest() else { return };
            let Some(conn) = self.conns.get(id) else { return };
            log::warn!("{}: ended, because all queues hold too much and it has the most", conn.peer);
            self.counters.slow_consumers += 1;
            self.feed(id, Input::SlowConsumer);
            self.conns.account(id);
        }
    }

    fn flush_one(&mut self, id: ConnId) -> io::Result<()> {
        for _ in 0..FLUSH_ROUNDS {
            let Some(conn) = self.conns.get_mut(id) else { return Ok(()) };
            if !conn.can_write() {
                return Ok(());
            }
            let before = conn.out.queue.len();
            let flushed = conn.flush(&self.disk)?;
            let sent = before - conn.out.queue.len();
            let resumes = sent > 0 && conn.can_resume();
            self.counters.writes += 1;
            self.counters.bytes_out += sent as u64;
            match flushed {
                Flushed::Cold(file, offset, length) => {
                    conn.warming = true;
                    self.disk.warm(id, file, offset, length);
                    return Ok(());
                }
                Flushed::Shrank(file) => {
                    conn.out.queue.replace_front_file_by_zeros();
                    self.feed(id, Input::FileShrank(file));
                    continue;
                }
                Flushed::Empty | Flushed::Blocked | Flushed::Budget => {}
            }
            if resumes {
                self.feed(id, Input::Drained);
            }
            if sent > 0 {
                self.children.resume(id);
            }
            if flushed == Flushed::Blocked {
                return Ok(());
            }
        }
        // There is more, and the others have waited long enough.
        self.conns.note_dirty(id);
        Ok(())
    }
}
