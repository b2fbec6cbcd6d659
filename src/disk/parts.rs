//! Unfinished uploads on the disk: their hidden files, how far each is
//! durable, and how what a crash left behind is found and removed.
//!
//! A part stands beside its destination, so that one rename publishes it even
//! where a file system is mounted below the root. Its owner holds a lock on it
//! (flock(2)), which ends with the process: whatever can be locked belongs to
//! nobody.
//!
//! So that parts are found without a walk over the whole root, each directory
//! that has some is noted in `.reactord-parts` below the root, as a symbolic
//! link to it: its target is made together with its name, in one step.

use super::jail::{Jail, identity};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self as sys, AtFlags, Dir, FlockOperation, Mode, OFlags, XattrFlags};
use rustix::io::{Errno, Result, retry_on_intr};
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where directories with parts are noted.
const NOTES: &str = ".reactord-parts";

/// Parts of uploads without a key: useless once their server has ended.
const TEMPORARY: &str = ".reactord-tmp-";

/// Parts of uploads with a key.
const RESUMABLE: &str = ".reactord-part-";

/// How often a name is tried again that was swept in the same moment.
const ATTEMPTS: usize = 10;

/// Says how far a part is durable: the kernel's boot and a length in bytes.
const PROGRESS: &str = "user.reactord.part";

/// Everything that is known about unfinished uploads below a root.
#[derive(Debug)]
pub(super) struct Parts {
    lifetime: Duration,
    /// Identifies the running kernel: what it holds in memory outlives this
    /// process, but not a restart of the machine.
    boot: String,
    /// Directories that are noted.
    noted: Mutex<HashSet<String>>,
}

/// A part that was just opened, and locked.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: OwnedFd,
    pub(super) name: String,
    /// How many bytes of it can be relied on.
    pub(super) offset: u64,
}

impl Parts {
    pub(super) fn new(lifetime: Duration) -> Parts {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Parts { lifetime, boot: boot.trim().to_owned(), noted: Mutex::default() }
    }

    /// Makes a part that nobody will go on with.
    pub(super) fn temporary(&self, jail: &Jail, path: &str, directory: &OwnedFd, mode: Mode) -> Result<Part> {
        for _ in 0..ATTEMPTS {
            let mut random = [0; 12];
            rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
            let name = format!("{TEMPORARY}{}", hex::encode(random));
            match self.open(jail, path, directory, &name, OFlags::EXCL, mode) {
                Ok(Some(file)) => return Ok(Part { file, name, offset: 0 }),
                Ok(None) | Err(Errno::EXIST | Errno::AGAIN) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens the part for that path, length and key, or makes it. `EAGAIN`
    /// where another upload has it.
    pub(super) fn resumable(
        &self,
        jail: &Jail,
        path: &str,
        directory: &OwnedFd,
        (length, key): (u64, &str),
        mode: Mode,
    ) -> Result<Part> {
        let mut hasher = blake3::Hasher::new();
        // Paths hold no NUL, so no two different triples read alike.
        hasher.update(format!("{path}\0{length}\0{key}").as_bytes());
        let name = format!("{RESUMABLE}{}", &hasher.finalize().to_hex()[..32]);
        for _ in 0..ATTEMPTS {
            let Some(file) = self.open(jail, path, directory, &name, OFlags::empty(), mode)? else { continue };
            let size = super::jail::length(&sys::fstat(&file)?);
            let mut offset = self.progress(&file).unwrap_or(0).min(size);
            if offset > length {
                offset = 0;
            }
            retry_on_intr(|| sys::ftruncate(&file, offset))?;
            self.set_progress(&file, offset)?;
            // It is in use, whatever becomes of it.
            sys::futimens(&file, &now())?;
            return Ok(Part { file, name, offset });
        }
        Err(Errno::AGAIN)
    }

    /// Opens and locks a part; `None` where it was swept in between.
    fn open(
        &self,
        jail: &Jail,
        path: &str,
        directory: &OwnedFd,
        name: &str,
        exclusive: OFlags,
        mode: Mode,
    ) -> Result<Option<OwnedFd>> {
        let (noted, _) = super::jail::split(path);
        self.note(jail, noted);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | exclusive;
        let file = retry_on_intr(|| sys::openat(directory, name, flags, mode))?;
        sys::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // A sweep that found nothing here may have taken the note back meanwhile.
        self.note(jail, noted);
        let same = match sys::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => identity(&stat) == identity(&sys::fstat(&file)?),
            Err(Errno::NOENT) => false,
            Err(errno) => return Err(errno),
        };
        Ok(same.then_some(file))
    }

    /// How many bytes of a part can be relied on: as long as the kernel that
    /// took them runs, all; after that, those that were durable.
    fn progress(&self, file: &OwnedFd) -> Option<u64> {
        let mut value = [0; 128];
        let n = sys::fgetxattr(file, PROGRESS, &mut value[..]).ok()?;
        let (boot, durable) = std::str::from_utf8(&value[..n]).ok()?.split_once(' ')?;
        if boot == self.boot && !boot.is_empty() { Some(u64::MAX) } else { durable.parse().ok() }
    }

    /// Notes that `durable` bytes of a part are on the disk. A file system
    /// without extended attributes keeps no notes, so that every upload there
    /// begins anew.
    pub(super) fn set_progress(&self, file: &OwnedFd, durable: u64) -> Result<()> {
        let value = format!("{} {durable}", self.boot);
        match sys::fsetxattr(file, PROGRESS, value.as_bytes(), XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => Ok(()),
            result => result,
        }
    }

    /// Takes the note off a part that becomes a file.
    pub(super) fn clear_progress(&self, file: &OwnedFd) -> Result<()> {
        match sys::fremovexattr(file, PROGRESS) {
            Err(Errno::OPNOTSUPP | Errno::NODATA) => Ok(()),
            result => result,
        }
    }

    fn noted(&self) -> MutexGuard<'_, HashSet<String>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a directory. Where that fails uploads go on: what a crash would
    /// leave there is merely not found.
    fn note(&self, jail: &Jail, directory: &str) {
        let mut noted = self.noted();
        if noted.contains(directory) {
            return;
        }
        match write_note(jail, directory) {
            Ok(()) => drop(noted.insert(directory.to_owned())),
            Err(errno) => log::warn!("cannot note that a directory has unfinished uploads: {errno}"),
        }
    }

    /// A directory, or one above it, was renamed.
    pub(super) fn moved(&self, jail: &Jail, from: &str, to: &str) {
        let below = format!("{from}/");
        let inside = |noted: &&String| noted.as_str() == from || noted.starts_with(&below);
        let moved: Vec<_> =
            self.noted().iter().filter(inside).map(|noted| format!("{to}{}", &noted[from.len()..])).collect();
        for directory in moved {
            self.note(jail, &directory);
        }
    }

    /// Removes what crashes left behind and parts whose time is up. Returns how many.
    pub(super) fn sweep(&self, jail: &Jail) -> Result<usize> {
        let notes = match jail.directory(NOTES, false) {
            Ok(notes) => notes,
            Err(Errno::NOENT) => return Ok(0),
            Err(errno) => return Err(errno),
        };
        let mut removed = 0;
        for entry in Dir::read_from(&notes)? {
            let entry = entry?;
            let Ok(target) = sys::readlinkat(&notes, entry.file_name(), Vec::new()) else { continue };
            let Some(path) = target.to_str().ok().and_then(|target| target.strip_prefix("../")) else { continue };
            let path = if path == "." { "" } else { path };
            removed += self.sweep_noted(jail, path, &notes, entry.file_name());
        }
        Ok(removed)
    }

    fn sweep_noted(&self, jail: &Jail, path: &str, notes: &OwnedFd, note: &std::ffi::CStr) -> usize {
        let directory = match jail.directory(path, true) {
            Ok(directory) => Some(directory),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => None,
            Err(_) => return 0,
        };
        let sweep = |lifetime| match &directory {
            Some(directory) => self.sweep_directory(directory, lifetime).unwrap_or(Swept { removed: 0, left: 1 }),
            None => Swept { removed: 0, left: 0 },
        };
        let mut swept = sweep(self.lifetime);
        if swept.left == 0 {
            {
                let mut noted = self.noted();
                noted.remove(path);
                // Somebody else's sweep may have been faster.
                let _ = sys::unlinkat(notes, note, AtFlags::empty());
            }
            // One that began after the first look relied on the note.
            let again = sweep(self.lifetime);
            swept.removed += again.removed;
            if again.left > 0 {
                self.note(jail, path);
            }
        }
        swept.removed
    }

    /// Removes from a directory temporary files that belong to nobody and
    /// parts that were not used for `lifetime`.
    fn sweep_directory(&self, directory: &OwnedFd, lifetime: Duration) -> Result<Swept> {
        let mut swept = Swept { removed: 0, left: 0 };
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let limit = match name.to_bytes() {
                name if name.starts_with(TEMPORARY.as_bytes()) => Duration::ZERO,
                name if name.starts_with(RESUMABLE.as_bytes()) => lifetime,
                _ => continue,
            };
            match remove_unused(directory, name, limit) {
                Ok(true) => swept.removed += 1,
                Ok(false) | Err(_) => swept.left += 1,
            }
        }
        Ok(swept)
    }

    /// Removes every part from a directory that holds nothing else and that
    /// somebody wants removed. Whether the directory is empty then.
    pub(super) fn clear(&self, directory: &OwnedFd) -> Result<Cleared> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && !name.starts_with(crate::proto::paths::RESERVED.as_bytes()) {
                return Ok(Cleared::HoldsFiles);
            }
        }
        let swept = self.sweep_directory(directory, Duration::ZERO)?;
        Ok(if swept.left == 0 { Cleared::Empty } else { Cleared::InUse })
    }
}

/// What [`Parts::clear`] found.
pub(super) enum Cleared {
    /// Nothing, or nothing any more.
    Empty,
    /// Entries that are no parts.
    HoldsFiles,
    /// Uploads that are under way.
    InUse,
}

struct Swept {
    removed: usize,
    left: usize,
}

fn write_note(jail: &Jail, directory: &str) -> Result<()> {
    match sys::mkdirat(jail.root(), NOTES, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let notes = jail.directory(NOTES, false)?;
    let name = blake3::hash(directory.as_bytes()).to_hex();
    let target = if directory.is_empty() { "../.".to_owned() } else { format!("../{directory}") };
    match sys::symlinkat(target, &notes, &name[..32]) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn remove_unused(directory: &OwnedFd, name: &std::ffi::CStr, limit: Duration) -> Result<bool> {
    let stat = sys::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let used = UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    // A part from the future is as good as one of this moment.
    if SystemTime::now().duration_since(used).unwrap_or_default() < limit {
        return Ok(false);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = sys::openat(directory, name, flags, Mode::empty())?;
    match sys::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::AGAIN) => return Ok(false),
        Err(errno) => return Err(errno),
    }
    // Between the look and the lock it may have been published.
    match sys::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(now) if identity(&now) == identity(&sys::fstat(file.as_fd())?) => {}
        _ => return Ok(false),
    }
    sys::unlinkat(directory, name, AtFlags::empty())?;
    Ok(true)
}

fn now() -> sys::Timestamps {
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: sys::UTIME_NOW };
    sys::Timestamps { last_access: now, last_modification: now }
}
