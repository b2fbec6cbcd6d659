//! The error codes of the protocol, each with its spelling on the wire.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a request was refused or a connection ended; `docs/PROTOCOL.md` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each name is its own description, and the page explains them together")]
pub enum ErrorCode {
    BadFrame,
    BadRequest,
    UnknownCommand,
    Unauthorized,
    Forbidden,
    Disabled,
    NotFound,
    Exists,
    InvalidName,
    InvalidPath,
    IsDirectory,
    NotDirectory,
    NotEmpty,
    NotAFile,
    TooLarge,
    NoSpace,
    Conflict,
    Cancelled,
    ChecksumMismatch,
    Changed,
    Limit,
    Busy,
    Timeout,
    SlowConsumer,
    ShuttingDown,
    Io,
}

impl ErrorCode {
    /// The code as it stands on the wire, such as `bad_frame`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadFrame => "bad_frame",
            Self::BadRequest => "bad_request",
            Self::UnknownCommand => "unknown_command",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Disabled => "disabled",
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::InvalidName => "invalid_name",
            Self::InvalidPath => "invalid_path",
            Self::IsDirectory => "is_directory",
            Self::NotDirectory => "not_directory",
            Self::NotEmpty => "not_empty",
            Self::NotAFile => "not_a_file",
            Self::TooLarge => "too_large",
            Self::NoSpace => "no_space",
            Self::Conflict => "conflict",
            Self::Cancelled => "cancelled",
            Self::ChecksumMismatch => "checksum_mismatch",
            Self::Changed => "changed",
            Self::Limit => "limit",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::SlowConsumer => "slow_consumer",
            Self::ShuttingDown => "shutting_down",
            Self::Io => "io",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: a code for programs and a sentence for people. The sentence says
/// what was wrong and what was expected, and never names a path outside the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: ErrorCode,
    /// The sentence.
    pub message: String,
}

impl Refusal {
    /// A refusal with `code` and `message`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_spelled_the_same_by_serde_and_by_display() {
        for code in [ErrorCode::BadFrame, ErrorCode::NotAFile, ErrorCode::ChecksumMismatch, ErrorCode::Io] {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), code);
        }
    }
}
