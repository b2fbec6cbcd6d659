//! One upload on the disk: written to a hidden part beside its destination,
//! and published by one rename when all of it is durable.

use super::jail::{Jail, identity, split};
use super::parts::{Part, Parts};
use super::refusal::{because, on, refuse};
use crate::proto::files::{Checksum, Create};
use crate::proto::paths::shown;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::request::IfExists;
use rustix::fd::OwnedFd;
use rustix::fs::{self as sys, AtFlags, FallocateFlags, FileType, Mode, RenameFlags, Timespec, Timestamps};
use rustix::io::{Errno, Result, pwrite, retry_on_intr};

/// A resumable upload is made durable each time this many bytes came.
const DURABLE_STEP: u64 = 32 << 20;

/// A begun upload.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) create: Create,
    directory: OwnedFd,
    pub(super) part: Part,
    /// The checksum of the first `written` bytes.
    pub(super) hasher: blake3::Hasher,
    written: u64,
    durable: u64,
}

impl Upload {
    /// Opens the part and reserves the space of the whole file.
    pub(super) fn begin(jail: &Jail, parts: &Parts, create: &Create) -> std::result::Result<Upload, Refusal> {
        let path = &create.path;
        let directory = parent(jail, path)?;
        let mode = if create.mode.is_some() { Mode::RUSR | Mode::WUSR } else { Mode::from_raw_mode(0o666) };
        let part = match &create.key {
            None => parts.temporary(jail, path, &directory, mode).map_err(on(path))?,
            Some(key) => parts.resumable(jail, path, &directory, (create.length, key), mode).map_err(|e| match e {
                Errno::AGAIN => because(ErrorCode::Busy, path, "an upload with the same key is under way"),
                errno => refuse(path, errno),
            })?,
        };
        let written = part.offset;
        let hasher = blake3::Hasher::new();
        let upload = Upload { create: create.clone(), directory, part, hasher, written, durable: written };
        match upload.reserve() {
            Ok(()) => Ok(upload),
            Err(errno) => {
                let refusal = refuse(path, errno);
                upload.release(parts, written > 0);
                Err(refusal)
            }
        }
    }

    /// The file's own length stays what was written, so that it says how far a
    /// part is.
    fn reserve(&self) -> Result<()> {
        let left = self.create.length - self.written;
        if left == 0 {
            return Ok(());
        }
        match retry_on_intr(|| sys::fallocate(&self.part.file, FallocateFlags::KEEP_SIZE, self.written, left)) {
            Err(Errno::OPNOTSUPP) => {
                let free = sys::fstatvfs(&self.part.file)?;
                if free.f_bavail.saturating_mul(free.f_frsize) < left { Err(Errno::NOSPC) } else { Ok(()) }
            }
            result => result,
        }
    }

    /// Appends bytes. After an error the upload can only be released.
    pub(super) fn write(&mut self, parts: &Parts, bytes: &[u8]) -> std::result::Result<(), Refusal> {
        self.hasher.update(bytes);
        self.append(parts, bytes).map_err(on(&self.create.path))
    }

    fn append(&mut self, parts: &Parts, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match pwrite(&self.part.file, bytes, self.written) {
                Ok(0) => return Err(Errno::IO),
                Ok(n) => {
                    self.written += n as u64;
                    bytes = &bytes[n..];
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if self.create.key.is_some() && self.written - self.durable >= DURABLE_STEP {
            self.make_durable(parts)?;
        }
        Ok(())
    }

    fn make_durable(&mut self, parts: &Parts) -> Result<()> {
        retry_on_intr(|| sys::fdatasync(&self.part.file))?;
        parts.set_progress(&self.part.file, self.written)?;
        self.durable = self.written;
        Ok(())
    }

    /// Publishes the upload; its checksum. Where that fails nothing of it is
    /// left, except that a part with a key stays where only the name was the
    /// problem.
    pub(super) fn finish(
        mut self,
        jail: &Jail,
        parts: &Parts,
        expected: Option<Checksum>,
    ) -> std::result::Result<Checksum, Refusal> {
        let actual = *self.hasher.finalize().as_bytes();
        if let Some(expected) = [expected, self.create.blake3].into_iter().flatten().find(|sum| *sum != actual) {
            let message = format!(
                "{}: the content has the checksum {}, where {} was expected",
                shown(&self.create.path),
                hex::encode(actual),
                hex::encode(expected)
            );
            self.release(parts, false);
            return Err(Refusal::new(ErrorCode::ChecksumMismatch, message));
        }
        match self.publish(jail, parts) {
            Ok(()) => Ok(actual),
            Err(errno) => {
                let refusal = self.refuse_name(errno);
                self.release(parts, matches!(errno, Errno::EXIST | Errno::ISDIR));
                Err(refusal)
            }
        }
    }

    fn publish(&mut self, jail: &Jail, parts: &Parts) -> Result<()> {
        let (above, name) = split(&self.create.path);
        let file = &self.part.file;
        let replaced = sys::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let replaced = replaced.filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        if let Some(mode) = self.create.mode.or(replaced.map(|stat| stat.st_mode & 0o777)) {
            sys::fchmod(file, Mode::from_raw_mode(mode))?;
        }
        if self.create.key.is_some() {
            parts.clear_progress(file)?;
        }
        if let Some(ms) = self.create.mtime_ms {
            sys::futimens(file, &modified(ms))?;
        }
        retry_on_intr(|| sys::fsync(file))?;
        // The directory may have been moved meanwhile, even out of the root.
        if identity(&sys::fstat(jail.directory(above, true)?)?) != identity(&sys::fstat(&self.directory)?) {
            return Err(Errno::NOENT);
        }
        rename(&self.directory, &self.part.name, &self.directory, name, self.create.exists)?;
        retry_on_intr(|| sys::fsync(&self.directory))
    }

    fn refuse_name(&self, errno: Errno) -> Refusal {
        let path = &self.create.path;
        match errno {
            Errno::NOENT => because(ErrorCode::NotFound, path, "its directory was moved or removed during the upload"),
            Errno::EXIST => taken(path),
            errno => refuse(path, errno),
        }
    }

    /// Lets go of the upload; its part stays where `keep` says so and it has a
    /// key and something in it.
    pub(super) fn release(mut self, parts: &Parts, keep: bool) {
        if keep && self.create.key.is_some() && self.written > 0 {
            // Gives back what was reserved beyond that.
            let kept =
                retry_on_intr(|| sys::ftruncate(&self.part.file, self.written)).and_then(|()| self.make_durable(parts));
            if kept.is_ok() {
                return;
            }
        }
        if let Err(errno) = sys::unlinkat(&self.directory, &self.part.name, AtFlags::empty()) {
            log::warn!("cannot remove an unfinished upload, which the next sweep will try again: {errno}");
        }
    }

    /// Bytes that are there from an earlier attempt.
    pub(super) fn offset(&self) -> u64 {
        self.part.offset
    }
}

/// The directory of a destination.
pub(super) fn parent(jail: &Jail, path: &str) -> std::result::Result<OwnedFd, Refusal> {
    let (above, _) = split(path);
    jail.directory(above, true).map_err(|errno| match errno {
        Errno::NOENT => {
            because(ErrorCode::NotFound, path, "the directory above it does not exist: make it, or ask for \"parents\"")
        }
        errno => refuse(path, errno),
    })
}

/// The refusal of a name that is taken.
pub(super) fn taken(path: &str) -> Refusal {
    because(ErrorCode::Exists, path, "the name is taken: choose another, or ask for \"exists\":\"replace\"")
}

/// Renames in one step, links not followed. `EEXIST` where the new name is
/// taken and may not be replaced.
pub(super) fn rename(from: &OwnedFd, old: &str, to: &OwnedFd, new: &str, exists: IfExists) -> Result<()> {
    if exists == IfExists::Replace {
        return sys::renameat(from, old, to, new);
    }
    match sys::renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        // The file system does not know the flag (renameat2(2)). A link is as
        // atomic; only that both names exist for a moment.
        Err(Errno::INVAL) => match sys::linkat(from, old, to, new, AtFlags::empty()) {
            Ok(()) => sys::unlinkat(from, old, AtFlags::empty()),
            // Directories have no links: the number was about something else.
            Err(Errno::PERM) => Err(Errno::INVAL),
            Err(errno) => Err(errno),
        },
        result => result,
    }
}

/// The times that set a modification time given in milliseconds.
pub(super) fn modified(ms: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: sys::UTIME_OMIT },
        last_modification: Timespec { tv_sec: ms.div_euclid(1_000), tv_nsec: ms.rem_euclid(1_000) * 1_000_000 },
    }
}
