//! The fields of the file service's requests; `docs/PROTOCOL.md`, Files, says
//! what each means. Its answers are in [`crate::wire::files`].

use crate::wire::fields::present;
use serde::Deserialize;

/// Fields of `get`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Get {
    pub path: String,
    #[serde(default, deserialize_with = "present")]
    pub offset: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    pub length: Option<u64>,
}

/// What an upload or a rename does where its target exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IfExists {
    /// It is refused.
    #[default]
    Fail,
    /// It replaces the target.
    Replace,
}

/// Fields of `put`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Put {
    pub path: String,
    pub length: u64,
    #[serde(default)]
    pub exists: IfExists,
    #[serde(default)]
    pub parents: bool,
    #[serde(default, deserialize_with = "present")]
    pub resume: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub mtime_ms: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    pub mode: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    pub blake3: Option<String>,
}

/// Fields of `end`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct End {
    #[serde(default, deserialize_with = "present")]
    pub blake3: Option<String>,
}

/// Fields of `list`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct List {
    pub path: String,
    #[serde(default, deserialize_with = "present")]
    pub after: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub limit: Option<u64>,
}

/// Fields of `stat`, `hash` and `remove`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct FilePath {
    pub path: String,
}

/// Fields of `mkdir`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Mkdir {
    pub path: String,
    #[serde(default)]
    pub parents: bool,
}

/// Fields of `rename`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Rename {
    pub path: String,
    pub to: String,
    #[serde(default)]
    pub exists: IfExists,
}
