//! The threads' bodies: what each waits for, and what it does then.

use super::conn::{Conn, Next};
use super::counts::count;
use super::lock;
use super::post::Post;
use super::server::Server;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// What one read takes at most, in bytes.
const READ: usize = 64 << 10;

/// A connection's reader: from its first byte to its end.
pub(super) fn read(server: &Arc<Server>, conn: &Arc<Conn>) {
    let mut post = Post::default();
    // Filled without being zeroed first, so that only those of its pages are
    // ever resident that a read has needed.
    let mut buffer = Vec::with_capacity(READ);
    let mut next = server.visit(conn, &mut post, |_, _| {});
    loop {
        next = match next {
            Next::Close => break,
            Next::Wait => conn.wait_for_change(|| count(&server.counts.slow_consumers, 1)),
            Next::Read => {
                buffer.clear();
                count(&conn.traffic.reads, 1);
                match recv(&conn.socket, spare_capacity(&mut buffer), RecvFlags::empty()) {
                    Ok((_, n)) => {
                        count(&conn.traffic.bytes_in, n);
                        server.visit(conn, &mut post, |state, now| state.receive(now, &buffer))
                    }
                    Err(Errno::INTR) => next,
                    Err(e) => {
                        let why = std::io::Error::from(e).to_string();
                        server.visit(conn, &mut post, |state, _| conn.break_off(state, &why))
                    }
                }
            }
        };
    }
    server.close_connection(conn, &mut post);
}

/// A connection's writer, for as long as there is something to send.
pub(super) fn write(server: &Arc<Server>, conn: &Arc<Conn>) {
    let mut post = Post::default();
    while conn.inbox.wait_for_call() {
        server.send_all(conn, &mut post);
    }
}

/// Passes on what the disk's workers finished, until they have ended.
pub(super) fn pass_completions_on(server: &Arc<Server>, completions: &Receiver<()>) {
    let mut post = Post::default();
    let next = || lock(&server.disk).poll();
    while completions.recv().is_ok() {
        while let Some(completion) = next() {
            server.disk_completed(completion, &mut post);
        }
    }
}

/// Does what has come due, until the clock is stopped.
pub(super) fn look_after_time(server: &Arc<Server>) {
    let mut post = Post::default();
    while let Some(due) = server.clock.wait() {
        server.come_due(due, &mut post);
    }
}
