//! Peers that have said all they will and take nothing of what they asked for.
//! Their kernels go on answering for them, so no keepalive ends them; a peer
//! that may still say something is another matter: it may stand still as long
//! as it likes.

use std::time::{Duration, Instant};

/// Whoever has ended its sending side and takes not one byte for so long is
/// cut off. It is looked at each such time, so that it may be twice as long.
pub const STALL_TIME: Duration = Duration::from_secs(60);

/// A peer that takes nothing now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    since: Instant,
    /// Bytes that were sent and that its kernel had not acknowledged then.
    unacknowledged: usize,
}

impl Stall {
    /// It begins now, with so many bytes on their way: at least one, or it is
    /// not the peer that anybody waits for.
    pub fn begin(now: Instant, unacknowledged: usize) -> Option<Self> {
        (unacknowledged > 0).then_some(Stall { since: now, unacknowledged })
    }

    /// When to look again.
    pub fn deadline(&self) -> Instant {
        self.since + STALL_TIME
    }

    /// Whether the peer is to be cut off, while nothing more was sent. Begins
    /// anew where it has taken something.
    pub fn is_over(&mut self, now: Instant, unacknowledged: usize) -> bool {
        if now < self.deadline() {
            return false;
        }
        let is_over = unacknowledged >= self.unacknowledged;
        if !is_over {
            *self = Stall { since: now, unacknowledged };
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_taken_is_another_minute() {
        let start = Instant::now();
        assert_eq!(Stall::begin(start, 0), None);
        let mut stall = Stall::begin(start, 1_000).unwrap();
        assert!(!stall.is_over(start + STALL_TIME - Duration::from_nanos(1), 1_000));
        let later = start + STALL_TIME;
        assert!(!stall.is_over(later, 999));
        assert_eq!(stall.deadline(), later + STALL_TIME);
        assert!(!stall.is_over(later + STALL_TIME / 2, 999));
        assert!(stall.is_over(later + STALL_TIME, 999));
    }
}
