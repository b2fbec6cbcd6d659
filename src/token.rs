//! The token: the one secret that lets a client in.
//!
//! 256 bits from the system, as 64 hexadecimal digits and a newline, in a file
//! that only its owner may read. It is made at the first start and never
//! printed, logged or taken from a command line.

use rustix::fs::{Mode, OFlags};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes of the secret.
const SECRET_BYTES: usize = 32;

/// Characters of the secret as it is written.
const SECRET_DIGITS: usize = 2 * SECRET_BYTES;

/// Why there is no token.
#[derive(Debug)]
#[non_exhaustive]
pub enum TokenError {
    /// The file could not be made, opened or read.
    Io(PathBuf, io::Error),
    /// Others than its owner may read or write the file; its permission bits.
    TooOpen(PathBuf, u32),
    /// The file belongs to another user.
    NotOurs(PathBuf),
    /// The file does not hold 64 hexadecimal digits.
    Malformed(PathBuf),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, e) => write!(f, "token file {}: {e}", path.display()),
            Self::TooOpen(path, mode) => write!(
                f,
                "token file {}: others may read it (mode {mode:03o}): run `chmod 600` on it, or remove it for a new one",
                path.display()
            ),
            Self::NotOurs(path) => {
                write!(f, "token file {}: it belongs to another user: remove it or use another one", path.display())
            }
            Self::Malformed(path) => write!(
                f,
                "token file {}: expected {SECRET_DIGITS} hexadecimal digits: remove it for a new one",
                path.display()
            ),
        }
    }
}

impl std::error::Error for TokenError {}

/// Reads the token, or makes it where there is none.
pub fn load_or_create(path: &Path) -> Result<String, TokenError> {
    match create(path) {
        Ok(token) => Ok(token),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => load(path),
        Err(e) => Err(TokenError::Io(path.to_owned(), e)),
    }
}

/// Reads the token.
pub fn load(path: &Path) -> Result<String, TokenError> {
    let failed = |e: io::Error| TokenError::Io(path.to_owned(), e);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?);
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(TokenError::Malformed(path.to_owned()));
    }
    let uid = rustix::process::geteuid().as_raw();
    if metadata.uid() != uid && metadata.uid() != 0 {
        return Err(TokenError::NotOurs(path.to_owned()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(TokenError::TooOpen(path.to_owned(), metadata.mode() & 0o777));
    }
    let mut text = String::new();
    file.take(SECRET_DIGITS as u64 + 2).read_to_string(&mut text).map_err(failed)?;
    let token = text.strip_suffix('\n').unwrap_or(&text);
    if token.len() != SECRET_DIGITS || !token.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(TokenError::Malformed(path.to_owned()));
    }
    Ok(token.to_owned())
}

/// Makes the file whole and durable beside its place, then links it there:
/// two servers that start at once agree, and a crash leaves none or all.
fn create(path: &Path) -> io::Result<String> {
    if path.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut secret = [0; SECRET_BYTES];
    let mut filled = 0;
    while filled < SECRET_BYTES {
        filled += rustix::rand::getrandom(&mut secret[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    let token = hex::encode(secret);
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let result = (|| {
        let mut file = File::from(rustix::fs::open(&temporary, flags, Mode::RUSR | Mode::WUSR)?);
        writeln!(file, "{token}")?;
        file.sync_all()?;
        rustix::fs::link(&temporary, path)?;
        Ok(())
    })();
    match std::fs::remove_file(&temporary) {
        Err(e) if result.is_ok() => log::warn!("{}: {e}", temporary.display()),
        _ => {}
    }
    result.map(|()| token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_start_makes_a_token_that_later_ones_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = load_or_create(&path).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{token}\n"));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(load_or_create(&path).unwrap(), token);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(load_or_create(&other.path().join("token")).unwrap(), token);
    }

    #[test]
    fn a_token_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        load_or_create(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(load_or_create(&path), Err(TokenError::TooOpen(_, 0o640))));
    }

    #[test]
    fn a_token_file_with_something_else_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for text in ["", "abc\n", &"g".repeat(64), &"a".repeat(65), &"a".repeat(10_000)] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            assert!(matches!(load_or_create(&path), Err(TokenError::Malformed(_))), "{text:.20}");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(load_or_create(&path).is_err());
    }
}
