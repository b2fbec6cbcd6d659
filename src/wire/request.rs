//! What a client may ask: a header's JSON as typed structs.
//!
//! [`RequestHeader::parse`] never loses the frame: as long as the header is an
//! object with a good `size`, the caller learns where the frame ends, and what
//! is wrong beyond that is a [`Malformed`] request to be answered. The fields of
//! each service's requests are in files of their own.

mod chat;
mod exec;
mod files;

pub use chat::{History, Join, NewNick, Room, Tell};
pub use exec::{CommandInput, Exec, Hangup, Kill, Pty, Resize, Signal};
pub use files::{End, FilePath, Get, IfExists, List, Mkdir, Put, Rename};

use super::error::{ErrorCode, Refusal};
use super::fields::{Fields, excerpt, present, reason};
use super::frame::{FrameError, Limits};
use serde::Deserialize;

/// The longest `cmd` that is repeated in an answer, in bytes; none comes near.
const MAX_COMMAND: usize = 1_024;

/// A header, as far as it could be understood.
#[derive(Debug, PartialEq)]
pub struct RequestHeader {
    /// Bytes of the body that follows.
    pub size: usize,
    /// The client's number for this request, where it gave a good one.
    pub id: Option<u64>,
    /// The request, or why it is none.
    pub request: Result<Request, Malformed>,
}

/// A request that cannot be carried out because of its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The answer's `re`; `None` where `cmd` was bad or missing.
    pub re: Option<String>,
    /// What to answer.
    pub refusal: Refusal,
}

macro_rules! requests {
    ($($(#[$doc:meta])* $name:literal $variant:ident $(($fields:ty))? $(id $id:ident)?;)*) => {
        /// A request with its own fields; `id` and `size` are in [`RequestHeader`].
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request { $($(#[$doc])* $variant $(($fields))?,)* }

        impl Request {
            /// The `cmd` on the wire.
            pub fn command(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $name,)* }
            }

            fn from_fields(cmd: &str, fields: &Fields<'_>) -> Option<Result<Self, serde_json::Error>> {
                Some(match cmd {
                    $($name => requests!(@read fields $variant $($fields)?),)*
                    _ => return None,
                })
            }

            fn needs_id(&self) -> bool {
                match self { $(Self::$variant { .. } => requests!(@id $($id)?),)* }
            }
        }
    };
    (@read $from:ident $variant:ident) => { Ok(Self::$variant) };
    (@read $from:ident $variant:ident $fields:ty) => { $from.typed::<$fields>().map(Self::$variant) };
    (@id) => { false };
    (@id required) => { true };
}

requests! {
    /// Greets: authenticates and names the connection.
    "hello" Hello(Hello);
    /// Sends its body back.
    "echo" Echo;
    /// Asks for the server's counters.
    "stats" Stats;
    /// Enters a room.
    "join" Join(Join);
    /// Speaks in a room.
    "say" Say(Room);
    /// Speaks to one nick.
    "tell" Tell(Tell);
    /// Leaves a room.
    "leave" Leave(Room);
    /// Takes another nick.
    "nick" Nick(NewNick);
    /// Lists the rooms.
    "rooms" Rooms;
    /// Lists a room's members.
    "who" Who(Room);
    /// Asks for kept messages.
    "history" History(History);
    /// Starts a command.
    "exec" Exec(Box<Exec>) id required;
    /// Gives a command input.
    "input" Input(CommandInput) id required;
    /// Sends a command a signal.
    "signal" Signal(Signal) id required;
    /// Sets a command's terminal size.
    "resize" Resize(Resize) id required;
    /// Lists the running commands.
    "jobs" Jobs;
    /// Signals any running command.
    "kill" Kill(Kill);
    /// Downloads a file.
    "get" Get(Get) id required;
    /// Begins an upload.
    "put" Put(Box<Put>) id required;
    /// The next bytes of an upload.
    "data" Data id required;
    /// Completes an upload.
    "end" End(End) id required;
    /// Gives up a transfer.
    "cancel" Cancel id required;
    /// Lists a directory.
    "list" List(List);
    /// Describes a file.
    "stat" Stat(FilePath);
    /// Computes a file's checksum.
    "hash" Hash(FilePath) id required;
    /// Makes a directory.
    "mkdir" Mkdir(Mkdir);
    /// Removes a file, a link or an empty directory.
    "remove" Remove(FilePath);
    /// Renames in one step.
    "rename" Rename(Rename);
}

/// Fields of `hello`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "docs/PROTOCOL.md names each field")]
pub struct Hello {
    pub version: i64,
    #[serde(default, deserialize_with = "present")]
    pub token: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub nick: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub client: Option<String>,
}

impl RequestHeader {
    /// Reads a header. An error is fatal to the connection, because then
    /// nobody knows where the frame ends.
    pub fn parse(header: &[u8], limits: Limits) -> Result<Self, FrameError> {
        let mut fields = Fields::default();
        fields.read(header).map_err(FrameError::Header)?;
        let size = match fields.size.read_integer() {
            Ok(None) => 0,
            Ok(Some(size)) if size <= limits.body as u64 => size as usize,
            Ok(Some(size)) => return Err(FrameError::BodySize { found: size.to_string(), max: limits.body }),
            Err(found) => return Err(FrameError::BodySize { found, max: limits.body }),
        };
        let id = fields.id.read_integer().and_then(|id| match id {
            Some(n) if n > super::MAX_ID => Err(format!("is {n}")),
            id => Ok(id),
        });
        Ok(RequestHeader { size, id: id.clone().ok().flatten(), request: read_request(&fields, id) })
    }
}

fn read_request(fields: &Fields<'_>, id: Result<Option<u64>, String>) -> Result<Request, Malformed> {
    let malformed = |re: Option<&str>, code, message: String| Malformed {
        re: re.map(str::to_owned),
        refusal: Refusal::new(code, message),
    };
    let cmd = match fields.cmd.read_text() {
        Ok(Some(cmd)) if cmd.len() <= MAX_COMMAND => cmd,
        Ok(Some(_)) => {
            let message = format!("field `cmd` is longer than {MAX_COMMAND} bytes: expected a command's name");
            return Err(malformed(None, ErrorCode::BadRequest, message));
        }
        Ok(None) => {
            let message = "field `cmd` is missing: expected a command's name, such as \"echo\"".to_owned();
            return Err(malformed(None, ErrorCode::BadRequest, message));
        }
        Err(found) => {
            let message = format!("field `cmd` {found}: expected one string");
            return Err(malformed(None, ErrorCode::BadRequest, message));
        }
    };
    let bad = |message| malformed(Some(&cmd), ErrorCode::BadRequest, message);
    let id =
        id.map_err(|found| bad(format!("field `id` {found}: expected one integer from 0 to {}", super::MAX_ID)))?;
    let Some(request) = Request::from_fields(&cmd, fields) else {
        let message = format!("there is no command \"{}\" in protocol version 1", excerpt(&cmd));
        return Err(malformed(Some(&cmd), ErrorCode::UnknownCommand, message));
    };
    let request = request.map_err(|e| bad(reason(&e)))?;
    if request.needs_id() && id.is_none() {
        return Err(bad(format!("field `id` is missing: {cmd} needs one, an integer from 0 to {}", super::MAX_ID)));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str) -> RequestHeader {
        RequestHeader::parse(header.as_bytes(), Limits::FULL).unwrap()
    }

    fn refusal(header: &str) -> (Option<String>, Option<u64>, ErrorCode) {
        let header = parse(header);
        let malformed = header.request.unwrap_err();
        (malformed.re, header.id, malformed.refusal.code)
    }

    #[test]
    fn fields_may_stand_in_any_order_and_unknown_ones_are_ignored() {
        let header = parse(r#"{"later":[{"x":null}],"later":2,"size":3,"room":"lobby","id":7,"cmd":"say"}"#);
        assert_eq!((header.size, header.id), (3, Some(7)));
        assert_eq!(header.request.unwrap(), Request::Say(Room { room: "lobby".into() }));
    }

    #[test]
    fn a_field_of_another_command_is_unknown_here() {
        let header = parse(r#"{"cmd":"echo","room":5,"room":6}"#);
        assert_eq!(header.request.unwrap(), Request::Echo);
    }

    #[test]
    fn escapes_in_keys_and_values_are_understood() {
        let header = parse(r#"{"\u0063md":"jo\u0069n","room":"a\nb"}"#);
        let join = Join { room: "a\nb".into(), history: None, after: None };
        assert_eq!(header.request.unwrap(), Request::Join(join));
    }

    #[test]
    fn wrong_types_and_repeated_fields_are_refused_with_the_command_and_id() {
        for header in [
            r#"{"cmd":"join","id":4,"room":5}"#,
            r#"{"cmd":"join","id":4,"room":"a","room":"a"}"#,
            r#"{"cmd":"join","id":4,"room":"a","history":null}"#,
            r#"{"cmd":"join","id":4,"room":"a","history":1.0}"#,
            r#"{"cmd":"join","id":4,"room":"a","history":true}"#,
            r#"{"cmd":"join","id":4,"room":"a","history":-1}"#,
            r#"{"cmd":"join","id":4}"#,
        ] {
            assert_eq!(refusal(header), (Some("join".into()), Some(4), ErrorCode::BadRequest), "{header}");
        }
    }

    #[test]
    fn nested_fields_obey_the_same_rules() {
        for nested in [
            r#""pty":[24,80,"xterm"]"#,
            r#""pty":{"rows":24,"rows":24,"cols":80,"term":"x"}"#,
            r#""pty":{"rows":24.0,"cols":80,"term":"x"}"#,
            r#""pty":null"#,
            r#""env":{"A":1}"#,
            r#""env":{"A":"1","A":"2"}"#,
            r#""env":[["A","1"]]"#,
            r#""argv":["a",null]"#,
            r#""hangup":"never""#,
            r#""hangup":null"#,
        ] {
            let header = format!(r#"{{"cmd":"exec","id":1,{nested}}}"#);
            assert_eq!(refusal(&header), (Some("exec".into()), Some(1), ErrorCode::BadRequest), "{nested}");
        }
    }

    #[test]
    fn a_bad_id_is_not_repeated() {
        for id in ["null", "true", "1.0", "-1", "9007199254740992", "\"1\"", "1,\"id\":1"] {
            let header = format!(r#"{{"cmd":"echo","id":{id}}}"#);
            assert_eq!(refusal(&header), (Some("echo".into()), None, ErrorCode::BadRequest), "{id}");
        }
        assert_eq!(parse(r#"{"cmd":"echo","id":9007199254740991}"#).id, Some(super::super::MAX_ID));
    }

    #[test]
    fn a_bad_or_missing_command_has_no_name_to_repeat() {
        for header in [r#"{"id":3}"#, r#"{"id":3,"cmd":null}"#, r#"{"id":3,"cmd":"echo","cmd":"echo"}"#] {
            assert_eq!(refusal(header), (None, Some(3), ErrorCode::BadRequest), "{header}");
        }
        assert_eq!(refusal(r#"{"id":3,"cmd":"fly"}"#), (Some("fly".into()), Some(3), ErrorCode::UnknownCommand));
    }

    #[test]
    fn required_ids_are_required() {
        for header in [r#"{"cmd":"get","path":"a"}"#, r#"{"cmd":"data","size":1}"#, r#"{"cmd":"cancel"}"#] {
            assert_eq!(refusal(header).2, ErrorCode::BadRequest, "{header}");
        }
    }

    #[test]
    fn what_is_no_object_is_fatal() {
        let deep = "[".repeat(60_000);
        for header in ["", "x", "[]", "5", "null", r#"{"cmd":"echo""#, r#"{"cmd":"echo"} {}"#, r#"{cmd:1}"#, &deep] {
            let got = RequestHeader::parse(header.as_bytes(), Limits::FULL);
            assert!(matches!(got, Err(FrameError::Header(_))), "{header:.20}");
        }
        let got = RequestHeader::parse(b"{\"cmd\":\"\xff\"}", Limits::FULL);
        assert!(matches!(got, Err(FrameError::Header(_))));
    }

    #[test]
    fn a_bad_size_is_fatal() {
        for size in ["-1", "1048577", "null", "true", "1.0", "\"1\"", "1,\"size\":1", "1e2", "99999999999999999999"] {
            let header = format!(r#"{{"cmd":"echo","size":{size}}}"#);
            let got = RequestHeader::parse(header.as_bytes(), Limits::FULL);
            assert!(matches!(got, Err(FrameError::BodySize { .. })), "{size}");
        }
        let header = br#"{"cmd":"echo","size":1}"#;
        assert!(RequestHeader::parse(header, Limits::UNAUTHENTICATED).is_err());
        assert!(RequestHeader::parse(header, Limits::FULL).is_ok());
    }

    #[test]
    fn deep_nesting_in_an_unknown_field_is_skipped_without_recursion() {
        let header = format!(r#"{{"cmd":"echo","x":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(parse(&header).request.unwrap(), Request::Echo);
        let header = format!(r#"{{"cmd":"join","room":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(refusal(&header).2, ErrorCode::BadRequest);
    }
}
