//! Conversations with the real server: the client's side in `talks`, the
//! operator's in `console`.

#[path = "../common/mod.rs"]
mod common;
mod console;
mod programs;
mod talks;
