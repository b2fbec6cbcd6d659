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

/// Up to four fifths of all connections may be strangers before any newcomer
/// is dropped: a crowd that connects first and greets then is no flood.
const STRANGERS_SHARE: (usize, usize) = (4, 5);

/// A small server drops nobody: whoever finds it full waits in the backlog.
const STRANGERS_LEAST: usize = 4_096;

/// A large one drops from so many on, each of which may hold 8 KiB.
const STRANGERS_MOST: usize = 32_768;

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
#[derive(Debug)]
pub struct Admission {
    /// Up to that many strangers nobody is dropped.
    free: usize,
    /// From that many on everybody is.
    most: usize,
    /// Connections that have not authenticated yet.
    strangers: usize,
    failures: HashMap<IpAddr, Failures>,
}

impl Admission {
    /// For a server of at most so many connections.
    pub fn new(max_connections: usize) -> Self {
        let (part, of) = STRANGERS_SHARE;
        let free = (max_connections / of * part).clamp(STRANGERS_LEAST, STRANGERS_MOST);
        Admission { free, most: free / part * of, strangers: 0, failures: HashMap::new() }
    }

    /// Whether a connection from `peer` may come in; `chance` is a random
    /// number from 0 to 1.
    pub fn admits(&self, peer: IpAddr, now: Instant, chance: f64) -> bool {
        let over = self.strangers.saturating_sub(self.free) as f64;
        let drop_probability = over / (self.most - self.free) as f64;
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
        let mut admission = Admission::new(10_000);
        let now = Instant::now();
        admission.strangers = 8_000;
        assert!(admission.admits(HERE, now, 0.0));
        admission.strangers = 9_000;
        assert!(!admission.admits(HERE, now, 0.49));
        assert!(admission.admits(HERE, now, 0.51));
        admission.strangers = 10_000;
        assert!(!admission.admits(HERE, now, 0.999));
    }

    #[test]
    fn nobody_is_dropped_where_the_backlog_can_wait_and_no_flood_is_let_in_without_limit() {
        for (connections, strangers) in [(192, 192), (4_096, 4_096), (20_000, 16_000), (1_000_000, 32_768)] {
            let mut admission = Admission::new(connections);
            admission.strangers = strangers;
            assert!(admission.admits(HERE, Instant::now(), 0.0), "{connections}");
        }
        let mut admission = Admission::new(1_000_000);
        admission.strangers = 41_000;
        assert!(!admission.admits(HERE, Instant::now(), 0.999));
    }

    #[test]
    fn an_address_that_keeps_failing_is_kept_out_for_a_while() {
        let mut admission = Admission::new(1_000);
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
        let mut admission = Admission::new(1_000);
        let now = Instant::now();
        for _ in 0..1_000 {
            admission.failed(HERE, now);
        }
        assert!(admission.admits(HERE, now, 1.0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut admission = Admission::new(1_000);
        let now = Instant::now();
        for n in 0..10_000u32 {
            admission.failed(IpAddr::V4(n.into()), now + Duration::from_micros(n.into()));
        }
        assert!(admission.failures.len() <= FAILURES_KEPT);
    }
}
