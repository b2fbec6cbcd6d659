//! What the tests without sockets share: frames as values, a disk and commands
//! in memory, and a world in which sessions meet them.

#![allow(dead_code, reason = "each test uses its part of this")]

pub mod children;
pub mod disk;
pub mod frames;
pub mod oracles;
pub mod world;
