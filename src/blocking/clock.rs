//! The one thread that looks after what is due: deadlines of connections, and
//! the chat history that is to be saved.

use super::lock;
use crate::proto::ConnId;
use crate::timers::Timers;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// What has come due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A connection that is armed for that moment.
    Connection(ConnId, Instant),
    /// The chat history.
    Save,
}

#[derive(Debug, Default)]
struct Inner {
    timers: Timers,
    save_at: Option<Instant>,
    stopped: bool,
}

/// What is due when.
#[derive(Debug, Default)]
pub(super) struct Clock {
    inner: Mutex<Inner>,
    sooner: Condvar,
}

impl Inner {
    fn next(&self) -> Option<Instant> {
        [self.timers.next(), self.save_at].into_iter().flatten().min()
    }
}

impl Clock {
    /// Makes sure that a connection comes up at `at` or before; `armed` is its
    /// own note of that.
    pub(super) fn arm(&self, id: ConnId, at: Instant, armed: &mut Option<Instant>) {
        // Most deadlines only move to later: those cost no lock.
        if armed.is_none_or(|earlier| at < earlier) {
            self.change(|inner| inner.timers.arm(id, at, armed));
        }
    }

    /// A connection comes up no more.
    pub(super) fn disarm(&self, id: ConnId, armed: &mut Option<Instant>) {
        if armed.is_some() {
            self.change(|inner| inner.timers.disarm(id, armed));
        }
    }

    /// The history is to be saved then.
    pub(super) fn save_at(&self, at: Instant) {
        self.change(|inner| inner.save_at = Some(at));
    }

    /// [`Clock::wait`] gives nothing any more.
    pub(super) fn stop(&self) {
        self.change(|inner| inner.stopped = true);
        self.sooner.notify_one();
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = lock(&self.inner);
        let before = inner.next();
        change(&mut inner);
        if inner.next().is_some_and(|at| before.is_none_or(|before| at < before)) {
            self.sooner.notify_one();
        }
    }

    /// Waits for the next thing that is due; `None` once the clock is stopped.
    pub(super) fn wait(&self) -> Option<Due> {
        let mut inner = lock(&self.inner);
        while !inner.stopped {
            let now = Instant::now();
            if inner.save_at.is_some_and(|at| at <= now) {
                inner.save_at = None;
                return Some(Due::Save);
            }
            if let Some((at, id)) = inner.timers.pop_due(now) {
                return Some(Due::Connection(id, at));
            }
            inner = match inner.next() {
                None => self.sooner.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(now);
                    self.sooner.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        None
    }
}
