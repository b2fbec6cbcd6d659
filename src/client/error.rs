//! What can go wrong for a client, and the exit status that each case has.
//!
//! `io::Error` is kept as its kind and its text, so that two errors compare.

use crate::client::text;
use crate::wire::ErrorCode;
use std::fmt;
use std::io;

/// The outcome of a client's operation.
pub type Result<T> = std::result::Result<T, ClientError>;

/// What the server said was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The code as it stood on the wire; a newer server may use one that this
    /// client does not know.
    pub code: String,
    /// The sentence, as it came: whoever shows it strips it first.
    pub message: String,
}

impl ServerError {
    /// Whether this is `code`.
    pub fn is(&self, code: ErrorCode) -> bool {
        self.code == code.as_str()
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", text::visible(&self.message), text::visible(&self.code))
    }
}

/// Why a client's operation failed. Each is shown as one line that says what
/// was wrong and, where that is known, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// The command line makes no sense.
    Usage(String),
    /// No connection came about.
    Connect {
        /// The server's address as the user gave it.
        host: String,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The system's words.
        message: String,
    },
    /// The token could not be read.
    Token(String),
    /// The server wants another token, or one at all.
    Unauthorized {
        /// The server's words.
        error: ServerError,
        /// Where the token came from, or why there was none.
        token: String,
    },
    /// The server ended the connection with an error.
    Fatal(ServerError),
    /// The connection ended without a word.
    Lost {
        /// The server's address.
        host: String,
        /// What was seen.
        message: String,
    },
    /// The server sent what this client does not understand.
    Protocol(String),
    /// The server refused one request; the connection goes on.
    Refused {
        /// What was asked for, such as `put notes.txt`.
        what: String,
        /// The server's words.
        error: ServerError,
    },
    /// An answer under load was not the right one.
    Wrong(String),
    /// Something on this machine failed.
    Local(String),
    /// A signal asked this client to end.
    Interrupted(i32),
    /// Nobody reads our output any more.
    BrokenPipe,
}

/// The exit status for a refused request or a local failure.
pub const EXIT_REFUSED: u8 = 1;
/// The exit status for wrong usage.
pub const EXIT_USAGE: u8 = 2;
/// The exit status when the connection or the authentication failed.
pub const EXIT_CONNECTION: u8 = 255;
/// Added to a signal's number for the exit status of what it ended.
pub const EXIT_SIGNAL: u8 = 128;

impl ClientError {
    /// A local failure: what was tried, and what the system said.
    pub fn local(what: impl fmt::Display, error: impl Into<io::Error>) -> Self {
        ClientError::Local(format!("{what}: {}", reason(&error.into())))
    }

    /// The process's exit status for this error.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Refused { .. } | Self::Wrong(_) | Self::Local(_) => EXIT_REFUSED,
            Self::Interrupted(signal) => EXIT_SIGNAL.saturating_add(u8::try_from(*signal).unwrap_or(0)),
            Self::BrokenPipe => 0,
            _ => EXIT_CONNECTION,
        }
    }

    /// Whether the same request may succeed on a new connection.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Lost { .. } => true,
            Self::Fatal(e) => e.is(ErrorCode::ShuttingDown) || e.is(ErrorCode::Timeout),
            _ => false,
        }
    }

    /// Whether this is the server's refusal with `code`.
    pub fn is_refusal(&self, code: ErrorCode) -> bool {
        matches!(self, Self::Refused { error, .. } if error.is(code))
    }
}

/// The system's words for `error`, without Rust's "(os error N)".
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Token(text) | Self::Local(text) => f.write_str(text),
            Self::Connect { host, kind, message } => {
                write!(f, "cannot connect to {host}: {message}")?;
                match kind {
                    io::ErrorKind::ConnectionRefused => {
                        let port = host.rsplit(':').next().unwrap_or_default();
                        write!(f, "; is the server running? Start it there with: reactord --port {port}")
                    }
                    io::ErrorKind::TimedOut => f.write_str("; check the address and any firewall between"),
                    _ => f.write_str("; say where the server is with -H HOST:PORT or REACTOR_HOST"),
                }
            }
            Self::Unauthorized { error, token } => write!(f, "the server refused us: {error}; {token}"),
            Self::Fatal(error) => write!(f, "the server ended the connection: {error}"),
            Self::Lost { host, message } => write!(f, "the connection to {host} was lost: {message}"),
            Self::Protocol(text) => write!(f, "the server sent what this client does not understand: {text}"),
            Self::Refused { what, error } => {
                let text = error.to_string();
                // The server often begins with the path, which `what` ends with.
                let name = what.find('"').map_or("", |at| &what[at..]);
                let rest = text.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text);
                write!(f, "{what}: {rest}")
            }
            Self::Wrong(text) => write!(f, "wrong answer: {}", text::visible(text)),
            Self::Interrupted(signal) => write!(f, "ended by signal {signal}"),
            Self::BrokenPipe => f.write_str("broken pipe"),
        }
    }
}

impl std::error::Error for ClientError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_from_the_server_is_stripped_where_it_is_shown() {
        let error = ServerError { code: "io\u{1b}".into(), message: "a\u{1b}[2Jb\u{202e}c\n".into() };
        assert_eq!(error.to_string(), "a[2Jbc (io)");
    }

    #[test]
    fn a_path_is_not_said_twice() {
        let error = ServerError { code: "exists".into(), message: "\"a\": is there".into() };
        let refused = ClientError::Refused { what: "put \"a\"".into(), error: error.clone() };
        assert_eq!(refused.to_string(), "put \"a\": is there (exists)");
        let refused = ClientError::Refused { what: "mkdir".into(), error };
        assert_eq!(refused.to_string(), "mkdir: \"a\": is there (exists)");
    }

    #[test]
    fn exit_statuses_are_as_documented() {
        let error = ServerError { code: "exists".into(), message: "there".into() };
        assert_eq!(ClientError::Usage(String::new()).exit_status(), 2);
        assert_eq!(ClientError::Refused { what: String::new(), error: error.clone() }.exit_status(), 1);
        assert_eq!(ClientError::Fatal(error).exit_status(), 255);
        assert_eq!(ClientError::Interrupted(2).exit_status(), 130);
        assert_eq!(ClientError::Token(String::new()).exit_status(), 255);
    }

    #[test]
    fn a_refused_connection_says_how_to_start_the_server() {
        let error = ClientError::Connect {
            host: "127.0.0.1:8899".into(),
            kind: io::ErrorKind::ConnectionRefused,
            message: "Connection refused".into(),
        };
        assert!(error.to_string().ends_with("reactord --port 8899"), "{error}");
    }
}
