//! The event loop.
pub mod child;
mod sources;
