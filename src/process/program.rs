//! Which program a name means, and why one did not start.

use crate::wire::error::{ErrorCode, Refusal};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The file that `name` means in directory `cwd`: itself where it has a `/`,
/// otherwise the first of that name in `path` that may be run, as execvp(3)
/// finds it. `not_found` or `forbidden` where `path` has none.
pub(super) fn find(name: &str, path: &OsStr, cwd: &Path) -> Result<PathBuf, Refusal> {
    if name.contains('/') {
        return Ok(cwd.join(name));
    }
    let mut refused = None;
    for directory in path.as_bytes().split(|byte| *byte == b':') {
        // An empty entry means the working directory.
        let candidate = cwd.join(OsStr::from_bytes(directory)).join(name);
        if !candidate.metadata().is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        if may_run(&candidate) {
            return Ok(candidate);
        }
        refused = Some(Refusal::new(ErrorCode::Forbidden, format!("{} may not be run", shown(name))));
    }
    let missing = || Refusal::new(ErrorCode::NotFound, format!("there is no program {} in PATH", shown(name)));
    Err(refused.unwrap_or_else(missing))
}

/// Why starting `program`, which the client calls `name`, in `cwd` failed: one
/// errno has several causes, so it is looked which of them it was.
pub(super) fn explain(error: &io::Error, name: &str, program: &Path, cwd: &Path) -> Refusal {
    if let Err(refusal) = check_directory(cwd) {
        return refusal;
    }
    let name = shown(name);
    let refuse = Refusal::new;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) if program.exists() => {
            refuse(ErrorCode::NotFound, format!("the interpreter that {name} asks for is not there"))
        }
        Some(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::LOOP) => {
            refuse(ErrorCode::NotFound, format!("there is no program {name}"))
        }
        Some(Errno::ACCESS | Errno::PERM | Errno::ISDIR | Errno::TXTBSY) => {
            refuse(ErrorCode::Forbidden, format!("{name} may not be run"))
        }
        Some(Errno::NOEXEC) => {
            refuse(ErrorCode::Forbidden, format!("{name} is in no format that this machine can run"))
        }
        Some(Errno::TOOBIG) => {
            refuse(ErrorCode::TooLarge, "the arguments and the environment are too long together".to_owned())
        }
        Some(Errno::MFILE | Errno::NFILE) => refuse(
            ErrorCode::Limit,
            "the server has no descriptor left for another command: try again when one has ended".to_owned(),
        ),
        Some(Errno::AGAIN | Errno::NOMEM) => refuse(
            ErrorCode::Busy,
            "the server's user may not start another process now: try again when one has ended".to_owned(),
        ),
        _ => refuse(ErrorCode::Io, format!("{name} could not be started: {}", error.kind())),
    }
}

fn check_directory(cwd: &Path) -> Result<(), Refusal> {
    let no_directory = || Refusal::new(ErrorCode::NotDirectory, "`cwd` is no directory");
    let no_entry = || Refusal::new(ErrorCode::Forbidden, "`cwd` may not be entered");
    match cwd.metadata() {
        Ok(metadata) if !metadata.is_dir() => Err(no_directory()),
        Ok(_) if !may_run(cwd) => Err(no_entry()),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(no_entry()),
        Err(_) => Err(no_directory()),
        Ok(_) => Ok(()),
    }
}

/// Whether a file may be run, or a directory entered, by this process.
fn may_run(path: &Path) -> bool {
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// A client's own word, fit for a message.
fn shown(name: &str) -> String {
    const SHOWN: usize = 80;
    let mut short: String = name.chars().take(SHOWN).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    format!("{short:?}")
}
