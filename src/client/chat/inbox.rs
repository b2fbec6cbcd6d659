//! What waits for the conversation, from all threads, with a limit on each.
//!
//! Typed lines have a lane of their own: who types must never wait for who
//! shows, because the editor shows only while it reads.

use super::message::Incoming;
use crate::client::connection::Welcome;
use crate::client::error::ClientError;
use crate::client::halves::Sender;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Frames that may wait, in bytes; beyond it the connection is not read.
const MAX_FRAMES: usize = 4 << 20;

/// Lines that may wait.
const MAX_LINES: usize = 1_000;

/// Something from the network.
#[derive(Debug)]
pub enum Event {
    /// A greeted connection: its sending half and the greeting's answer.
    Connected(Box<Sender>, Welcome),
    /// A frame.
    Frame(Incoming),
    /// The connection ended, or did not come about.
    Lost(ClientError),
    /// An upload for that room ended, with the file's name on the server.
    Uploaded(String, Result<String, ClientError>),
}

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
pub enum Next {
    /// From the network.
    Event(Event),
    /// From who types.
    Typed(Typed),
    /// Nothing until the deadline.
    Timeout,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    bytes: usize,
    lines: VecDeque<Typed>,
}

/// A queue with two lanes.
#[derive(Debug, Default)]
pub struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

fn cost(event: &Event) -> usize {
    match event {
        Event::Frame(frame) => frame.cost(),
        _ => 0,
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves plain queues behind, which are still right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an event, waiting while too many bytes wait.
    pub fn push(&self, event: Event) {
        let full = |state: &mut State| state.bytes > MAX_FRAMES;
        let mut state = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        state.bytes += cost(&event);
        state.events.push_back(event);
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
        let full = |state: &mut State| state.lines.len() >= MAX_LINES;
        let mut state = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        state.lines.push_back(typed);
        self.changed.notify_all();
    }

    /// What is there, typed lines first where they are wanted; waits for it
    /// until `deadline`.
    pub fn next(&self, lines: bool, deadline: Option<Instant>) -> Next {
        let mut state = self.lock();
        loop {
            if lines && let Some(typed) = state.lines.pop_front() {
                self.changed.notify_all();
                return Next::Typed(typed);
            }
            if let Some(event) = state.events.pop_front() {
                state.bytes -= cost(&event);
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

    fn frame(length: usize) -> Event {
        Event::Frame(Incoming { body: vec![0; length], ..Incoming::default() })
    }

    #[test]
    fn lines_come_first_and_only_where_they_are_wanted() {
        let inbox = Inbox::default();
        inbox.push(frame(1));
        inbox.type_in(line("a"));
        assert!(matches!(inbox.next(false, None), Next::Event(_)));
        assert!(matches!(inbox.next(false, Some(Instant::now())), Next::Timeout));
        assert!(matches!(inbox.next(true, None), Next::Typed(typed) if typed == line("a")));
    }

    #[test]
    fn a_full_lane_of_frames_holds_up_neither_lines_nor_for_ever() {
        let inbox = Arc::new(Inbox::default());
        inbox.push(frame(MAX_FRAMES + 1));
        let network = std::thread::spawn({
            let inbox = inbox.clone();
            move || inbox.push(frame(1))
        });
        assert_eq!(inbox.try_type(line("a")), Ok(()));
        assert!(!network.is_finished());
        assert!(matches!(inbox.next(false, None), Next::Event(_)));
        network.join().unwrap();
    }

    #[test]
    fn lines_have_a_limit_and_come_back_beyond_it() {
        let inbox = Inbox::default();
        let taken = (0..2 * MAX_LINES).filter(|_| inbox.try_type(line("a")).is_ok()).count();
        assert_eq!(taken, MAX_LINES);
        assert!(matches!(inbox.next(true, Some(Instant::now() + Duration::from_secs(9))), Next::Typed(_)));
    }
}
