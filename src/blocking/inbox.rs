//! What other connections' threads put in for a connection, and the call that
//! wakes its writer.
//!
//! Its lock is a leaf: nobody takes another one while holding it, and nobody
//! waits under it, so that a message to a thousand members waits for none of
//! them.

use super::lock;
use crate::proto::rooms::Delivery;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// With so many bytes in it, whoever put in the last ones moves them to the
/// connection's queue, where they count against its output limit.
const FULL: usize = 256 << 10;

/// A writer that nobody called for so long ends and gives its stack back.
const WRITER_IDLE: Duration = Duration::from_secs(10);

/// What the one who put something in owes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// Nothing was put in: the connection is gone.
    Refused,
    /// Somebody called its writer already.
    Nothing,
    /// A call.
    Call,
    /// A visit, to empty the inbox.
    Visit,
}

#[derive(Debug, Default)]
struct Inner {
    deliveries: Vec<Delivery>,
    /// Whether the writer has a reason to look after the connection.
    called: bool,
    has_writer: bool,
    closed: bool,
}

/// The inbox of one connection.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    inner: Mutex<Inner>,
    /// Changed only under the lock; read without it to see that nothing came.
    bytes: AtomicUsize,
    calls: Condvar,
}

impl Inbox {
    /// Puts something in; never waits.
    pub(super) fn push(&self, delivery: Delivery) -> Owed {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Owed::Refused;
        }
        let bytes = self.bytes.fetch_add(delivery.frames.len(), Ordering::Relaxed) + delivery.frames.len();
        inner.deliveries.push(delivery);
        if bytes >= FULL {
            Owed::Visit
        } else if inner.called {
            Owed::Nothing
        } else {
            Owed::Call
        }
    }

    /// Bytes in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes everything out, with the number of its bytes.
    pub(super) fn take(&self) -> (Vec<Delivery>, usize) {
        let mut inner = lock(&self.inner);
        (std::mem::take(&mut inner.deliveries), self.bytes.swap(0, Ordering::Relaxed))
    }

    /// Calls the writer; `true` where there is none and one must be started.
    pub(super) fn call(&self) -> bool {
        let mut inner = lock(&self.inner);
        if inner.closed || std::mem::replace(&mut inner.called, true) {
            return false;
        }
        if inner.has_writer {
            self.calls.notify_one();
            return false;
        }
        inner.has_writer = true;
        true
    }

    /// What the writer does between calls; `false` where it is to end.
    pub(super) fn wait_for_call(&self) -> bool {
        let idle = |inner: &mut Inner| !inner.called && !inner.closed;
        let inner = lock(&self.inner);
        let waited = self.calls.wait_timeout_while(inner, WRITER_IDLE, idle);
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.has_writer = inner.called && !inner.closed;
        inner.called = false;
        inner.has_writer
    }

    /// Nothing is put in any more, and the writer ends. Gives the bytes that
    /// were in it.
    pub(super) fn close(&self) -> usize {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        inner.deliveries = Vec::new();
        self.calls.notify_one();
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn delivery(size: usize) -> Delivery {
        Delivery { room: None, frames: Bytes::from(vec![0; size]) }
    }

    #[test]
    fn one_call_serves_all_that_came_before_the_writer_looked() {
        let inbox = Inbox::default();
        assert_eq!(inbox.push(delivery(10)), Owed::Call);
        assert!(inbox.call(), "the first call starts a writer");
        assert_eq!(inbox.push(delivery(10)), Owed::Nothing);
        assert!(!inbox.call());
        assert!(inbox.wait_for_call());
        assert_eq!(inbox.take().1, 20);
        assert_eq!(inbox.push(delivery(1)), Owed::Call);
        assert!(!inbox.call(), "the writer is there");
    }

    #[test]
    fn what_a_full_inbox_owes_is_a_visit() {
        let inbox = Inbox::default();
        inbox.push(delivery(FULL - 1));
        assert_eq!(inbox.push(delivery(1)), Owed::Visit);
        assert_eq!((inbox.bytes(), inbox.take().0.len(), inbox.bytes()), (FULL, 2, 0));
    }

    #[test]
    fn a_closed_inbox_takes_nothing_and_ends_its_writer() {
        let inbox = Inbox::default();
        inbox.push(delivery(5));
        assert!(inbox.call());
        assert_eq!(inbox.close(), 5);
        assert_eq!((inbox.push(delivery(5)), inbox.bytes(), inbox.call()), (Owed::Refused, 0, false));
        assert!(!inbox.wait_for_call());
    }
}
