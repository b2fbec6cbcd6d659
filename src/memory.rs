//! Giving memory back to the system when a crowd has gone.
//!
//! The C library keeps what was freed for the next allocation, and a few
//! live bytes behind it are enough to keep all of it. Ten thousand connections
//! would leave tens of megabytes behind that nobody uses.

/// Fewer connections than this are no crowd: what they leave is not worth the
/// time to look for it.
pub const CROWD: usize = 1_000;

/// A crowd has gone when no more than this part of it is left.
const LEFT: usize = 8;

/// The most connections there were since memory was given back.
#[derive(Debug, Default)]
pub struct Crowd {
    most: usize,
}

impl Crowd {
    /// Takes note that there are so many connections; `true` when a crowd has
    /// gone and [`give_back`] would be worth its milliseconds.
    pub fn has_gone(&mut self, connections: usize) -> bool {
        self.most = self.most.max(connections);
        let gone = self.most >= CROWD && connections <= self.most / LEFT;
        if gone {
            self.most = connections;
        }
        gone
    }
}

/// Gives what was freed and is not used back to the system, where the C
/// library can. Takes a few milliseconds for some tens of megabytes.
pub fn give_back() {
    crate::sys::trim_heap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_gone_once() {
        let mut crowd = Crowd::default();
        assert!((0..=8_000).all(|n| !crowd.has_gone(n)));
        assert!((1_001..8_000).rev().all(|n| !crowd.has_gone(n)));
        assert!(crowd.has_gone(1_000));
        assert!(!crowd.has_gone(999), "that is not what 8,000 left");
        assert!(crowd.has_gone(125), "but it was a crowd itself");
        assert!((0..125).rev().all(|n| !crowd.has_gone(n)));
    }

    #[test]
    fn a_few_are_no_crowd() {
        let mut crowd = Crowd::default();
        assert!(!crowd.has_gone(CROWD - 1));
        assert!(!crowd.has_gone(0));
    }
}
