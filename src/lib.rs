//! reactord (under construction).
pub mod process;
pub mod proto;
pub mod reactor;
mod sys;
pub mod wire;
