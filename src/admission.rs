//! Who may come in: the cap on connections, the cap on those that have not
//! authenticated yet, and a pause for addresses that fail to.
//!
//! Strangers cost a descriptor each and nothing obliges them to say anything
//! for ten seconds. So beyond a number of them newcomers are dropped at
//! random, the likelier the more there are (RED, as sshd's MaxStartups does
//! it): a flood then loses most of its connections, and a client that tries
//! again gets in.

use crate::listen::is_loopback;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Up to that many strangers nobody is dropped.
const STRANGERS_FREE: usize = 4_096;

/// From that many on everybody is.
const STRANGERS_MOST: usize = 8_192;

/// An address may fail that often to authenticate.
const FAILURES_FREE: u32 = 5;

/// Then it is not let in for so long after each further failure.
const PENALTY: Duration = Duration::from_secs(10);

/// A failure is forgotten after so long without another.
const FAILURE_MEMORY: Duration = Duration::from_secs(60);

/// Addresses whose failures are remembered; beyond, the oldest are forgotten.
const FAILURES_KEPT: usize = 4_096;

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Decides about newcomers.
#[derive(Debug, Default)]
pub struct Admission {
    /// Connections that have not authenticated yet.
    strangers: usize,
    failures: HashMap<IpAddr, Failures>,
}

impl Admission {
    /// Whether a connection from `peer` may come in; `chance` is a random
    /// number from 0 to 1.
    pub fn admits(&self, peer: IpAddr, now: Instant, chance: f64) -> bool {
        let over = self.strangers.saturating_sub(STRANGERS_FREE) as f64;
        let drop_probability = over / (STRANGERS_MOST - STRANGERS_FREE) as f64;
        if chance < drop_probability {
            return false;
        }
        self.failures.get(&peer).is_none_or(|failed| failed.count < FAILURES_FREE || now > failed.last + PENALTY)
    }

    /// A connection that must authenticate came in.
    pub fn stranger_came(&mut self) {
        self.strangers += 1;
    }

    /// One of them authenticated, or is gone.
    pub fn stranger_went(&mut self) {
        debug_assert!(self.strangers > 0);
        self.strangers = self.strangers.saturating_sub(1);
    }

    /// How many have not authenticated yet.
    pub fn strangers(&self) -> usize {
        self.strangers
    }

    /// Somebody there showed no right token. The owner sits on loopback, where
    /// whoever may guess could as well read the token file, so that nobody can
    /// lock the owner out from there.
    pub fn failed(&mut self, peer: IpAddr, now: Instant) {
        if is_loopback(peer) {
            return;
        }
        if self.failures.len() >= FAILURES_KEPT && !self.failures.contains_key(&peer) {
            self.failures.retain(|_, failed| now < failed.last + FAILURE_MEMORY);
            if self.failures.len() >= FAILURES_KEPT
                && let Some(oldest) = self.failures.iter().min_by_key(|(_, f)| f.last).map(|(ip, _)| *ip)
            {
                self.failures.remove(&oldest);
            }
        }
        let failed = self.failures.entry(peer).or_insert(Failures { count: 0, last: now });
        if now > failed.last + FAILURE_MEMORY {
            failed.count = 0;
        }
        failed.count += 1;
        failed.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn the_more_strangers_the_likelier_a_newcomer_is_dropped() {
        let mut admission = Admission::default();
        let now = Instant::now();
        admission.strangers = STRANGERS_FREE;
        assert!(admission.admits(HERE, now, 0.0));
        admission.strangers = (STRANGERS_FREE + STRANGERS_MOST) / 2;
        assert!(!admission.admits(HERE, now, 0.49));
        assert!(admission.admits(HERE, now, 0.51));
        admission.strangers = STRANGERS_MOST;
        assert!(!admission.admits(HERE, now, 0.999));
    }

    #[test]
    fn an_address_that_keeps_failing_is_kept_out_for_a_while() {
        let mut admission = Admission::default();
        let now = Instant::now();
        for _ in 0..FAILURES_FREE {
            assert!(admission.admits(ELSEWHERE, now, 1.0));
            admission.failed(ELSEWHERE, now);
        }
        assert!(!admission.admits(ELSEWHERE, now, 1.0));
        assert!(!admission.admits(ELSEWHERE, now + PENALTY, 1.0));
        assert!(admission.admits(ELSEWHERE, now + PENALTY * 2, 1.0));
    }

    #[test]
    fn nobody_can_lock_the_owner_out_on_loopback() {
        let mut admission = Admission::default();
        let now = Instant::now();
        for _ in 0..1_000 {
            admission.failed(HERE, now);
        }
        assert!(admission.admits(HERE, now, 1.0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut admission = Admission::default();
        let now = Instant::now();
        for n in 0..10_000u32 {
            admission.failed(IpAddr::V4(n.into()), now + Duration::from_micros(n.into()));
        }
        assert!(admission.failures.len() <= FAILURES_KEPT);
    }
}
