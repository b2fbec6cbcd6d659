//! When others may print beside a line editor.
//!
//! The editor takes text to print only while it reads a line, and writes it
//! above that line. Text that came when it had stopped reading would stand in
//! the middle of the typed line, or come after text printed later. So printers
//! wait at this gate: it opens when the editor has the terminal in its hands,
//! and closes before it lets go.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whether text may be printed, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The editor is between two lines.
    #[default]
    Closed,
    /// The editor is about to read a line.
    Armed,
    /// The editor reads a line and prints above it.
    Open,
    /// The editor has ended: the terminal is anybody's.
    Gone,
}

/// What a printer that waited may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Hand the text to the editor.
    Editor,
    /// Write to the terminal.
    Terminal,
}

/// The gate between an editor and those who print.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<(State, u64)>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, (State, u64)> {
        // Two plain values are right whatever happened to who held the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        let mut now = self.lock();
        if now.0 != State::Gone {
            now.0 = state;
        }
        self.changed.notify_all();
    }

    /// The editor is about to read a line.
    pub fn arm(&self) {
        self.set(State::Armed);
    }

    /// The editor drew its line: it has the terminal in its hands.
    pub fn drawn(&self) {
        let mut now = self.lock();
        now.1 += 1;
        if now.0 == State::Armed {
            now.0 = State::Open;
        }
        self.changed.notify_all();
    }

    /// The editor is about to give the line away.
    pub fn close(&self) {
        self.set(State::Closed);
    }

    /// The editor has ended for good.
    pub fn end(&self) {
        self.set(State::Gone);
    }

    /// Waits until text may be printed.
    pub fn wait(&self) -> Pass {
        let now = self
            .changed
            .wait_while(self.lock(), |now| matches!(now.0, State::Closed | State::Armed))
            .unwrap_or_else(PoisonError::into_inner);
        if now.0 == State::Gone { Pass::Terminal } else { Pass::Editor }
    }

    /// How often the line was drawn so far.
    pub fn draws(&self) -> u64 {
        self.lock().1
    }

    /// Waits until the line was drawn more than `draws` times, or the editor
    /// ended, or `patience` ran out.
    pub fn wait_drawn(&self, draws: u64, patience: Duration) {
        let waiting = |now: &mut (State, u64)| now.1 <= draws && now.0 != State::Gone;
        // Whether it was drawn or patience ran out, the caller goes on.
        drop(self.changed.wait_timeout_while(self.lock(), patience, waiting));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};
    use std::time::Instant;

    #[test]
    fn it_opens_only_once_the_line_is_drawn_and_closes_before_it_is_given_away() {
        let gate = Arc::new(Gate::default());
        let (passed, passes) = mpsc::channel();
        let printer = std::thread::spawn({
            let gate = gate.clone();
            move || (0..2).for_each(|_| passed.send(gate.wait()).unwrap())
        });
        gate.drawn();
        assert!(passes.try_recv().is_err(), "not armed: that was the end of an earlier line");
        gate.arm();
        assert!(passes.try_recv().is_err(), "not drawn yet");
        gate.drawn();
        assert_eq!(passes.recv(), Ok(Pass::Editor));
        gate.close();
        gate.end();
        printer.join().unwrap();
        gate.arm();
        assert_eq!(gate.wait(), Pass::Terminal, "the end is for good");
    }

    #[test]
    fn waiting_for_a_drawing_ends_by_it_or_by_patience() {
        let (gate, began, patience) = (Gate::default(), Instant::now(), Duration::from_secs(60));
        gate.wait_drawn(gate.draws(), Duration::ZERO);
        let draws = gate.draws();
        gate.drawn();
        gate.wait_drawn(draws, patience);
        assert!(began.elapsed() < patience);
    }
}
