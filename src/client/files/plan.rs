//! What the arguments of an upload mean: which files go where.

use crate::client::error::{ClientError, Result, reason};
use crate::client::files::names;
use crate::client::files::{MAX_DEPTH, MAX_ENTRIES};
use crate::client::progress::Report;
use crate::client::text;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The argument that means standard input or output.
pub const STDIO: &str = "-";

/// One step of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make this directory on the server.
    Mkdir(String),
    /// Send a file.
    Put {
        /// The file here; `None` is standard input.
        local: Option<PathBuf>,
        /// Its path there.
        remote: String,
        /// Bytes, as far as known; for the progress only.
        length: u64,
    },
}

/// The steps for `put LOCAL... [REMOTE]`, with their bytes in all.
///
/// `REMOTE` is a directory where it ends with `/` or is the root, or where
/// several files go there; otherwise it is the new path of the one file or
/// directory. Without it, files keep their names and go to the root.
pub fn put(locals: &[PathBuf], target: Option<&str>, recursive: bool, report: &mut Report) -> Result<Vec<Step>> {
    let into = locals.len() > 1 || target.is_none_or(names::is_directory);
    let base = names::remote(target.unwrap_or_default());
    let mut steps = Vec::new();
    for local in locals {
        let stdin = local.as_os_str() == STDIO;
        let remote = match into {
            false => base.to_owned(),
            true if stdin => {
                let text = "standard input has no name: say the path there, as in: reactorctl put - notes.txt";
                return Err(ClientError::Usage(text.to_owned()));
            }
            true => names::join(base, &own_name(local)?),
        };
        if stdin {
            steps.push(Step::Put { local: None, remote, length: 0 });
            continue;
        }
        // What the user typed may be a symbolic link.
        match std::fs::metadata(local) {
            Ok(metadata) if metadata.is_dir() && recursive => walk(local, &remote, &mut steps, report)?,
            Ok(metadata) if metadata.is_dir() => {
                let shown = local.display();
                report.failed(&ClientError::Local(format!("{shown} is a directory; -r takes directories")));
            }
            Ok(metadata) if metadata.is_file() => {
                steps.push(Step::Put { local: Some(local.clone()), remote, length: metadata.len() });
            }
            Ok(_) => {
                let shown = local.display();
                report.failed(&ClientError::Local(format!("{shown} is no regular file; - sends standard input")));
            }
            Err(e) => report.failed(&ClientError::Local(format!("cannot read {}: {}", local.display(), reason(&e)))),
        }
    }
    Ok(steps)
}

/// The last component of a local path; `.` and `..` have the name of what
/// they stand for.
fn own_name(local: &Path) -> Result<String> {
    let name = local.file_name().map(ToOwned::to_owned).or_else(|| {
        let whole = local.canonicalize().ok()?;
        whole.file_name().map(ToOwned::to_owned)
    });
    let shown = local.display();
    match name.map(|name| name.into_string()) {
        Some(Ok(name)) => Ok(name),
        Some(Err(_)) => Err(ClientError::Usage(format!("the name of {shown} is not UTF-8; say the path there"))),
        None => Err(ClientError::Usage(format!("{shown} has no name; say the path there"))),
    }
}

fn walk(root: &Path, remote: &str, steps: &mut Vec<Step>, report: &mut Report) -> Result<()> {
    let mut pending = vec![(root.to_owned(), remote.to_owned(), 0)];
    while let Some((dir, remote, depth)) = pending.pop() {
        if !remote.is_empty() {
            steps.push(Step::Mkdir(remote.clone()));
        }
        let listed = std::fs::read_dir(&dir).and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>());
        let mut entries = match listed {
            Ok(entries) => entries,
            Err(e) => {
                report.failed(&ClientError::Local(format!("cannot read {}: {}", dir.display(), reason(&e))));
                continue;
            }
        };
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let shown = path.to_string_lossy();
            let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) else {
                let shown = text::visible(&shown);
                report.failed(&ClientError::Local(format!("{shown}: its name is not UTF-8, or it vanished")));
                continue;
            };
            let remote = names::join(&remote, &name);
            if steps.len() >= MAX_ENTRIES {
                return Err(ClientError::Local(format!("over {MAX_ENTRIES} entries; send the directories one by one")));
            }
            if metadata.is_dir() {
                if depth == MAX_DEPTH {
                    return Err(ClientError::Local(format!("{shown} is over {MAX_DEPTH} directories deep")));
                }
                pending.push((path, remote, depth + 1));
            } else if metadata.is_file() {
                steps.push(Step::Put { local: Some(path), remote, length: metadata.len() });
            } else if metadata.is_symlink() {
                report.skipped(&shown, "it is a symbolic link");
            } else {
                report.skipped(&shown, "it is no regular file");
            }
        }
    }
    Ok(())
}

/// Permission bits and time of a local file, as the protocol has them.
pub(super) fn mode_and_time(metadata: &Metadata) -> (u32, i64) {
    let ms = metadata.mtime().saturating_mul(1_000).saturating_add(metadata.mtime_nsec() / 1_000_000);
    (metadata.permissions().mode() & 0o777, ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::progress::Style;

    fn plan(locals: &[&Path], target: Option<&str>) -> Vec<String> {
        let mut report = Report::new(Style { quiet: true, ..Style::default() });
        let locals: Vec<PathBuf> = locals.iter().map(|path| path.to_path_buf()).collect();
        let steps = put(&locals, target, true, &mut report).unwrap();
        let name = |step| match step {
            Step::Mkdir(path) => format!("{path}/"),
            Step::Put { remote, .. } => remote,
        };
        steps.into_iter().map(name).collect()
    }

    #[test]
    fn the_target_is_a_path_or_a_directory_by_how_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "1").unwrap();
        std::fs::write(&b, "2").unwrap();
        assert_eq!(plan(&[&a], None), ["a"]);
        assert_eq!(plan(&[&a], Some("x")), ["x"]);
        assert_eq!(plan(&[&a], Some("x/")), ["x/a"]);
        assert_eq!(plan(&[&a], Some("/")), ["a"]);
        assert_eq!(plan(&[&a, &b], Some("x")), ["x/a", "x/b"]);
        assert_eq!(plan(&[Path::new("-")], Some("x")), ["x"]);
    }

    #[test]
    fn a_tree_is_sent_parents_first_and_without_its_links() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        std::fs::create_dir_all(top.join("d/e")).unwrap();
        std::fs::write(top.join("d/e/f"), "").unwrap();
        std::fs::write(top.join("z"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", top.join("link")).unwrap();
        assert_eq!(plan(&[&top], None), ["top/", "top/z", "top/d/", "top/d/e/", "top/d/e/f"]);
        assert_eq!(plan(&[&top], Some("new")), ["new/", "new/z", "new/d/", "new/d/e/", "new/d/e/f"]);
    }

    #[test]
    fn standard_input_needs_a_name() {
        let mut report = Report::new(Style::default());
        let refused = put(&[PathBuf::from("-")], None, false, &mut report);
        assert!(matches!(refused, Err(ClientError::Usage(_))));
    }
}
