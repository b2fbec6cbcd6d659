//! The fields of the chat's requests; `docs/PROTOCOL.md`, Chat, says what each
//! means.

use crate::wire::fields::present;
use serde::Deserialize;

/// Fields of `join`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Join {
    pub room: String,
    #[serde(default, deserialize_with = "present")]
    pub history: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    pub after: Option<u64>,
}

/// Fields of `say`, `leave` and `who`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Room {
    pub room: String,
}

/// Fields of `tell`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Tell {
    pub to: String,
}

/// Fields of `nick`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct NewNick {
    pub nick: String,
}

/// Fields of `history`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct History {
    pub room: String,
    #[serde(default, deserialize_with = "present")]
    pub after: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    pub before: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    pub limit: Option<u64>,
}
