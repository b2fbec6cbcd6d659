//! reactord (under construction).
pub mod proto;
pub mod wire;
