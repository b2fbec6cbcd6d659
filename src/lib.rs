//! reactord (under construction).
pub mod wire;
