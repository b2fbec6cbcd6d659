//! Commands, each after the last, a thread for each connection.

use super::figures::Figures;
use super::frames::Reactord;
use super::progress::Progress;
use super::transfer::{Part, Transfer, parallel};
use super::{End, wrong};
use crate::client::error::Result;
use serde_json::json;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Exec {
    /// Connections, each with a thread and one command at a time.
    pub connections: usize,
    /// When to stop; a request is a command from its start to its exit.
    pub end: End,
}

/// Runs `echo` with words of its own each time, and checks what it says.
pub fn run(peer: &mut Reactord, work: &Exec, progress: &mut Progress) -> Result<Figures> {
    let work = Transfer { connections: work.connections, size: 0, end: work.end };
    parallel(&work, progress, peer, |talk, n| {
        let id = talk.take_id();
        let words = format!("command {id} of connection {n}");
        talk.send(&json!({"cmd": "exec", "id": id, "argv": ["/bin/echo", words]}), b"")?;
        let mut output = Vec::new();
        loop {
            let header = talk.receive(|part| {
                if let Part::Body(_, bytes) = part {
                    output.extend_from_slice(bytes);
                }
                Ok(())
            })?;
            match header.event.as_deref() {
                _ if header.id != Some(id) => return Err(wrong(format_args!("{header:?} in command {id}"))),
                Some("exit") if header.code == Some(0) && output == format!("{words}\n").as_bytes() => return Ok(()),
                Some("exit") => {
                    let said = String::from_utf8_lossy(&output);
                    return Err(wrong(format_args!("{header:?} after \"{said}\" where \"{words}\" was due")));
                }
                _ => {}
            }
        }
    })
}
