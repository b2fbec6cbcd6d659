//! A limit on how fast one connection may speak in chat: a token bucket that
//! lets a paste through and stops a loop.

use std::time::{Duration, Instant};

/// Seconds' worth of messages that may come at once after silence.
const BURST_SECONDS: u32 = 20;

/// The bucket of one connection, kept as the moment at which it will be full
/// again (the generic cell rate algorithm): one value, and no timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flood {
    full_at: Option<Instant>,
}

impl Flood {
    /// Takes a message from the bucket, which refills with `rate` messages a
    /// second (0 is no limit). `false` where it is empty.
    pub fn allows(&mut self, now: Instant, rate: u32) -> bool {
        if rate == 0 {
            return true;
        }
        let next = self.full_at.map_or(now, |at| at.max(now)) + Duration::from_secs(1) / rate;
        let allowed = next <= now + Duration::from_secs(u64::from(BURST_SECONDS));
        if allowed {
            self.full_at = Some(next);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paste_is_let_through_and_a_loop_is_not() {
        let start = Instant::now();
        let mut flood = Flood::default();
        let at_once = (0..10_000).take_while(|_| flood.allows(start, 100)).count();
        assert_eq!(at_once, 2_000);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..10_000).take_while(|_| flood.allows(later, 100)).count(), 100);
        let much_later = start + Duration::from_secs(3_600);
        assert_eq!((0..10_000).take_while(|_| flood.allows(much_later, 100)).count(), 2_000);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut flood = Flood::default();
        let now = Instant::now();
        assert!((0..100_000).all(|_| flood.allows(now, 0)));
    }
}
