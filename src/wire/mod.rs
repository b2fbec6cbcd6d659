//! What goes over the wire, and nothing of what it means: frames, the typed
//! messages in their headers, and the error codes.
//!
//! This layer knows no sockets and no clock. The contract it implements is
//! `docs/PROTOCOL.md`.

pub mod error;
mod fields;
pub mod files;
pub mod frame;
pub mod reply;
pub mod request;

pub use error::ErrorCode;
pub use frame::{FrameDecoder, FrameError, Limits, Piece};
pub use request::{Request, RequestHeader};

/// The version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: i64 = 1;

/// The longest header of a greeted connection, in bytes.
pub const MAX_HEADER: usize = 65_536;

/// The longest header before authentication, in bytes.
pub const MAX_HEADER_UNAUTHENTICATED: usize = 4_096;

/// The longest body of a frame, in bytes.
pub const MAX_BODY: usize = 1_048_576;

/// The longest chat message, in bytes of UTF-8.
pub const MAX_MESSAGE: usize = 65_536;

/// The most bytes of a command's output in one frame.
pub const MAX_OUTPUT: usize = 65_536;

/// The most bytes of a file in one `data` event.
pub const MAX_DATA: usize = 262_144;

/// The largest `id` a client may choose: 2^53 - 1, the largest integer that
/// every JSON implementation keeps exact (RFC 8259, section 6).
pub const MAX_ID: u64 = (1 << 53) - 1;
