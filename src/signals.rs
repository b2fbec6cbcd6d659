//! SIGTERM and SIGINT: the first asks the server to stop, a second ends it.

use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Added to a signal's number in the exit status of a process that it ended.
const EXIT_BASE: i32 = 128;

/// Installs the handlers; the stream becomes readable when the server is to stop.
///
/// The second signal ends the process from within the handler, with 130 or
/// 143, so that it works even where the server is stuck.
pub fn install() -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // Handlers run in the order of their registration.
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_BASE + signal, Arc::clone(&stopping))?;
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
        signal_hook::flag::register(signal, Arc::clone(&stopping))?;
    }
    Ok(reader)
}
