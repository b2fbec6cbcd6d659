//! The fields of the file service's answers; `docs/PROTOCOL.md`, Files, says
//! what each means. The events are in [`super::reply`].

use serde::{Deserialize, Serialize};

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words of docs/PROTOCOL.md")]
pub enum Kind {
    File,
    Dir,
    Link,
    Other,
}

/// What `stat` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Status {
    pub kind: Kind,
    /// Bytes of a file; what the file system says of anything else.
    pub length: u64,
    /// Milliseconds since the Unix epoch, negative before it.
    pub mtime_ms: i64,
    /// The permission bits, 0o7777.
    pub mode: u32,
}

/// One element of the array in the body of a `list`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Entry<'a> {
    #[serde(borrow)]
    pub name: std::borrow::Cow<'a, str>,
    #[serde(flatten)]
    pub status: Status,
}

/// What `list` answers, beside its body.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct ListPage {
    pub size: usize,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    pub skipped: u64,
}

/// What `get` answers before its data.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Download {
    pub length: u64,
    pub total: u64,
    pub mtime_ms: i64,
    pub mode: u32,
}

/// What `put` answers: where to go on from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Upload {
    pub offset: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
}

/// What the `end` of a `put` answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Stored {
    pub path: String,
    pub length: u64,
    pub blake3: String,
}

/// What `hash` answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Checksum {
    pub blake3: String,
    pub length: u64,
}
