//! Deadlines of connections, in one heap with lazy removal.
//!
//! A connection is armed for at most one moment that counts. When its deadline
//! moves to later, the heap is left alone: the entry comes up, is found to be
//! early, and is armed anew. So a busy connection, whose idle deadline moves
//! with each byte, costs the heap nothing.

use crate::proto::ConnId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Pending deadlines.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, ConnId)>>,
}

impl Timers {
    /// Makes sure that `id` comes up at `at` or before. `armed` is the
    /// connection's own note of what it is armed for.
    pub fn arm(&mut self, id: ConnId, at: Instant, armed: &mut Option<Instant>) {
        if armed.is_none_or(|earlier| at < earlier) {
            *armed = Some(at);
            self.heap.push(Reverse((at, id)));
        }
    }

    /// The next connection whose moment has come, with that moment. The caller
    /// ignores it where the connection is armed for another one.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, ConnId)> {
        let Reverse(first) = *self.heap.peek()?;
        if first.0 > now {
            return None;
        }
        self.heap.pop();
        Some(first)
    }

    /// The next moment at which something comes up.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

/// How long to wait in poll for `deadline`: never so short that it would spin
/// because the kernel counts in milliseconds, and zero only where it has come.
pub fn poll_timeout(deadline: Option<Instant>, now: Instant) -> Option<Duration> {
    deadline.map(|at| at.saturating_duration_since(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_connection_comes_up_no_later_than_its_deadline(
            steps in prop::collection::vec((0u64..8, 0u64..100), 1..200),
        ) {
            let start = Instant::now();
            let mut timers = Timers::default();
            let mut armed = [None; 8];
            let mut wanted = [None; 8];
            let mut now = 0;
            for (id, delay) in steps {
                let at = now + delay;
                wanted[id as usize] = Some(at);
                timers.arm(ConnId(id), start + Duration::from_millis(at), &mut armed[id as usize]);
                now += 7;
                while let Some((at, id)) = timers.pop_due(start + Duration::from_millis(now)) {
                    let slot = id.0 as usize;
                    if armed[slot] != Some(at) {
                        continue;
                    }
                    armed[slot] = None;
                    match wanted[slot] {
                        Some(due) if due <= now => wanted[slot] = None,
                        Some(later) => timers.arm(id, start + Duration::from_millis(later), &mut armed[slot]),
                        None => {}
                    }
                }
                for due in wanted.iter().flatten() {
                    prop_assert!(*due > now, "{due} was due at {now}");
                }
            }
        }
    }

    #[test]
    fn a_deadline_that_moves_to_later_costs_no_entry() {
        let start = Instant::now();
        let mut timers = Timers::default();
        let mut armed = None;
        for ms in 10..1_000 {
            timers.arm(ConnId(1), start + Duration::from_millis(ms), &mut armed);
        }
        assert_eq!(timers.heap.len(), 1);
    }
}
