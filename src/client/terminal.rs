//! The local terminal of an interactive session: raw mode, and its end on
//! every way out.
//!
//! There is one terminal, so what it was like before is kept once for the
//! process: the guard, the panic hook and the thread that waits for signals
//! all restore from there.

use crate::client::error::{ClientError, Result};
use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// The size where no terminal says one: rows and columns.
const DEFAULT_SIZE: (u16, u16) = (24, 80);

/// The one terminal.
static KEPT: Mutex<Kept> = Mutex::new(Kept { wanted: false, before: None });

struct Kept {
    /// Whether a [`RawMode`] lives. A client that was stopped may go on just
    /// as it ends, and must not leave a raw terminal behind.
    wanted: bool,
    /// What the terminal was like before raw mode; `None` while it is as it was.
    before: Option<Termios>,
}

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether standard input is a terminal.
pub fn is_stdin() -> bool {
    isatty(stdio::stdin())
}

/// The terminal's size: rows and columns.
pub fn size() -> (u16, u16) {
    for fd in [stdio::stdin(), stdio::stdout(), stdio::stderr()] {
        if let Ok(size) = tcgetwinsize(fd)
            && size.ws_row > 0
            && size.ws_col > 0
        {
            return (size.ws_row, size.ws_col);
        }
    }
    DEFAULT_SIZE
}

/// Raw mode on standard input until this is dropped.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Enters raw mode, and sees to it that a panic leaves it.
    pub fn enter() -> Result<RawMode> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                next(info);
            }));
        });
        kept().wanted = true;
        let entered = RawMode(());
        raw()?;
        Ok(entered)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        kept().wanted = false;
        restore();
    }
}

/// Raw mode again, after [`restore`], for as long as a [`RawMode`] lives;
/// nothing where it is raw already.
pub fn raw() -> Result<()> {
    let mut kept = kept();
    if !kept.wanted || kept.before.is_some() {
        return Ok(());
    }
    let failed = |e: rustix::io::Errno| ClientError::local("cannot set the terminal to raw mode", e);
    let now = tcgetattr(stdio::stdin()).map_err(failed)?;
    let mut raw = now.clone();
    raw.make_raw();
    kept.before = Some(now);
    tcsetattr(stdio::stdin(), OptionalActions::Drain, &raw).map_err(failed)
}

/// The terminal as it was before raw mode. May be called at any time and from
/// any thread, any number of times.
pub fn restore() {
    let mut kept = kept();
    if let Some(termios) = kept.before.take() {
        // A terminal that is gone needs no restoring, and there is nobody to tell.
        let _ = tcsetattr(stdio::stdin(), OptionalActions::Drain, &termios);
    }
}
