//! Local directories and the temporary files of downloads.
//!
//! A directory is held open and everything in it is named relative to that
//! descriptor. What the user typed may go through symbolic links; what a
//! server named never does.

use crate::client::error::{ClientError, Result};
use crate::client::text;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{File, FileTimes, Permissions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// What all temporary names here begin with: they are hidden.
pub const PART_PREFIX: &str = ".reactorctl-";

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// An open directory.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    shown: PathBuf,
}

impl Folder {
    /// Opens the directory at a path that the user typed.
    pub fn open(path: &Path) -> Result<Arc<Folder>> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let fd = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
            .map_err(|e| ClientError::local(format_args!("cannot open the directory {}", path.display()), e))?;
        Ok(Arc::new(Folder { fd, shown: path.to_owned() }))
    }

    /// `name` in here, for messages.
    pub fn shown(&self, name: impl AsRef<Path>) -> String {
        let path = if self.shown == Path::new(".") { name.as_ref().to_owned() } else { self.shown.join(name) };
        text::visible(&path.to_string_lossy()).into_owned()
    }

    fn failed(&self, what: &str, name: impl AsRef<Path>, error: Errno) -> ClientError {
        let shown = self.shown(name);
        match error {
            Errno::LOOP | Errno::NOTDIR => {
                ClientError::Local(format!("cannot {what} {shown}: a symbolic link or a file is in the way"))
            }
            _ => ClientError::local(format_args!("cannot {what} {shown}"), error),
        }
    }

    /// The directory `relative` below this one, whose components were checked;
    /// no symbolic link is followed on the way.
    pub fn descend(self: &Arc<Self>, relative: &str) -> Result<Arc<Folder>> {
        let mut folder = self.clone();
        for name in relative.split('/').filter(|name| !name.is_empty()) {
            folder = folder.enter(OsStr::new(name))?;
        }
        Ok(folder)
    }

    /// The directory `name` in here, which is no symbolic link.
    pub fn enter(&self, name: &OsStr) -> Result<Arc<Folder>> {
        let fd = rustix::fs::openat(&self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|e| self.failed("enter", name, e))?;
        Ok(Arc::new(Folder { fd, shown: self.shown.join(name) }))
    }

    /// Makes the directory `name` in here. False where a directory is there.
    pub fn make(&self, name: &OsStr) -> Result<bool> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(false),
                _ => Err(self.failed("make the directory", name, Errno::NOTDIR)),
            },
            Err(e) => Err(self.failed("make the directory", name, e)),
        }
    }

    /// Whether anything is called `name` in here.
    pub fn has(&self, name: &OsStr) -> bool {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Gives this directory its final mode and time; call it when nothing is
    /// written in it any more.
    pub fn settle(&self, mode: u32, mtime_ms: i64) -> Result<()> {
        let failed = |e| ClientError::local(format_args!("cannot set mode and time of {}", self.shown("")), e);
        let file = File::from(self.fd.try_clone().map_err(failed)?);
        settle(&file, mode, mtime_ms).map_err(failed)
    }

    /// A new temporary file in here, under a name nobody can guess.
    pub fn part(self: &Arc<Self>) -> Result<Part> {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())
            .map_err(|e| ClientError::local("cannot get random bytes", e))?;
        let name = format!("{PART_PREFIX}{}.part", hex::encode(random));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.fd, &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| self.failed("write", &name, e))?;
        Ok(Part { folder: self.clone(), name, file: File::from(fd), keep: false })
    }

    /// The temporary file called after `digest`, with what an earlier download
    /// left in it; kept when dropped. A file of somebody else's is refused.
    pub fn kept_part(self: &Arc<Self>, digest: &str) -> Result<(Part, u64)> {
        let name = format!("{PART_PREFIX}{digest}.part");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&self.fd, &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| self.failed("write", &name, e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| self.failed("write", &name, e))?;
        let ours =
            stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_nlink == 1 && stat.st_mode & 0o077 == 0;
        if !ours || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let shown = self.shown(&name);
            return Err(ClientError::Local(format!("{shown} is no part of ours: remove it, or do without --resume")));
        }
        let file = File::from(fd);
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        Ok((Part { folder: self.clone(), name, file, keep: true }, length))
    }
}

/// A download under its temporary name. Unless it is published or kept, the
/// file goes when this is dropped.
#[derive(Debug)]
pub struct Part {
    folder: Arc<Folder>,
    name: String,
    file: File,
    keep: bool,
}

impl Part {
    /// The open file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// The file is worth nothing: it goes, also where it would have been kept.
    pub fn spoil(&mut self) {
        self.keep = false;
    }

    /// Begins to write at `offset` and drops what stands behind it; what stands
    /// before it goes into `hasher`.
    pub fn resume_at(&mut self, offset: u64, hasher: Option<&mut blake3::Hasher>) -> Result<()> {
        let failed = |e| ClientError::local("cannot read what an earlier download left", e);
        self.file.set_len(offset).map_err(failed)?;
        if let Some(hasher) = hasher {
            self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
            hasher.update_reader((&self.file).take(offset)).map_err(failed)?;
        }
        self.file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        Ok(())
    }

    /// Gives the file its name, mode and time, in one step for whoever looks.
    ///
    /// # Errors
    /// `Local` where `name` is there and is not to be replaced.
    pub fn publish(mut self, name: &OsStr, replace: bool, mode: u32, mtime_ms: i64) -> Result<()> {
        let folder = self.folder.clone();
        settle(&self.file, mode, mtime_ms)
            .map_err(|e| ClientError::local(format_args!("cannot set mode and time of {}", folder.shown(name)), e))?;
        let dir = &folder.fd;
        let renamed = match replace {
            true => rustix::fs::renameat(dir, &self.name, dir, name),
            false => match rustix::fs::renameat_with(dir, &self.name, dir, name, RenameFlags::NOREPLACE) {
                // Not every file system knows NOREPLACE; a second link is as tight: link(2).
                Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::linkat(dir, &self.name, dir, name, AtFlags::empty())
                    .and_then(|()| rustix::fs::unlinkat(dir, &self.name, AtFlags::empty())),
                renamed => renamed,
            },
        };
        match renamed {
            Ok(()) => {
                // The temporary name is gone: nothing is left to remove.
                self.keep = true;
                Ok(())
            }
            Err(Errno::EXIST) => Err(exists(&folder.shown(name))),
            Err(e) => Err(folder.failed("write", name, e)),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.keep
            && let Err(e) = rustix::fs::unlinkat(&self.folder.fd, &self.name, AtFlags::empty())
        {
            log::debug!("cannot remove {}: {e}", self.folder.shown(&self.name));
        }
    }
}

/// The refusal to replace a local file.
pub fn exists(shown: &str) -> ClientError {
    ClientError::Local(format!("{shown} exists here already; --replace replaces it"))
}

fn settle(file: &File, mode: u32, mtime_ms: i64) -> std::io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode & 0o777 & !umask()))?;
    file.set_times(FileTimes::new().set_modified(time(mtime_ms)))
}

/// Milliseconds since the Unix epoch as a time; out of range is the epoch.
fn time(ms: i64) -> SystemTime {
    let away = Duration::from_millis(ms.unsigned_abs());
    let time = if ms < 0 { SystemTime::UNIX_EPOCH.checked_sub(away) } else { SystemTime::UNIX_EPOCH.checked_add(away) };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// This process's umask, read where Linux shows it (proc_pid_status(5)),
/// because umask(2) can only read it by setting it, for all threads.
fn umask() -> u32 {
    static UMASK: OnceLock<u32> = OnceLock::new();
    *UMASK.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0o022)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_part_is_private_and_goes_unless_it_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let part = folder.part().unwrap();
        assert_eq!(part.file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()).len(), 1);
        drop(part);
        assert_eq!(names(dir.path()), [""; 0]);

        let mut part = folder.part().unwrap();
        part.file().write_all(b"x").unwrap();
        part.publish(OsStr::new("a"), false, 0o777, 1_000).unwrap();
        assert_eq!(names(dir.path()), ["a"]);
        let modified = std::fs::metadata(dir.path().join("a")).unwrap().modified().unwrap();
        assert_eq!(modified, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    }

    #[test]
    fn nothing_is_replaced_unasked() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "old").unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let refused = folder.part().unwrap().publish(OsStr::new("a"), false, 0o644, 0);
        assert!(refused.unwrap_err().to_string().contains("--replace"));
        assert_eq!(
            (names(dir.path()), std::fs::read(dir.path().join("a")).unwrap()),
            (vec!["a".into()], b"old".into())
        );
        folder.part().unwrap().publish(OsStr::new("a"), true, 0o644, 0).unwrap();
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"");
    }

    #[test]
    fn a_symbolic_link_in_the_way_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert!(folder.descend("link").unwrap_err().to_string().contains("in the way"));
        assert!(folder.make(OsStr::new("link")).is_err());
        assert_eq!((folder.make(OsStr::new("d")), folder.make(OsStr::new("d"))), (Ok(true), Ok(false)));
    }

    #[test]
    fn a_kept_part_goes_on_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let (mut part, length) = folder.kept_part("d1").unwrap();
        assert_eq!(length, 0);
        part.file().write_all(b"abcdef").unwrap();
        drop(part);
        let (mut part, length) = folder.kept_part("d1").unwrap();
        assert_eq!(length, 6);
        let mut hasher = blake3::Hasher::new();
        part.resume_at(3, Some(&mut hasher)).unwrap();
        assert_eq!(hasher.finalize(), blake3::hash(b"abc"));
        part.file().write_all(b"xyz").unwrap();
        part.publish(OsStr::new("a"), false, 0o600, 0).unwrap();
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"abcxyz");
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn a_part_that_others_may_have_made_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("{PART_PREFIX}d1.part"));
        std::fs::write(&path, "planted").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert!(folder.kept_part("d1").is_err());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(folder.kept_part("d1").is_err());
    }

    #[test]
    fn odd_times_are_no_panic() {
        assert_eq!(time(i64::MIN), SystemTime::UNIX_EPOCH - Duration::from_millis(1 << 63));
        assert_eq!(time(-1_000), SystemTime::UNIX_EPOCH - Duration::from_secs(1));
    }
}
