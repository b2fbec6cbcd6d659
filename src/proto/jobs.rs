//! Every running command of the server, whosever connection it is on.

/// A running command; its number is unique while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);
