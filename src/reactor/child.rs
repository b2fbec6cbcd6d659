//! stub
use crate::proto::{ConnId, Now, exec::*, jobs::JobId};
use crate::wire::error::Refusal;
use std::time::Instant;
/// s
#[derive(Debug)]
pub struct Children {}
/// s
pub trait ChildSink {
    /// s
    fn wants_output(&mut self, conn: ConnId) -> bool;
    /// s
    fn event(&mut self, conn: ConnId, job: JobId, event: ChildEvent<'_>);
}
#[allow(missing_docs, unused)]
impl Children {
    pub fn new(m: usize) -> Self {
        Children {}
    }
    pub fn spawn(
        &mut self,
        r: &mio::Registry,
        now: Now,
        c: ConnId,
        nick: &str,
        peer: &str,
        s: Spawn,
    ) -> Result<Spawned, Refusal> {
        unreachable!()
    }
    pub fn effect(&mut self, now: Now, j: JobId, e: JobEffect) {}
    pub fn handle_event(&mut self, p: usize, e: &mio::event::Event) {}
    pub fn run(&mut self, now: Now, s: &mut impl ChildSink) {}
    pub fn is_ready(&self) -> bool {
        false
    }
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    pub fn handle_timeout(&mut self, now: Now) {}
    pub fn jobs_json(&self, c: ConnId) -> Vec<u8> {
        b"[]".to_vec()
    }
    pub fn kill(&mut self, j: JobId, s: Signal) -> Result<(), Refusal> {
        Ok(())
    }
    pub fn terminate_all(&mut self, now: Now) {}
    pub fn resume(&mut self, c: ConnId) {}
    pub fn is_empty(&self) -> bool {
        true
    }
    pub fn len(&self) -> usize {
        0
    }
    pub fn started(&self) -> u64 {
        0
    }
}
