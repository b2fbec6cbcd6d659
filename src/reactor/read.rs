//! Reading: each connection that has something once a turn, clients at their
//! work before strangers.

use super::Reactor;
use super::conn::{ReadOutcome, Standing};
use super::turn::{PHASE_TIME, SHARE_TIME, is_over};
use crate::proto::{ConnId, Input};
use std::time::{Duration, Instant};

/// What one connection may send us in one turn before the others' turn, in
/// bytes; also the size of the one read buffer.
pub(super) const READ_BUDGET: usize = 64 << 10;

impl Reactor {
    /// Reads from each connection on the ready lists, once. Strangers are many
    /// where somebody floods the server, and have a smaller share of the time.
    pub(super) fn read(&mut self) {
        self.read_from(Standing::Known, PHASE_TIME);
        self.read_from(Standing::Stranger, SHARE_TIME);
    }

    fn read_from(&mut self, standing: Standing, time: Duration) {
        let began = Instant::now();
        for served in 0..self.conns.ready(standing) {
            if is_over(began, served, time) {
                return;
            }
            let Some(id) = self.conns.next_ready(standing) else { return };
            self.read_one(id);
        }
    }

    fn read_one(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.in_ready = false;
        if !conn.can_read() {
            return;
        }
        self.counters.reads += 1;
        let mut buffer = std::mem::take(&mut self.read_buffer);
        match conn.read(&mut buffer) {
            ReadOutcome::Bytes(n) => {
                self.counters.bytes_in += n as u64;
                if conn.drained(n) {
                    self.conns.note_dirty(id);
                } else {
                    self.feed(id, Input::Bytes(&buffer[..n]));
                }
            }
            ReadOutcome::Eof if conn.is_draining() => self.remove(id, "its input is drained"),
            ReadOutcome::Eof => self.feed(id, Input::Eof),
            ReadOutcome::Blocked => {}
            ReadOutcome::Broken(e) => self.remove(id, &e.to_string()),
        }
        self.read_buffer = buffer;
        self.conns.note_ready(id);
    }
}
