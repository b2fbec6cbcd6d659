//! What waits for a conversation, from all threads, with a limit on each: what
//! happens (`E`) and what is typed.
//!
//! Typed lines have a lane of their own: who types must never wait for who
//! shows, because the editor shows only while it reads.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What happened and was not taken yet may cost so many bytes.
const MAX_COST: usize = 4 << 20;

/// Lines that may wait.
const MAX_LINES: usize = 1_000;

/// Something from who types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// A line.
    Line {
        /// The room in which it was typed, where that was shown.
        room: Option<String>,
        /// What was typed.
        text: String,
        /// Whether it must be shown again once it is said.
        echo: bool,
    },
    /// A line that is none, and why.
    Bad(String),
    /// Ctrl-C.
    Interrupt,
    /// No more lines.
    End,
}

/// What comes next.
#[derive(Debug)]
pub enum Next<E> {
    /// It happened.
    Event(E),
    /// From who types.
    Typed(Typed),
    /// Nothing until the deadline.
    Timeout,
}

#[derive(Debug)]
struct State<E> {
    /// With what each costs, in bytes.
    events: VecDeque<(usize, E)>,
    cost: usize,
    lines: VecDeque<Typed>,
}

/// A queue with two lanes.
#[derive(Debug)]
pub struct Inbox<E> {
    state: Mutex<State<E>>,
    changed: Condvar,
}

impl<E> Default for Inbox<E> {
    fn default() -> Self {
        let state = State { events: VecDeque::new(), cost: 0, lines: VecDeque::new() };
        Inbox { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<E> Inbox<E> {
    fn lock(&self) -> MutexGuard<'_, State<E>> {
        // A panic elsewhere leaves plain queues behind, which are still right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues what happened, which costs so many bytes, waiting while too much
    /// waits.
    pub fn push(&self, cost: usize, event: E) {
        let full = |state: &mut State<E>| state.cost > MAX_COST;
        let state = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        self.add(state, cost, event);
    }

    /// Queues what happened; false where too much waits already.
    pub fn try_push(&self, cost: usize, event: E) -> bool {
        let state = self.lock();
        let free = state.cost <= MAX_COST;
        if free {
            self.add(state, cost, event);
        }
        free
    }

    /// Queues what happened however much waits; for what comes seldom and must
    /// not be lost.
    pub fn force_push(&self, event: E) {
        self.add(self.lock(), 0, event);
    }

    fn add(&self, mut state: MutexGuard<'_, State<E>>, cost: usize, event: E) {
        state.cost += cost;
        state.events.push_back((cost, event));
        self.changed.notify_all();
    }

    /// Queues what was typed; gives it back where too much waits.
    pub fn try_type(&self, typed: Typed) -> Result<(), Typed> {
        let mut state = self.lock();
        if state.lines.len() >= MAX_LINES {
            return Err(typed);
        }
        state.lines.push_back(typed);
        self.changed.notify_all();
        Ok(())
    }

    /// Queues what was typed, waiting while too much waits.
    pub fn type_in(&self, typed: Typed) {
        let full = |state: &mut State<E>| state.lines.len() >= MAX_LINES;
        let mut state = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        state.lines.push_back(typed);
        self.changed.notify_all();
    }

    /// What is there, typed lines first where they are wanted; waits for it
    /// until `deadline`.
    pub fn next(&self, lines: bool, deadline: Option<Instant>) -> Next<E> {
        let mut state = self.lock();
        loop {
            if lines && let Some(typed) = state.lines.pop_front() {
                self.changed.notify_all();
                return Next::Typed(typed);
            }
            if let Some((cost, event)) = state.events.pop_front() {
                state.cost -= cost;
                self.changed.notify_all();
                return Next::Event(event);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Next::Timeout,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    fn line(text: &str) -> Typed {
        Typed::Line { room: None, text: text.to_owned(), echo: true }
    }

    #[test]
    fn lines_come_first_and_only_where_they_are_wanted() {
        let inbox = Inbox::default();
        inbox.push(1, "event");
        inbox.type_in(line("a"));
        assert!(matches!(inbox.next(false, None), Next::Event(_)));
        assert!(matches!(inbox.next(false, Some(Instant::now())), Next::Timeout));
        assert!(matches!(inbox.next(true, None), Next::Typed(typed) if typed == line("a")));
    }

    #[test]
    fn a_full_lane_of_frames_holds_up_neither_lines_nor_for_ever() {
        let inbox = Arc::new(Inbox::default());
        inbox.push(MAX_COST + 1, "large");
        assert!(!inbox.try_push(1, "more"));
        let network = std::thread::spawn({
            let inbox = inbox.clone();
            move || inbox.push(1, "last")
        });
        assert_eq!(inbox.try_type(line("a")), Ok(()));
        assert!(!network.is_finished());
        assert!(matches!(inbox.next(false, None), Next::Event(_)));
        network.join().unwrap();
        inbox.force_push("at any time");
    }

    #[test]
    fn lines_have_a_limit_and_come_back_beyond_it() {
        let inbox = Inbox::<()>::default();
        let taken = (0..2 * MAX_LINES).filter(|_| inbox.try_type(line("a")).is_ok()).count();
        assert_eq!(taken, MAX_LINES);
        assert!(matches!(inbox.next(true, Some(Instant::now() + Duration::from_secs(9))), Next::Typed(_)));
    }
}
