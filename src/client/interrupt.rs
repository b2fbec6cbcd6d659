//! Ending a transfer by a signal, with its temporary files taken away.
//!
//! A thread waits for INT, TERM and HUP. The first one shuts the connection's
//! socket down: whatever read or wrote there returns at once, unwinds as from a
//! lost connection, and cleans up on its way. A second one ends the process.

use crate::client::connection::Connection;
use crate::client::error::{ClientError, Result};
use crate::client::signals::by_default;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
struct State {
    signal: Option<i32>,
    socket: Option<TcpStream>,
}

/// Says whether a signal came, and wakes who waits when one does.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Interrupt {
    /// Begins to wait for signals.
    pub fn install() -> Result<Interrupt> {
        let interrupt = Interrupt::default();
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|e| ClientError::local("cannot wait for signals", e))?;
        let shared = interrupt.clone();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if !shared.strike(signal) {
                    by_default(signal);
                }
            }
        });
        Ok(interrupt)
    }

    /// Notes `signal`; false where one was noted before.
    fn strike(&self, signal: i32) -> bool {
        let (state, changed) = &*self.shared;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.signal.is_some() {
            return false;
        }
        state.signal = Some(signal);
        if let Some(socket) = &state.socket {
            // It fails only where the connection is gone already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        changed.notify_all();
        true
    }

    /// From now on it is this connection that a signal shuts down.
    pub fn watch(&self, connection: &Connection) -> Result<()> {
        let socket = connection.socket()?;
        let mut state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signal) = state.signal {
            return Err(ClientError::Interrupted(signal));
        }
        state.socket = Some(socket);
        Ok(())
    }

    /// `error`, or the signal that caused it.
    pub fn explain(&self, error: ClientError) -> ClientError {
        let state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.signal {
            Some(signal) => ClientError::Interrupted(signal),
            None => error,
        }
    }

    /// Sleeps for `time`, or until a signal comes, which is an error.
    pub fn sleep(&self, time: Duration) -> Result<()> {
        let (state, changed) = &*self.shared;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, _) = changed
            .wait_timeout_while(state, time, |state| state.signal.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        match state.signal {
            Some(signal) => Err(ClientError::Interrupted(signal)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_explains_the_error_it_caused_and_ends_a_sleep() {
        let interrupt = Interrupt::default();
        let lost = ClientError::Lost { host: "h".into(), message: "gone".into() };
        assert_eq!(interrupt.explain(lost.clone()), lost);
        assert_eq!(interrupt.sleep(Duration::ZERO), Ok(()));
        assert!(interrupt.strike(SIGINT));
        assert!(!interrupt.strike(SIGINT), "the second one is for the caller to act on");
        assert_eq!(interrupt.explain(lost), ClientError::Interrupted(SIGINT));
        assert_eq!(interrupt.sleep(Duration::from_secs(60)), Err(ClientError::Interrupted(SIGINT)));
    }
}
