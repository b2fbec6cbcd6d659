//! The kernel's error numbers as refusals: the one place where they are worded.

use crate::proto::paths::shown;
use crate::wire::error::{ErrorCode, Refusal};
use rustix::io::Errno;

/// Why an operation on `path` (as the client named it) failed.
pub(super) fn refuse(path: &str, errno: Errno) -> Refusal {
    let (code, why) = match errno {
        Errno::NOENT => (ErrorCode::NotFound, "no such file or directory"),
        Errno::EXIST => (ErrorCode::Exists, "the name is taken"),
        Errno::ISDIR => (ErrorCode::IsDirectory, "a directory, where a file was expected"),
        Errno::NOTDIR => (ErrorCode::NotDirectory, "it or a component above it is no directory"),
        Errno::NOTEMPTY => (ErrorCode::NotEmpty, "the directory is not empty"),
        Errno::NXIO | Errno::NODEV => (ErrorCode::NotAFile, "neither a regular file nor a directory"),
        Errno::NOSPC | Errno::DQUOT => (ErrorCode::NoSpace, "the disk is full, or the server's quota used up"),
        Errno::LOOP | Errno::XDEV => (ErrorCode::InvalidPath, "it leads outside the root, or through too many links"),
        Errno::NAMETOOLONG | Errno::ILSEQ => (ErrorCode::InvalidPath, "the file system takes no such name"),
        Errno::ACCESS | Errno::PERM => (ErrorCode::Forbidden, "the server's user may not do that"),
        Errno::ROFS => (ErrorCode::Forbidden, "the file system is read-only"),
        Errno::FBIG => (ErrorCode::TooLarge, "the file system takes no file of that length"),
        Errno::MFILE | Errno::NFILE => (ErrorCode::Limit, "the server has too many files open: try again later"),
        Errno::BUSY | Errno::TXTBSY | Errno::AGAIN => (ErrorCode::Busy, "it is in use: try again later"),
        other => {
            let message = format!("{}: the disk failed: {other}", shown(path));
            return Refusal::new(ErrorCode::Io, message);
        }
    };
    Refusal::new(code, format!("{}: {why}", shown(path)))
}

/// For [`Result::map_err`].
pub(super) fn on(path: &str) -> impl Fn(Errno) -> Refusal {
    move |errno| refuse(path, errno)
}

/// A refusal that no error number stands for.
pub(super) fn because(code: ErrorCode, path: &str, why: &str) -> Refusal {
    Refusal::new(code, format!("{}: {why}", shown(path)))
}
