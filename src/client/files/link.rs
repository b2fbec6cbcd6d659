//! The connection of a transfer, and another one when it is lost.

use crate::client::config::Config;
use crate::client::connection::Connection;
use crate::client::error::{ClientError, Result};
use crate::client::interrupt::Interrupt;
use crate::client::progress::Report;
use std::time::Duration;

/// Tries without any progress between them before it is given up.
pub const MAX_TRIES: u32 = 8;

/// The first wait before a try; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// A connection that can be opened again.
#[derive(Debug)]
pub struct Link {
    config: Config,
    interrupt: Interrupt,
    connection: Connection,
    tries: u32,
}

impl Link {
    /// Opens the first connection.
    pub fn open(config: Config, interrupt: Interrupt) -> Result<Link> {
        let connection = Connection::open(&config)?;
        interrupt.watch(&connection)?;
        Ok(Link { config, interrupt, connection, tries: 0 })
    }

    /// The connection as it stands.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Something arrived: the next loss begins with a short wait again.
    pub fn progressed(&mut self) {
        self.tries = 0;
    }

    /// Opens another connection after `error`, waiting before each try.
    ///
    /// # Errors
    /// `error` or its successor when [`MAX_TRIES`] failed; whatever no further
    /// try can mend, at once.
    pub fn reopen(&mut self, mut error: ClientError, report: &Report) -> Result<()> {
        loop {
            if self.tries == MAX_TRIES {
                return Err(error);
            }
            let wait = wait(self.tries, jitter());
            self.tries += 1;
            let (seconds, tries) = (wait.as_secs_f64(), self.tries);
            report.note(format_args!("{error}; trying again in {seconds:.1} s ({tries} of {MAX_TRIES})"));
            self.interrupt.sleep(wait)?;
            match Connection::open(&self.config) {
                Ok(connection) => {
                    self.interrupt.watch(&connection)?;
                    self.connection = connection;
                    return Ok(());
                }
                Err(e) if e.is_lost() || matches!(e, ClientError::Connect { .. }) => error = e,
                Err(e) => return Err(e),
            }
        }
    }
}

/// The wait before try number `tries` (from 0): half of it is fixed, half is
/// by chance, so that many clients of one server do not return together.
pub(crate) fn wait(tries: u32, jitter: f64) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << tries.min(16)).min(LONGEST_WAIT);
    full.mul_f64(0.5 + jitter / 2.0)
}

/// By chance, from 0 to below 1.
pub(crate) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_stay_within_their_half() {
        assert_eq!(wait(0, 0.0), FIRST_WAIT / 2);
        assert_eq!(wait(1, 0.0), FIRST_WAIT);
        assert_eq!(wait(60, 1.0), LONGEST_WAIT);
        assert!((0.0..1.0).contains(&jitter()));
    }
}
