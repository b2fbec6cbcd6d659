//! The server's directories: pages of names, one entry, a whole tree.

use crate::client::connection::Connection;
use crate::client::error::{ClientError, Result};
use crate::client::files::names::{self, check_component};
use crate::client::files::{MAX_DEPTH, MAX_ENTRIES};
use crate::client::frame::json_body;
use crate::client::progress::Report;
use crate::client::text;
use serde::{Deserialize, Serialize};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A device, a FIFO, a socket.
    #[serde(other)]
    Other,
}

/// What `stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub length: u64,
    /// When it was changed last: milliseconds since the Unix epoch.
    pub mtime_ms: i64,
    /// The permission bits.
    pub mode: u32,
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Entry {
    /// The name as the server gave it; check it before it becomes a path.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub stat: Stat,
}

#[derive(Serialize)]
struct List<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    more: bool,
    #[serde(default)]
    skipped: u64,
}

#[derive(Serialize)]
struct Path<'a> {
    path: &'a str,
}

/// Describes `path`.
pub fn stat(connection: &mut Connection, path: &str) -> Result<Stat> {
    connection.call(&format!("\"{}\"", text::visible(path)), "stat", Path { path }).map(|(stat, _)| stat)
}

/// Calls `each` for every entry of `path`, page by page. Returns how many
/// names the server left out because they are not UTF-8.
pub fn list(connection: &mut Connection, path: &str, mut each: impl FnMut(Entry) -> Result<()>) -> Result<u64> {
    let what = format!("\"{}\"", text::visible(path));
    let mut after: Option<String> = None;
    let mut skipped = 0;
    loop {
        let fields = List { path, after: after.as_deref() };
        let (page, body) = connection.call::<Page>(&what, "list", fields)?;
        let entries: Vec<Entry> = json_body("list", body)?;
        // The count is of the directory, so the pages do not add up.
        skipped = page.skipped.max(skipped);
        let empty = entries.is_empty();
        for entry in entries {
            // Without this a server could send one page for ever.
            if after.as_ref().is_some_and(|last| *last >= entry.name) {
                return Err(ClientError::Protocol(format!("the listing of {what} is not sorted")));
            }
            after = Some(entry.name.clone());
            each(entry)?;
        }
        if !page.more || empty {
            return Ok(skipped);
        }
    }
}

/// A directory or a file of a tree, by its path below the tree's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Checked components, joined with `/`.
    pub relative: String,
    /// What it was when listed.
    pub stat: Stat,
}

/// Directories and files below one directory, parents first.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// The directories.
    pub dirs: Vec<Node>,
    /// The files.
    pub files: Vec<Node>,
}

/// Walks the tree below `root`. Links and special files are skipped with a
/// note; a name that could lead elsewhere counts as a failure.
pub fn walk(connection: &mut Connection, root: &str, report: &mut Report) -> Result<Tree> {
    let mut tree = Tree::default();
    let mut pending = vec![(String::new(), 0)];
    while let Some((dir, depth)) = pending.pop() {
        let path = names::join(root, &dir);
        let mut below = Vec::new();
        let skipped = list(connection, &path, |entry| {
            let shown = names::join(&path, &entry.name);
            if let Err(why) = check_component(&entry.name) {
                report.failed(&ClientError::Protocol(format!("\"{}\": {why}", text::visible(&shown))));
                return Ok(());
            }
            if tree.dirs.len() + below.len() + tree.files.len() >= MAX_ENTRIES {
                return Err(ClientError::Local(format!(
                    "over {MAX_ENTRIES} entries; fetch the directories one by one"
                )));
            }
            let node = Node { relative: names::join(&dir, &entry.name), stat: entry.stat };
            match entry.stat.kind {
                Kind::File => tree.files.push(node),
                Kind::Dir => below.push(node),
                Kind::Link => report.skipped(&shown, "it is a symbolic link"),
                Kind::Other => report.skipped(&shown, "it is no regular file"),
            }
            Ok(())
        })?;
        if skipped > 0 {
            report.skipped(&path, &format!("{skipped} names in it are not UTF-8"));
        }
        if depth + 1 > MAX_DEPTH && !below.is_empty() {
            return Err(ClientError::Local(format!(
                "\"{}\" is over {MAX_DEPTH} directories deep",
                text::visible(&path)
            )));
        }
        pending.extend(below.iter().map(|node| (node.relative.clone(), depth + 1)));
        tree.dirs.append(&mut below);
    }
    Ok(tree)
}
