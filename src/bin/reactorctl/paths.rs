//! Files that stay where they are: ls, stat, rm, mkdir, mv, hash.

use crate::output::{Output, complain};
use reactord::client::error::EXIT_REFUSED;
use reactord::client::files::names;
use reactord::client::files::remote::{self, Entry, Kind, Stat};
use reactord::client::frame::Nothing;
use reactord::client::{ClientError, Connection, Result, text};
use reactord::wire::ErrorCode;
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct Path<'a> {
    path: &'a str,
}

pub(crate) fn ls(connection: &mut Connection, out: &mut Output, typed: &str, long: bool) -> Result<()> {
    let path = names::remote(typed);
    let skipped = match remote::list(connection, path, |entry| show(out, &entry, long)) {
        // A file is listed as itself.
        Err(error) if error.is_refusal(ErrorCode::NotDirectory) => {
            let stat = remote::stat(connection, path)?;
            return show(out, &Entry { name: path.to_owned(), stat }, long);
        }
        skipped => skipped?,
    };
    if skipped > 0 && !out.quiet {
        out.finish()?;
        complain(format_args!("{skipped} names are not UTF-8 and are not shown"));
    }
    Ok(())
}

fn show(out: &mut Output, entry: &Entry, long: bool) -> Result<()> {
    if out.json {
        return out.object(entry);
    }
    let Entry { name, stat } = entry;
    let slash = if stat.kind == Kind::Dir { "/" } else { "" };
    if !long {
        return out.line(format_args!("{name}{slash}"));
    }
    let (mode, time) = (mode(stat), text::utc(stat.mtime_ms));
    out.line(format_args!("{mode} {:>13} {time} {name}{slash}", stat.length))
}

/// As ls(1) writes kind and permissions.
fn mode(stat: &Stat) -> String {
    let kind = match stat.kind {
        Kind::File => '-',
        Kind::Dir => 'd',
        Kind::Link => 'l',
        Kind::Other => '?',
    };
    let bits = (0..9).map(|i| if stat.mode >> (8 - i) & 1 == 1 { b"rwx"[i % 3] as char } else { '-' });
    std::iter::once(kind).chain(bits).collect()
}

/// Does `f` for each path. A refusal is reported and the others go on.
fn each(paths: &[String], mut f: impl FnMut(&str) -> Result<()>) -> Result<u8> {
    let mut status = 0;
    for typed in paths {
        match f(names::remote(typed)) {
            Err(error @ ClientError::Refused { .. }) => {
                complain(error);
                status = EXIT_REFUSED;
            }
            done => done?,
        }
    }
    Ok(status)
}

fn quoted(verb: &str, path: &str) -> String {
    format!("{verb} \"{}\"", text::visible(path))
}

#[derive(Serialize)]
struct Described<'a> {
    path: &'a str,
    #[serde(flatten)]
    stat: Stat,
}

pub(crate) fn stat(connection: &mut Connection, out: &mut Output, paths: &[String]) -> Result<u8> {
    let status = each(paths, |path| {
        let stat = remote::stat(connection, path)?;
        if out.json {
            return out.object(&Described { path, stat });
        }
        let shown = if path.is_empty() { "/" } else { path };
        let kind = match stat.kind {
            Kind::File => "file",
            Kind::Dir => "directory",
            Kind::Link => "symbolic link",
            Kind::Other => "special file",
        };
        out.line(format_args!("{shown}: {kind}"))?;
        out.line(format_args!("  length   {}", stat.length))?;
        out.line(format_args!("  modified {}", text::utc(stat.mtime_ms)))?;
        out.line(format_args!("  mode     {:04o} ({})", stat.mode, mode(&stat)))
    })?;
    out.finish()?;
    Ok(status)
}

#[derive(Deserialize)]
struct Hashed {
    blake3: String,
    length: u64,
}

#[derive(Serialize)]
struct Sum<'a> {
    path: &'a str,
    blake3: String,
    length: u64,
}

pub(crate) fn hash(connection: &mut Connection, out: &mut Output, paths: &[String]) -> Result<u8> {
    let status = each(paths, |path| {
        let (hashed, _) = connection.call::<Hashed>(&quoted("hash", path), "hash", Path { path })?;
        let Hashed { blake3, length } = hashed;
        match out.json {
            true => out.object(&Sum { path, blake3, length }),
            false => out.line(format_args!("{blake3}  {path}")),
        }
    })?;
    out.finish()?;
    Ok(status)
}

pub(crate) fn rm(connection: &mut Connection, paths: &[String]) -> Result<u8> {
    each(paths, |path| connection.call::<Nothing>(&quoted("rm", path), "remove", Path { path }).map(|_| ()))
}

#[derive(Serialize)]
struct Mkdir<'a> {
    path: &'a str,
    parents: bool,
}

pub(crate) fn mkdir(connection: &mut Connection, paths: &[String], parents: bool) -> Result<u8> {
    each(paths, |path| {
        match connection.call::<Nothing>(&quoted("mkdir", path), "mkdir", Mkdir { path, parents }).map(|_| ()) {
            // With -p a directory that is there is what was wanted, as in mkdir(1).
            Err(error) if parents && error.is_refusal(ErrorCode::Exists) => {
                match remote::stat(connection, path)?.kind {
                    Kind::Dir => Ok(()),
                    _ => Err(error),
                }
            }
            made => made,
        }
    })
}

#[derive(Serialize)]
struct Rename<'a> {
    path: &'a str,
    to: &'a str,
    exists: &'static str,
}

pub(crate) fn mv(connection: &mut Connection, from: &str, to: &str, replace: bool) -> Result<u8> {
    let path = names::remote(from);
    let target = names::remote(to);
    let to = match (names::is_directory(to), path.rsplit('/').next()) {
        (true, Some(name)) => names::join(target, name),
        _ => target.to_owned(),
    };
    let exists = if replace { "replace" } else { "fail" };
    let what = format!("mv \"{}\" \"{}\"", text::visible(path), text::visible(&to));
    match connection.call::<Nothing>(&what, "rename", Rename { path, to: &to, exists }) {
        Err(error) if !replace && error.is_refusal(ErrorCode::Exists) => {
            complain(format_args!("{error}; --replace replaces it"));
            Ok(EXIT_REFUSED)
        }
        done => done.map(|_| 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_in_ls() {
        let stat = |kind, mode| Stat { kind, length: 0, mtime_ms: 0, mode };
        assert_eq!(mode(&stat(Kind::File, 0o640)), "-rw-r-----");
        assert_eq!(mode(&stat(Kind::Dir, 0o755)), "drwxr-xr-x");
    }
}
