//! The root as a jail: one directory descriptor below which everything is
//! opened with `openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)`, so that the
//! kernel itself refuses whatever leads outside, however directories and links
//! are swapped meanwhile (openat2(2)).
//!
//! A name in its directory is never resolved further: callers act on it with
//! `*at` calls that follow no link.

use rustix::fd::OwnedFd;
use rustix::fs::{self as sys, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, Result};
use std::io;
use std::path::Path;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// How often an open is tried again where a concurrent rename kept the kernel
/// from being sure that a path stays inside (EAGAIN in openat2(2)).
const ATTEMPTS: usize = 100;

/// The served directory.
#[derive(Debug)]
pub(super) struct Jail {
    root: OwnedFd,
}

impl Jail {
    /// Opens the root and makes it where it is missing.
    pub(super) fn open(root: &Path) -> io::Result<Jail> {
        let wrong = |error: io::Error| {
            let shown = root.display();
            match Errno::from_io_error(&error) {
                Some(Errno::NOTDIR | Errno::EXIST) => {
                    io::Error::new(error.kind(), format!("the root {shown} is no directory: name a directory"))
                }
                _ => io::Error::new(error.kind(), format!("cannot open the root {shown}: {error}")),
            }
        };
        std::fs::create_dir_all(root).map_err(wrong)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = sys::open(root, flags, Mode::empty()).map_err(|errno| wrong(errno.into()))?;
        let jail = Jail { root };
        match jail.path(".") {
            Ok(_) => Ok(jail),
            Err(Errno::NOSYS | Errno::PERM) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel offers no openat2, without which the root cannot be fenced in: Linux 5.6 or newer is needed",
            )),
            Err(errno) => Err(wrong(errno.into())),
        }
    }

    fn openat2(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        for _ in 0..ATTEMPTS {
            match sys::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), BENEATH) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Whatever stands there, links followed, without opening it.
    pub(super) fn path(&self, path: &str) -> Result<OwnedFd> {
        self.openat2(path, OFlags::PATH)
    }

    /// A directory; its last component is followed where `follow` says so.
    pub(super) fn directory(&self, path: &str, follow: bool) -> Result<OwnedFd> {
        let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        self.openat2(path, OFlags::RDONLY | OFlags::DIRECTORY | nofollow)
    }

    /// The directory in which a path's last component stands, and that component.
    pub(super) fn parent<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str)> {
        let (directory, name) = split(path);
        Ok((self.directory(directory, true)?, name))
    }

    /// A regular file, links followed, for reading. `EISDIR` for a directory,
    /// `ENXIO` for anything else.
    pub(super) fn file(&self, path: &str) -> Result<(OwnedFd, Stat)> {
        // Looked at before it is opened, because to open a device or a FIFO may
        // have consequences; and after, because it may have been swapped.
        regular(&sys::fstat(self.path(path)?)?)?;
        let file = self.openat2(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = sys::fstat(&file)?;
        regular(&stat)?;
        Ok((file, stat))
    }

    /// The root itself.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }
}

/// A path's directory and last component.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn regular(stat: &Stat) -> Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::NXIO),
    }
}

/// What identifies a file or directory as long as it exists.
pub(super) fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Seconds and nanoseconds since the Unix epoch at which the content changed.
pub(super) fn mtime(stat: &Stat) -> (i64, i64) {
    // The widths and signs of the nanoseconds differ between architectures; all hold 10^9.
    (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// [`mtime`] in milliseconds, rounded down.
pub(super) fn mtime_ms(stat: &Stat) -> i64 {
    let (seconds, nanoseconds) = mtime(stat);
    seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)
}

/// A file's length, in bytes.
pub(super) fn length(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn what_leads_outside_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let root = tempfile::tempdir().unwrap();
        let jail = Jail::open(root.path()).unwrap();
        symlink(outside.path(), root.path().join("away")).unwrap();
        symlink("../", root.path().join("up")).unwrap();
        symlink(root.path(), root.path().join("absolute")).unwrap();
        symlink("/proc/self/root", root.path().join("magic")).unwrap();
        symlink("loop", root.path().join("loop")).unwrap();
        for path in ["away", "away/secret", "up", "up/x", "absolute", "magic", "loop", "../x", "/etc/passwd"] {
            let errno = jail.path(path).unwrap_err();
            assert!(matches!(errno, Errno::XDEV | Errno::LOOP), "{path}: {errno}");
            assert!(jail.parent(&format!("{path}/f")).is_err(), "{path}");
        }
    }

    #[test]
    fn links_that_stay_inside_are_followed() {
        let root = tempfile::tempdir().unwrap();
        let jail = Jail::open(root.path()).unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("file"), "content").unwrap();
        symlink("../../file", root.path().join("a/b/link")).unwrap();
        assert_eq!(jail.file("a/b/link").unwrap().1.st_size, 7);
    }

    #[test]
    fn only_regular_files_are_opened() {
        let root = tempfile::tempdir().unwrap();
        let jail = Jail::open(root.path()).unwrap();
        sys::mkfifoat(jail.root(), "fifo", Mode::RUSR | Mode::WUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
        assert_eq!(jail.file("fifo").unwrap_err(), Errno::NXIO);
        assert_eq!(jail.file("socket").unwrap_err(), Errno::NXIO);
        assert_eq!(jail.file("").unwrap_err(), Errno::ISDIR);
    }

    #[test]
    fn a_root_that_is_a_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Jail::open(file.path()).unwrap_err().to_string();
        assert!(error.contains("is no directory"), "{error}");
        assert!(Jail::open(&file.path().join("below")).is_err());
    }

    #[test]
    fn a_directory_that_is_swapped_with_a_link_never_opens_a_way_out() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("f"), "outside").unwrap();
        let root = tempfile::tempdir().unwrap();
        let jail = Jail::open(root.path()).unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        std::fs::write(root.path().join("d/f"), "in").unwrap();
        symlink(outside.path(), root.path().join("l")).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let exchange = sys::RenameFlags::EXCHANGE;
                    sys::renameat_with(jail.root(), "d", jail.root(), "l", exchange).unwrap();
                }
                over.store(true, Ordering::Relaxed);
            });
            let mut opened = 0;
            while !over.load(Ordering::Relaxed) || opened == 0 {
                if let Ok((_, stat)) = jail.file("d/f") {
                    assert_eq!(stat.st_size, 2);
                    opened += 1;
                }
                if let Ok((directory, _)) = jail.parent("d/f") {
                    let stat = sys::statat(&directory, "f", sys::AtFlags::SYMLINK_NOFOLLOW).unwrap();
                    assert_eq!(stat.st_size, 2);
                }
            }
        });
    }
}
