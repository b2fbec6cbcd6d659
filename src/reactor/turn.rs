//! The time of a turn: how much of it each phase may use, and which of them
//! used most.

use super::Reactor;
use std::time::{Duration, Instant};

/// How long a phase that serves one connection after another may go on in one
/// turn; whoever is left is first in the next one.
pub(super) const PHASE_TIME: Duration = Duration::from_millis(10);

/// The same for what strangers may cause much of: coming in, being read from,
/// coming due. Less, so that many of them delay nobody else for long.
pub(super) const SHARE_TIME: Duration = Duration::from_millis(2);

/// How many connections are served between looks at the clock.
const CLOCK_INTERVAL: usize = 8;

/// A turn that takes longer is worth a warning.
const LONG_TURN: Duration = Duration::from_millis(50);

/// Whether a phase that has served that many connections has had its time. It
/// serves some in each turn, however slow that is.
pub(super) fn is_over(began: Instant, served: usize, time: Duration) -> bool {
    served > 0 && served.is_multiple_of(CLOCK_INTERVAL) && began.elapsed() > time
}

/// What a turn spent its time on.
pub(super) struct Phases {
    began: Instant,
    at: Instant,
    longest: (Duration, &'static str),
}

impl Phases {
    pub(super) fn new(began: Instant) -> Self {
        Phases { began, at: began, longest: (Duration::ZERO, "") }
    }

    pub(super) fn end(&mut self, name: &'static str) {
        let at = Instant::now();
        self.longest = self.longest.max((at - self.at, name));
        self.at = at;
    }
}

impl Reactor {
    /// Counts a turn that is over, and warns where it was long.
    pub(super) fn take_turn_time(&mut self, phases: Phases) {
        let took = phases.at - phases.began;
        if took.as_micros() as u64 > self.counters.longest_turn_us {
            self.counters.longest_turn_us = took.as_micros() as u64;
            self.counters.longest_turn_phase = phases.longest.1;
        }
        if took > LONG_TURN {
            log::warn!("a turn of the loop took {took:?}, most of it {}", phases.longest.1);
        }
    }
}
