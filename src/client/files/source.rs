//! What an upload reads: a local file, or standard input gathered in one.

use crate::client::error::{ClientError, Result};
use crate::client::files::local::PART_PREFIX;
use crate::client::files::plan::mode_and_time;
use crate::client::{stdio, text};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// A local file that is being read.
pub(super) struct Source {
    file: File,
    pub(super) shown: String,
    /// What names it in a resume key.
    pub(super) identity: String,
    pub(super) length: u64,
    /// Mode and time, where it has any of its own.
    pub(super) stamp: Option<(u32, i64)>,
}

impl Source {
    /// `None` is standard input. The protocol wants the length first, so that
    /// is gathered into a file without a name, which vanishes by itself.
    pub(super) fn open(local: Option<&Path>) -> Result<Source> {
        let Some(path) = local else { return Source::spool() };
        let shown = text::visible(&path.to_string_lossy()).into_owned();
        let failed = |e: io::Error| ClientError::local(format_args!("cannot read {shown}"), e);
        // A FIFO in a file's place must not make us wait for its writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let file = File::from(fd);
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(ClientError::Local(format!("{shown} is no regular file")));
        }
        let identity = std::path::absolute(path).map_err(failed)?.to_string_lossy().into_owned();
        Ok(Source { file, shown, identity, length: metadata.len(), stamp: Some(mode_and_time(&metadata)) })
    }

    fn spool() -> Result<Source> {
        let failed = |e: io::Error| ClientError::local("cannot keep standard input in a temporary file", e);
        let mut file = unnamed(&std::env::temp_dir()).map_err(failed)?;
        let length = io::copy(&mut stdio::stdin(), &mut file).map_err(failed)?;
        file.rewind().map_err(failed)?;
        Ok(Source { file, shown: "standard input".to_owned(), identity: "-".to_owned(), length, stamp: None })
    }

    pub(super) fn hash(&mut self) -> Result<String> {
        let failed = |e: io::Error| ClientError::local(format_args!("cannot read {}", self.shown), e);
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&mut self.file).map_err(failed)?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Goes on reading at `offset`.
    pub(super) fn seek(&mut self, offset: u64) -> Result<()> {
        let failed = |e: io::Error| ClientError::local(format_args!("cannot read {}", self.shown), e);
        self.file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        Ok(())
    }

    /// Fills `buffer` from here; that the file ended before its length is an
    /// error.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.file.read_exact(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ClientError::Local(format!("{} shrank while it was sent", self.shown)),
            _ => ClientError::local(format_args!("cannot read {}", self.shown), e),
        })
    }
}

/// A file in `dir` that has no name, so that it goes whatever happens.
fn unnamed(dir: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(File::from(fd)),
        // open(2) on O_TMPFILE: not every file system has it.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::NOENT) => {
            let name = dir.join(format!("{}{}", PART_PREFIX, std::process::id()));
            let file = File::options().read(true).write(true).create_new(true).open(&name)?;
            std::fs::remove_file(&name)?;
            Ok(file)
        }
        Err(e) => Err(e.into()),
    }
}
