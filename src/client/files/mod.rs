//! Files to and from the server.
//!
//! # Layout
//!
//! - [`names`]: which names are taken from whom; paths there.
//! - [`remote`]: `list` and `stat`, and trees on the server.
//! - [`local`]: directories and temporary files here, tight against links.
//! - [`plan`]: what an upload's arguments mean.
//! - [`link`]: the connection, and another one when it is lost.
//! - [`put`], [`get`]: the transfers; `source` and `download` are one file of each.

mod download;
pub mod get;
pub mod link;
pub mod local;
pub mod names;
pub mod plan;
pub mod put;
pub mod remote;
mod source;

/// How transfers are done; both directions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Replace what is there already.
    pub replace: bool,
    /// Compare checksums.
    pub verify: bool,
    /// Go on where an earlier transfer stopped, and reconnect.
    pub resume: bool,
    /// Take directories.
    pub recursive: bool,
    /// Make missing directories on the server.
    pub parents: bool,
}

/// The most files and directories of one transfer: what a plan may hold.
pub const MAX_ENTRIES: usize = 1_000_000;

/// The deepest directory below a transfer's beginning.
pub const MAX_DEPTH: usize = 100;
