//! Deadlines of connections, one moment for each that has any.
//!
//! When a deadline moves to later, nothing is changed here: the moment comes,
//! is found to be early, and the connection is armed anew. So a busy
//! connection, whose idle deadline moves with each byte, costs nothing. One
//! that moves to earlier, or whose connection ends, is taken out at once: a
//! flood of short connections leaves nothing behind.

use crate::proto::ConnId;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Pending deadlines.
#[derive(Debug, Default)]
pub struct Timers {
    pending: BTreeSet<(Instant, ConnId)>,
}

impl Timers {
    /// Makes sure that `id` comes up at `at` or before. `armed` is the
    /// connection's own note of what it is armed for; it takes that back when
    /// it comes up.
    pub fn arm(&mut self, id: ConnId, at: Instant, armed: &mut Option<Instant>) {
        if armed.is_none_or(|earlier| at < earlier) {
            self.disarm(id, armed);
            *armed = Some(at);
            self.pending.insert((at, id));
        }
    }

    /// The connection comes up no more.
    pub fn disarm(&mut self, id: ConnId, armed: &mut Option<Instant>) {
        if let Some(at) = armed.take() {
            self.pending.remove(&(at, id));
        }
    }

    /// The next connection whose moment has come, with that moment. Where
    /// others may arm it meanwhile, it is armed for another one by then, which
    /// comes up by itself.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, ConnId)> {
        self.pending.first().filter(|(at, _)| *at <= now)?;
        self.pending.pop_first()
    }

    /// The next moment at which something comes up.
    pub fn next(&self) -> Option<Instant> {
        self.pending.first().map(|(at, _)| *at)
    }

    /// How many connections are armed.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
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
                    prop_assert!(timers.len() < armed.len());
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
    fn a_connection_has_one_entry_however_its_deadline_moves_and_none_when_it_has_ended() {
        let start = Instant::now();
        let mut timers = Timers::default();
        let mut armed = [None; 100];
        for ms in (500..1_000).chain((0..500).rev()) {
            for (id, armed) in armed.iter_mut().enumerate() {
                timers.arm(ConnId(id as u64), start + Duration::from_millis(ms), armed);
            }
        }
        assert_eq!((timers.len(), timers.next()), (100, Some(start)));
        for (id, armed) in armed.iter_mut().enumerate() {
            timers.disarm(ConnId(id as u64), armed);
        }
        assert!(timers.is_empty() && armed == [None; 100]);
    }
}
