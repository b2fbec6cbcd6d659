//! What the log and the clients are told of commands, in the same words by
//! every driver.

use super::Process;
use crate::proto::exec::{ExitStatus, Program, Spawned};
use crate::proto::jobs::JobId;
use crate::wire::error::{ErrorCode, Refusal};
use std::io;
use std::time::Duration;

/// How much of a command is logged, in characters before escaping.
const LOGGED: usize = 256;

/// What the exit code is said to be where nobody knows how a process ended.
const UNKNOWN_CODE: i32 = 255;

/// A command that somebody asked for, as the log shows it.
#[derive(Debug)]
pub struct Asked(String, String);

impl Asked {
    /// Takes note before the program is given away.
    pub fn new(peer: &str, nick: &str, program: &Program) -> Self {
        Asked(format!("{peer} {}", nick.escape_debug()), logged(program))
    }

    /// Logs what came of it.
    pub fn log(&self, result: &Result<Spawned, Refusal>) {
        let Asked(who, shown) = self;
        match result {
            Ok(Spawned { job, pid }) => log::info!("{who}: job {} is process {pid}: {shown}", job.0),
            Err(refusal) => log::info!("{who}: refused to run {shown}: {refusal}"),
        }
    }
}

/// How a command ended; `None` while its leader runs.
pub fn how_ended(process: &mut Process, job: JobId) -> Option<ExitStatus> {
    process.try_wait().unwrap_or_else(|e| {
        log::error!("job {}: cannot ask how it ended: {e}", job.0);
        Some(ExitStatus::Code(UNKNOWN_CODE))
    })
}

/// Logs the end of a command, `terminated` where the server ended it, with the
/// bytes that went in and came out.
pub fn log_end(
    peer: &str,
    job: JobId,
    exited: Option<ExitStatus>,
    terminated: bool,
    took: Duration,
    moved: (u64, u64),
) {
    let end = match exited {
        Some(ExitStatus::Code(code)) => format!("code {code}"),
        Some(ExitStatus::Signal(signal)) => signal.name().into_owned(),
        None => "nobody knows".to_owned(),
    };
    let (job, ended, (bytes_in, bytes_out)) = (job.0, if terminated { "was ended" } else { "ended" }, moved);
    log::info!("{peer}: job {job} {ended} after {took:.3?}: {end}, {bytes_in} bytes in, {bytes_out} bytes out");
}

/// The server runs `most` commands, which is all it may.
pub fn too_many(most: usize) -> Refusal {
    let message = format!("the server runs {most} commands, the most allowed: try again when one has ended");
    Refusal::new(ErrorCode::Limit, message)
}

/// The server has nothing left with which to look after another command.
pub fn cannot_watch(error: &io::Error) -> Refusal {
    Refusal::new(ErrorCode::Limit, format!("the server cannot watch another command: {}", error.kind()))
}

/// No running command has that number.
pub fn no_job(job: JobId) -> Refusal {
    Refusal::new(ErrorCode::NotFound, format!("there is no job {}", job.0))
}

/// That command could not be sent a signal.
pub fn cannot_signal(job: JobId, error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Refusal::new(ErrorCode::Forbidden, format!("job {} runs as another user", job.0))
        }
        kind => Refusal::new(ErrorCode::Io, format!("job {} cannot be signalled: {kind}", job.0)),
    }
}

/// A command as the log shows it: escaped, and cut where it is long.
fn logged(program: &Program) -> String {
    let (text, kind) = match program {
        Program::Argv(argv) => (argv.iter().map(|arg| format!("{arg:?}")).collect::<Vec<_>>().join(" "), ""),
        Program::Shell(text) => (format!("{text:?}"), "sh -c "),
    };
    match text.char_indices().nth(LOGGED) {
        None => format!("{kind}{text}"),
        Some((at, _)) => format!("{kind}{}…", &text[..at]),
    }
}
