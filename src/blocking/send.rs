//! Sending: at once under the connection's lock, and the rest by the writer,
//! who waits without it.

use super::conn::{Conn, State};
use super::counts::count;
use super::lock;
use super::post::Post;
use super::server::Server;
use crate::flush::{self, Files, Flushed};
use crate::proto::files::FileHandle;
use crate::proto::{Input, Now};
use crate::system;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Files are not sent under a lock: to [`flush::flush`] all of them are cold.
pub(super) struct Later;

impl Files for Later {
    fn file(&self, _: FileHandle) -> Option<BorrowedFd<'_>> {
        None
    }

    fn is_resident(&self, _: FileHandle, _: u64, _: usize) -> bool {
        false
    }
}

impl Server {
    /// Sends what the socket takes now; says what the rest waits for.
    pub(super) fn send_at_once(
        self: &Arc<Self>,
        conn: &Arc<Conn>,
        state: &mut State,
        now: Now,
        post: &mut Post,
    ) -> Flushed {
        while !state.sending && !state.is_over() && !state.out.queue.is_empty() {
            let before = state.out.queue.len();
            let flushed = match flush::flush(&conn.socket, &mut state.out.queue, &Later) {
                Ok(flushed) => flushed,
                Err(e) => {
                    conn.break_off(state, &e.to_string());
                    break;
                }
            };
            count(&conn.traffic.writes, 1);
            self.sent(conn, state, before - state.out.queue.len(), now, post);
            if matches!(flushed, Flushed::Blocked | Flushed::Cold(..)) {
                return flushed;
            }
        }
        Flushed::Empty
    }

    /// Whatever waited for the queue to become shorter goes on.
    fn sent(self: &Arc<Self>, conn: &Arc<Conn>, state: &mut State, n: usize, now: Now, post: &mut Post) {
        if n == 0 {
            return;
        }
        count(&conn.traffic.bytes_out, n);
        state.stall = None;
        if state.can_resume() {
            state.tell(now, Input::Drained);
            self.settle(conn, state, now, post);
        }
        if state.session.wants(&state.out).child_read {
            state.commands.values().for_each(|command| command.resume());
        }
    }

    /// What the writer does when it is called: sends until nothing is left,
    /// and waits for the peer and the disk where it must.
    pub(super) fn send_all(self: &Arc<Self>, conn: &Arc<Conn>, post: &mut Post) {
        let mut state = conn.lock();
        loop {
            let now = system::now();
            if state.is_over() {
                break;
            }
            self.take_inbox(conn, &mut state, now);
            self.settle(conn, &mut state, now, post);
            let flushed = self.send_at_once(conn, &mut state, now, post);
            state.sending = !state.is_over() && matches!(flushed, Flushed::Blocked | Flushed::Cold(..));
            self.look_after(conn, &mut state, now, post);
            if !state.sending {
                break;
            }
            drop(state);
            self.hand_out(post);
            let sent = match flushed {
                Flushed::Cold(file, offset, length) => self.send_file(conn, file, offset, length),
                _ => wait_for_room(conn),
            };
            state = conn.lock();
            state.sending = false;
            if state.is_over() {
                break;
            }
            let now = system::now();
            match sent {
                Ok(Sent::Nothing) => {}
                Ok(Sent::Bytes(n)) => {
                    state.out.queue.advance(n);
                    self.sent(conn, &mut state, n, now, post);
                }
                Ok(Sent::Shrank(file)) => {
                    state.out.queue.replace_front_file_by_zeros();
                    state.tell(now, Input::FileShrank(file));
                    self.settle(conn, &mut state, now, post);
                }
                Err(e) => conn.break_off(&mut state, &std::io::Error::from(e).to_string()),
            }
        }
        conn.notify_reader(&state);
        drop(state);
        self.hand_out(post);
    }

    /// Sends a stretch of a file, or a part of it. It stays in front of the
    /// queue meanwhile: whoever drops frames keeps those that were begun.
    fn send_file(&self, conn: &Conn, file: FileHandle, offset: u64, length: usize) -> Result<Sent, Errno> {
        let Some(open) = lock(&self.disk).shared(file) else { return Ok(Sent::Shrank(file)) };
        let mut offset = offset;
        count(&conn.traffic.writes, 1);
        match retry_on_intr(|| rustix::fs::sendfile(&conn.socket, &*open, Some(&mut offset), length))? {
            0 => Ok(Sent::Shrank(file)),
            n => Ok(Sent::Bytes(n)),
        }
    }
}

/// What became of sending without the lock.
enum Sent {
    Nothing,
    Bytes(usize),
    Shrank(FileHandle),
}

/// Waits until the socket takes bytes again, or is broken, which the next
/// attempt to send tells.
fn wait_for_room(conn: &Conn) -> Result<Sent, Errno> {
    let mut fds = [PollFd::new(&conn.socket, PollFlags::OUT)];
    retry_on_intr(|| poll(&mut fds, None))?;
    Ok(Sent::Nothing)
}
