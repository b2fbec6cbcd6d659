//! What waits to be written, between the threads that produce and the one
//! that writes.
//!
//! Input waits when too much is queued; urgent frames (a signal, a window's
//! size) never wait and go before the queued input, so that a command that
//! does not read its input can still be interrupted.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Queued input at which a producer waits, in bytes.
pub const HIGH_WATER: usize = 1024 * 1024;

/// Urgent frames kept while the server does not read; later ones are dropped.
pub const MAX_URGENT: usize = 64;

#[derive(Debug, Default)]
struct State {
    urgent: VecDeque<Vec<u8>>,
    queue: VecDeque<Vec<u8>>,
    bytes: usize,
    closed: bool,
}

/// A bounded queue of encoded frames with a lane for urgent ones.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
}

impl Outbox {
    // A panic elsewhere leaves plain queues behind, which are still right.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `frame`, waiting while [`HIGH_WATER`] is reached. False where
    /// the outbox is closed and the frame went nowhere.
    pub fn push(&self, frame: Vec<u8>) -> bool {
        let mut state = self.lock();
        while state.bytes >= HIGH_WATER && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return false;
        }
        state.bytes += frame.len();
        state.queue.push_back(frame);
        self.changed.notify_all();
        true
    }

    /// Queues `frame` before all input, without waiting. False where it was
    /// dropped, because the outbox is closed or [`MAX_URGENT`] wait already.
    pub fn push_urgent(&self, frame: Vec<u8>) -> bool {
        let mut state = self.lock();
        if state.closed || state.urgent.len() >= MAX_URGENT {
            return false;
        }
        state.urgent.push_back(frame);
        self.changed.notify_all();
        true
    }

    /// The next frame to write; waits for one. `None` when closed.
    pub fn pop(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(frame) = state.urgent.pop_front() {
                return Some(frame);
            }
            if let Some(frame) = state.queue.pop_front() {
                state.bytes -= frame.len();
                self.changed.notify_all();
                return Some(frame);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes everybody who waits and drops what is queued.
    pub fn close(&self) {
        let mut state = self.lock();
        *state = State { closed: true, ..State::default() };
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn urgent_frames_overtake_input() {
        let outbox = Outbox::default();
        outbox.push(vec![1]);
        outbox.push_urgent(vec![2]);
        outbox.push_urgent(vec![3]);
        assert_eq!((outbox.pop(), outbox.pop(), outbox.pop()), (Some(vec![2]), Some(vec![3]), Some(vec![1])));
    }

    #[test]
    fn a_full_outbox_makes_input_wait_and_urgent_frames_not() {
        let outbox = Arc::new(Outbox::default());
        outbox.push(vec![0; HIGH_WATER]);
        let producer = std::thread::spawn({
            let outbox = outbox.clone();
            move || outbox.push(vec![7])
        });
        assert!(outbox.push_urgent(vec![9]));
        assert_eq!(outbox.pop(), Some(vec![9]));
        assert!(!producer.is_finished());
        assert_eq!(outbox.pop().map(|frame| frame.len()), Some(HIGH_WATER));
        assert_eq!(outbox.pop(), Some(vec![7]));
        assert!(producer.join().unwrap());
    }

    #[test]
    fn urgent_frames_have_a_limit() {
        let outbox = Outbox::default();
        let taken = (0..2 * MAX_URGENT).filter(|_| outbox.push_urgent(vec![1])).count();
        assert_eq!(taken, MAX_URGENT);
    }

    #[test]
    fn closing_wakes_both_sides() {
        let outbox = Arc::new(Outbox::default());
        let consumer = std::thread::spawn({
            let outbox = outbox.clone();
            move || outbox.pop()
        });
        outbox.close();
        assert_eq!(consumer.join().unwrap(), None);
        assert!(!outbox.push(vec![1]) && !outbox.push_urgent(vec![1]));
    }
}
