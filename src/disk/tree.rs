//! Names and what stands under them: stat, mkdir, remove, rename.

use super::jail::{self, Jail};
use super::parts::{Cleared, Parts};
use super::refusal::{because, on, refuse};
use super::upload::{parent, rename, taken};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::files::{Kind, Status};
use crate::wire::request::IfExists;
use rustix::fs::{self as sys, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

/// A file's description as it goes over the wire.
pub(super) fn status(stat: &Stat) -> Status {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    };
    Status { kind, length: jail::length(stat), mtime_ms: jail::mtime_ms(stat), mode: stat.st_mode & 0o7777 }
}

/// What a path leads to, links followed.
pub(super) fn stat(jail: &Jail, path: &str) -> Result<Status, Refusal> {
    let file = jail.path(path).map_err(on(path))?;
    sys::fstat(&file).map(|stat| status(&stat)).map_err(on(path))
}

/// Refuses a link that leads outside the root. One that leads nowhere passes.
pub(super) fn check_link(jail: &Jail, path: &str) -> Result<(), Refusal> {
    match jail.path(path) {
        Err(errno @ (Errno::XDEV | Errno::LOOP)) => Err(refuse(path, errno)),
        _ => Ok(()),
    }
}

/// Makes a directory; those above it too where `parents` says so.
pub(super) fn mkdir(jail: &Jail, path: &str, parents: bool) -> Result<(), Refusal> {
    let (above, name) = jail::split(path);
    if parents {
        make_parents(jail, above).map_err(on(path))?;
    }
    let directory = parent(jail, path)?;
    sys::mkdirat(&directory, name, Mode::from_raw_mode(0o777)).map_err(on(path))
}

/// Makes a directory and those above it, where they are missing, durably.
pub(super) fn make_parents(jail: &Jail, path: &str) -> rustix::io::Result<()> {
    match jail.path(path) {
        Err(Errno::NOENT) => {}
        result => return result.map(drop),
    }
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let (directory, name) = jail.parent(&path[..end])?;
        match sys::mkdirat(&directory, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => retry_on_intr(|| sys::fsync(&directory))?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Removes a file, a link or an empty directory.
pub(super) fn remove(jail: &Jail, parts: &Parts, path: &str) -> Result<(), Refusal> {
    let (directory, name) = jail.parent(path).map_err(on(path))?;
    let stat = sys::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(on(path))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return sys::unlinkat(&directory, name, AtFlags::empty()).map_err(on(path));
    }
    match sys::unlinkat(&directory, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        result => return result.map_err(on(path)),
    }
    // Parts of uploads are hidden: to the client such a directory is empty.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = sys::openat(&directory, name, flags, Mode::empty()).map_err(on(path))?;
    match parts.clear(&inner).map_err(on(path))? {
        Cleared::Empty => sys::unlinkat(&directory, name, AtFlags::REMOVEDIR).map_err(on(path)),
        Cleared::HoldsFiles => Err(refuse(path, Errno::NOTEMPTY)),
        Cleared::InUse => Err(because(ErrorCode::NotEmpty, path, "an upload into the directory is under way")),
    }
}

/// Renames in one step; both ends inside the root.
pub(super) fn rename_entry(jail: &Jail, parts: &Parts, path: &str, to: &str, exists: IfExists) -> Result<(), Refusal> {
    let (from, old) = jail.parent(path).map_err(on(path))?;
    let stat = sys::statat(&from, old, AtFlags::SYMLINK_NOFOLLOW).map_err(on(path))?;
    let (target, new) = jail.parent(to).map_err(|errno| match errno {
        Errno::NOENT => because(ErrorCode::NotFound, to, "the directory above it does not exist: make it first"),
        errno => refuse(to, errno),
    })?;
    rename(&from, old, &target, new, exists).map_err(|errno| match errno {
        Errno::EXIST if exists == IfExists::Fail => taken(to),
        Errno::EXIST => refuse(to, Errno::NOTEMPTY),
        Errno::INVAL => because(ErrorCode::InvalidPath, to, "a directory cannot be moved into itself"),
        Errno::XDEV => because(ErrorCode::Io, to, "it is on another file system: copy the content instead"),
        errno => refuse(to, errno),
    })?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        parts.moved(jail, path, to);
    }
    Ok(())
}
