//! What commands inherit of the server's signal handling: nothing.

use nix::sys::signal::SigSet;
use signal_hook::consts::{FORBIDDEN, SIGPIPE};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Makes sure that commands begin with no signal blocked and none ignored. To
/// be called once at start, in the thread that the others come from.
///
/// A blocked mask and ignored signals outlive execve(2), and a server may have
/// got some from who started it: `nohup` ignores HUP, a script's `&` INT and
/// QUIT. Handled signals do not outlive it, so each ignored one gets a handler
/// that does nothing, which for the server is the same. SIGPIPE is left out:
/// the standard library gives it back to every command.
pub fn restore_defaults() -> io::Result<()> {
    SigSet::empty().thread_set_mask()?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    for signal in ignored(&status) {
        if signal != SIGPIPE && !FORBIDDEN.contains(&signal) {
            match signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))) {
                // The C library keeps a few real-time signals to itself (nptl(7)).
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
                other => drop(other?),
            }
        }
    }
    Ok(())
}

/// The ignored signals, as proc_pid_status(5) lists them.
fn ignored(status: &str) -> impl Iterator<Item = i32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=64).filter(move |signal| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::ignored;

    #[test]
    fn ignored_signals_are_found() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001007\n").collect::<Vec<_>>(), [1, 2, 3, 13]);
        assert_eq!(ignored("").count(), 0);
    }
}
