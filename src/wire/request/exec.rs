//! The fields of the requests about commands; `docs/PROTOCOL.md`, Commands,
//! says what each means.

use crate::wire::fields::{present, present_object, unique_map};
use serde::Deserialize;

/// Fields of `exec`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Exec {
    #[serde(default, deserialize_with = "present")]
    pub argv: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    pub shell: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub cwd: Option<String>,
    #[serde(default, deserialize_with = "unique_map")]
    pub env: Vec<(String, String)>,
    #[serde(default, deserialize_with = "present")]
    pub stdin: Option<bool>,
    #[serde(default, deserialize_with = "present_object")]
    pub pty: Option<Pty>,
    #[serde(default, deserialize_with = "present")]
    pub timeout_ms: Option<u64>,
    #[serde(default)]
    pub hangup: Hangup,
}

/// The terminal of an `exec`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Pty {
    pub rows: u16,
    pub cols: u16,
    #[serde(default, deserialize_with = "present")]
    pub term: Option<String>,
}

/// What becomes of a command when its client ends its sending side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hangup {
    /// It is ended.
    #[default]
    Kill,
    /// It runs to its end, as long as the connection stands.
    Finish,
}

/// Fields of `input`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct CommandInput {
    #[serde(default)]
    pub eof: bool,
}

/// Fields of `signal`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Signal {
    pub signal: String,
}

/// Fields of `resize`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Resize {
    pub rows: u16,
    pub cols: u16,
}

/// Fields of `kill`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Kill {
    pub job: u64,
    #[serde(default, deserialize_with = "present")]
    pub signal: Option<String>,
}
