//! Directories in pages: the names are read and sorted once and kept for the
//! next page, as long as the directory does not change.

use super::jail::{Jail, identity, mtime};
use super::refusal::{because, on, refuse};
use super::tree::{check_link, status};
use crate::proto::paths::RESERVED;
use crate::wire::MAX_BODY;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::files::Entry;
use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{self as sys, AtFlags, Dir, Stat};
use rustix::io::Errno;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The most bytes of names that are kept of one directory. Of a larger one
/// only what a page needs is kept, so that each page reads it anew.
const MAX_NAMES: usize = 16 << 20;

/// The most directories whose names are kept.
const MAX_KEPT: usize = 4;

/// Names that nobody asked for in this time are forgotten.
pub(super) const KEPT: Duration = Duration::from_secs(30);

/// A change this soon after the names were read may leave the directory's
/// modification time as it was: the kernel's clock for files ticks in steps of
/// up to 10 ms, and file systems without nanoseconds in steps of up to 2 s.
const CLOCK_STEP: Duration = Duration::from_millis(50);
const CLOCK_STEP_COARSE: Duration = Duration::from_secs(3);

/// A directory as it was at one moment.
type Version = ((u64, u64), (i64, i64));

/// A page of a directory.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) entries: Bytes,
    pub(super) more: bool,
    pub(super) skipped: u64,
}

/// Names in the order of their bytes.
#[derive(Debug, Default)]
struct Names {
    text: String,
    /// Where each begins and ends in `text`.
    spans: Vec<(u32, u32)>,
    /// Names that are not UTF-8.
    skipped: u64,
    /// Whether there were more than these.
    cut: bool,
}

#[derive(Debug)]
struct Kept {
    version: Version,
    names: Arc<Names>,
    used: Instant,
}

/// The names of directories that were listed lately.
#[derive(Debug, Default)]
pub(super) struct Listings(Mutex<Vec<Kept>>);

impl Listings {
    /// The entries of the directory at `path` behind the name `after`: at most
    /// `limit`, and at most as many as fit into a body.
    pub(super) fn page(&self, jail: &Jail, path: &str, after: Option<&str>, limit: usize) -> Result<Page, Refusal> {
        let directory = jail.directory(path, false).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => match check_link(jail, path) {
                Ok(()) => because(ErrorCode::NotDirectory, path, "no directory (a link is not followed here)"),
                Err(refusal) => refusal,
            },
            errno => refuse(path, errno),
        })?;
        let names = self.names(&directory, after, limit).map_err(on(path))?;
        names.page(&directory, after, limit).map_err(on(path))
    }

    fn names(&self, directory: &OwnedFd, after: Option<&str>, limit: usize) -> rustix::io::Result<Arc<Names>> {
        let before = sys::fstat(directory)?;
        let version = version(&before);
        {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(kept) = kept.iter_mut().find(|kept| kept.version == version) {
                kept.used = Instant::now();
                return Ok(kept.names.clone());
            }
        }
        let settled = is_settled(&before);
        let names = Arc::new(Names::read(directory, after, limit, MAX_NAMES)?);
        // Small directories are read again sooner than their names are found.
        if settled && !names.cut && names.spans.len() > limit {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|kept| kept.version.0 != version.0);
            if kept.len() == MAX_KEPT
                && let Some(oldest) = (0..MAX_KEPT).min_by_key(|at| kept[*at].used)
            {
                kept.swap_remove(oldest);
            }
            kept.push(Kept { version, names: names.clone(), used: Instant::now() });
        }
        Ok(names)
    }

    /// Forgets what was not asked for lately; says whether anything is kept.
    pub(super) fn expire(&self) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.used.elapsed() < KEPT);
        !kept.is_empty()
    }
}

impl Names {
    /// Reads a directory. Where its names take more than `cap` bytes: only the
    /// first `limit` behind `after`, and a few more.
    fn read(directory: &OwnedFd, after: Option<&str>, limit: usize, cap: usize) -> rustix::io::Result<Names> {
        let mut names = Names::default();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) if name.starts_with(RESERVED) => {}
                Ok(name) => {
                    if names.cut && after.is_some_and(|after| name <= after) {
                        continue;
                    }
                    if names.text.len() + name.len() > cap {
                        names.cut_down(after, limit);
                    }
                    let begin = names.text.len() as u32;
                    names.text.push_str(name);
                    names.spans.push((begin, names.text.len() as u32));
                }
                Err(_) => names.skipped += 1,
            }
        }
        names.sort();
        Ok(names)
    }

    fn sort(&mut self) {
        let text = &self.text;
        self.spans.sort_unstable_by(|a, b| slice(text, *a).cmp(slice(text, *b)));
    }

    /// Keeps what one page needs.
    fn cut_down(&mut self, after: Option<&str>, limit: usize) {
        self.cut = true;
        self.sort();
        let first = self.behind(after);
        let mut text = String::new();
        let mut spans = Vec::new();
        // One more, which tells that the page is not the last.
        for span in self.spans[first..].iter().take(limit + 1) {
            let begin = text.len() as u32;
            text.push_str(slice(&self.text, *span));
            spans.push((begin, text.len() as u32));
        }
        (self.text, self.spans) = (text, spans);
    }

    /// The first name behind `after`.
    fn behind(&self, after: Option<&str>) -> usize {
        after.map_or(0, |after| self.spans.partition_point(|span| slice(&self.text, *span) <= after))
    }

    fn page(&self, directory: &OwnedFd, after: Option<&str>, limit: usize) -> rustix::io::Result<Page> {
        let first = self.behind(after);
        let mut json = vec![b'['];
        let mut entries = 0;
        let mut more = false;
        for span in &self.spans[first..] {
            let name = slice(&self.text, *span);
            if entries == limit {
                more = true;
                break;
            }
            let stat = match sys::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            let whole = json.len();
            if entries > 0 {
                json.push(b',');
            }
            let entry = Entry { name: name.into(), status: status(&stat) };
            serde_json::to_writer(&mut json, &entry).map_err(|_| Errno::IO)?;
            if json.len() + 1 > MAX_BODY {
                json.truncate(whole);
                more = true;
                break;
            }
            entries += 1;
        }
        json.push(b']');
        Ok(Page { entries: json.into(), more, skipped: self.skipped })
    }
}

fn slice(text: &str, (begin, end): (u32, u32)) -> &str {
    &text[begin as usize..end as usize]
}

fn version(stat: &Stat) -> Version {
    (identity(stat), mtime(stat))
}

/// Whether a change from now on would show in the modification time.
fn is_settled(stat: &Stat) -> bool {
    let (seconds, nanoseconds) = mtime(stat);
    let changed =
        UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
    let step = if nanoseconds == 0 { CLOCK_STEP_COARSE } else { CLOCK_STEP };
    SystemTime::now().duration_since(changed).is_ok_and(|age| age > step)
}
