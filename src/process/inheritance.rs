//! What commands inherit of the server and of who started it: no signal
//! handling, no descriptor, and the limit on descriptors that was there before
//! the server raised it for itself.

use crate::sys;
use nix::sys::signal::SigSet;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use signal_hook::consts::{FORBIDDEN, SIGPIPE};
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// The limit on descriptors that the server was started with.
static DESCRIPTORS: OnceLock<Rlimit> = OnceLock::new();

/// Makes sure that commands begin with no signal blocked and none ignored, and
/// with none of the descriptors that the server was started with. To be called
/// once at start, before [`crate::system::raise_descriptor_limit`], in the
/// thread that the others come from.
///
/// A blocked mask and ignored signals outlive execve(2), and a server may have
/// got some from who started it: `nohup` ignores HUP, a script's `&` INT and
/// QUIT. Handled signals do not outlive it, so each ignored one gets a handler
/// that does nothing, which for the server is the same. SIGPIPE is left out:
/// the standard library gives it back to every command.
pub fn restore_defaults() -> io::Result<()> {
    DESCRIPTORS.get_or_init(|| getrlimit(Resource::Nofile));
    // What the server itself opens is closed on exec anyway.
    if let Err(e) = sys::close_inherited_on_exec() {
        log::warn!("commands get the descriptors that the server was started with: {e}");
    }
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

/// Gives a command that was just started the limit on descriptors that the
/// server was started with: a program that goes through all it may have, or
/// uses select(2), would suffer from a high one. It cannot be set before the
/// program runs without giving up `posix_spawn`; programs ask for it later
/// than this takes.
pub(super) fn restore_limit(pid: Pid) {
    let Some(&limit) = DESCRIPTORS.get() else { return };
    match prlimit(Some(pid), Resource::Nofile, limit) {
        // It has ended already, or become another user's.
        Ok(_) | Err(Errno::SRCH | Errno::PERM) => {}
        Err(e) => log::warn!("cannot restore the descriptor limit of process {}: {e}", pid.as_raw_nonzero()),
    }
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
