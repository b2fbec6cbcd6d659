//! The kept messages of one room: a window that ends at the newest message,
//! bounded in messages and in bytes. Keeping them on disk is the store's work.

use super::rooms::Message;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most bytes that one room keeps, in [`cost`].
pub const MAX_ROOM_BYTES: usize = 4 << 20;

/// What a kept message costs beside its text, in bytes: its record, its place
/// and what the allocator adds.
const OVERHEAD: usize = 160;

/// What keeping `message` costs, in bytes.
pub fn cost(message: &Message) -> usize {
    message.body.len() + OVERHEAD
}

/// Kept messages, oldest first, numbered without a gap.
#[derive(Debug, Default)]
pub struct History {
    kept: VecDeque<Arc<Message>>,
    bytes: usize,
}

impl History {
    /// Keeps `message`, the successor of the newest, and drops the oldest
    /// where there would be more than `max` or too many bytes.
    pub fn push(&mut self, message: Arc<Message>, max: usize) {
        debug_assert!(self.kept.back().is_none_or(|newest| newest.seq + 1 == message.seq));
        self.bytes += cost(&message);
        self.kept.push_back(message);
        while self.kept.len() > max || self.bytes > MAX_ROOM_BYTES {
            self.drop_oldest();
        }
    }

    /// Drops the oldest message; false where there was none.
    pub fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.kept.pop_front() else { return false };
        self.bytes -= cost(&oldest);
        if self.kept.is_empty() {
            // A room that keeps nothing holds no memory.
            self.kept = VecDeque::new();
        }
        true
    }

    /// What the kept messages cost, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many messages are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The number of the oldest kept message.
    pub fn first(&self) -> Option<u64> {
        self.kept.front().map(|oldest| oldest.seq)
    }

    /// The newest messages after `after`, at most `limit`, oldest first.
    pub fn newest(&self, after: Option<u64>, limit: usize) -> Vec<Arc<Message>> {
        let from = self.position_after(after).max(self.kept.len().saturating_sub(limit));
        self.kept.range(from..).cloned().collect()
    }

    /// At most `limit` messages between the exclusive bounds, oldest first:
    /// those next to `after` where it is given, else those next to `before`.
    pub fn page(&self, after: Option<u64>, before: Option<u64>, limit: usize) -> Vec<Arc<Message>> {
        let mut from = self.position_after(after);
        let mut to = match before {
            Some(before) => before.checked_sub(1).map_or(0, |last| self.position_after(Some(last))),
            None => self.kept.len(),
        };
        if after.is_some() {
            to = to.min(from.saturating_add(limit));
        } else {
            from = to.saturating_sub(limit);
        }
        if from >= to {
            return Vec::new();
        }
        self.kept.range(from..to).cloned().collect()
    }

    /// Where the first message numbered above `after` stands, or would.
    fn position_after(&self, after: Option<u64>) -> usize {
        match (after, self.first()) {
            (Some(after), Some(first)) if after >= first => {
                usize::try_from(after - first).map_or(self.kept.len(), |n| n.saturating_add(1).min(self.kept.len()))
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn message(seq: u64, length: usize) -> Arc<Message> {
        let body = Bytes::from(vec![b'x'; length]);
        Arc::new(Message { room: "r".into(), seq, at: 0, from: "n".into(), body })
    }

    fn seqs(messages: &[Arc<Message>]) -> Vec<u64> {
        messages.iter().map(|m| m.seq).collect()
    }

    #[test]
    fn the_newest_are_kept_within_both_bounds() {
        let mut history = History::default();
        for seq in 1..=10 {
            history.push(message(seq, 1), 3);
        }
        assert_eq!(seqs(&history.newest(None, 50)), [8, 9, 10]);
        assert_eq!(history.bytes(), 3 * (1 + OVERHEAD));
        for seq in 11..=100 {
            history.push(message(seq, 65_536), 1_000);
        }
        assert_eq!(history.first(), Some(100 + 1 - (MAX_ROOM_BYTES / (65_536 + OVERHEAD)) as u64));
        while history.drop_oldest() {}
        assert_eq!((history.bytes(), history.kept.capacity()), (0, 0));
    }

    #[test]
    fn keeping_nothing_is_allowed() {
        let mut history = History::default();
        history.push(message(1, 1), 0);
        history.push(message(2, 1), 0);
        assert!(history.is_empty() && history.bytes() == 0 && history.page(Some(0), None, 9).is_empty());
    }

    proptest! {
        #[test]
        fn pages_are_what_a_filter_over_all_messages_gives(
            first in 1u64..5,
            count in 0u64..12,
            after in prop::option::of(prop_oneof![0u64..20, Just(u64::MAX)]),
            before in prop::option::of(prop_oneof![0u64..20, Just(u64::MAX)]),
            limit in prop_oneof![0usize..15, Just(usize::MAX)],
        ) {
            let mut history = History::default();
            (first..first + count).for_each(|seq| history.push(message(seq, 0), 100));
            let all = first..first + count;
            let inside: Vec<u64> =
                all.clone().filter(|s| after.is_none_or(|a| *s > a) && before.is_none_or(|b| *s < b)).collect();
            let cut = limit.min(inside.len());
            let page = if after.is_some() { &inside[..cut] } else { &inside[inside.len() - cut..] };
            prop_assert_eq!(seqs(&history.page(after, before, limit)), page);
            let newer: Vec<u64> = all.filter(|s| after.is_none_or(|a| *s > a)).collect();
            prop_assert_eq!(seqs(&history.newest(after, limit)), &newer[newer.len() - limit.min(newer.len())..]);
        }
    }
}
