//! stub
use crate::proto::{ConnId, files::*};
use std::os::fd::BorrowedFd;
/// s
#[derive(Debug)]
pub struct Disk {}
/// s
#[derive(Debug)]
pub enum Completion {
    /// s
    Reply(ConnId, DiskReply),
    /// s
    Warm(ConnId),
}
#[allow(missing_docs, unused)]
impl Disk {
    pub fn open(root: &std::path::Path, n: impl Fn() + Send + Sync + 'static) -> std::io::Result<Disk> {
        Ok(Disk {})
    }
    pub fn submit(&mut self, c: ConnId, r: DiskRequest) {}
    pub fn poll(&mut self) -> Option<Completion> {
        None
    }
    pub fn gone(&mut self, c: ConnId) {}
    pub fn file(&self, f: FileHandle) -> Option<BorrowedFd<'_>> {
        None
    }
    pub fn is_resident(&self, f: FileHandle, o: u64, l: usize) -> bool {
        true
    }
    pub fn warm(&mut self, c: ConnId, f: FileHandle, o: u64, l: usize) {}
    pub fn open_files(&self) -> usize {
        0
    }
}
