//! The escapes of an interactive session: `~` after a newline, as in ssh(1).
//!
//! A state machine over typed bytes; what an escape does is the caller's part.

/// What is shown for `~?`.
pub const HELP: &str = "Escapes, each after a newline:\r\n  ~.   end the connection\r\n  ~^Z  suspend this client\r\n  ~~   send one ~\r\n  ~?   this list\r\n";

const CTRL_Z: u8 = 0x1a;

/// What typed bytes mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Bytes for the command.
    Bytes(Vec<u8>),
    /// `~.`
    Disconnect,
    /// `~^Z`
    Suspend,
    /// `~?`
    Help,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    LineStart,
    Tilde,
    InLine,
}

/// Finds escapes in typed bytes, however they are cut.
#[derive(Debug)]
pub struct Escapes {
    state: State,
}

impl Default for Escapes {
    fn default() -> Self {
        Escapes { state: State::LineStart }
    }
}

impl Escapes {
    /// What `bytes` mean, in order.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Typed> {
        let mut typed = Vec::new();
        let mut plain = Vec::new();
        for &byte in bytes {
            let escape = match (self.state, byte) {
                (State::LineStart, b'~') => {
                    self.state = State::Tilde;
                    continue;
                }
                (State::Tilde, b'.') => Some(Typed::Disconnect),
                (State::Tilde, b'?') => Some(Typed::Help),
                (State::Tilde, CTRL_Z) => Some(Typed::Suspend),
                (State::Tilde, b'~') => {
                    plain.push(b'~');
                    self.state = State::InLine;
                    continue;
                }
                (State::Tilde, _) => {
                    plain.push(b'~');
                    None
                }
                _ => None,
            };
            match escape {
                Some(escape) => {
                    if !plain.is_empty() {
                        typed.push(Typed::Bytes(std::mem::take(&mut plain)));
                    }
                    typed.push(escape);
                    self.state = State::LineStart;
                }
                None => {
                    plain.push(byte);
                    self.state = if matches!(byte, b'\r' | b'\n') { State::LineStart } else { State::InLine };
                }
            }
        }
        if !plain.is_empty() {
            typed.push(Typed::Bytes(plain));
        }
        typed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a byte at a time and joins neighbouring bytes.
    fn meaning(text: &[u8]) -> Vec<Typed> {
        let mut escapes = Escapes::default();
        let mut typed: Vec<Typed> = Vec::new();
        for byte in text {
            for t in escapes.feed(&[*byte]) {
                match (typed.last_mut(), t) {
                    (Some(Typed::Bytes(last)), Typed::Bytes(more)) => last.extend(more),
                    (_, t) => typed.push(t),
                }
            }
        }
        assert_eq!(Escapes::default().feed(text), typed, "cut and uncut mean the same");
        typed
    }

    fn bytes(text: &str) -> Typed {
        Typed::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn an_escape_counts_only_after_a_newline() {
        assert_eq!(meaning(b"~."), [Typed::Disconnect]);
        assert_eq!(meaning(b"ls\r~."), [bytes("ls\r"), Typed::Disconnect]);
        assert_eq!(meaning(b"ls ~.\r"), [bytes("ls ~.\r")]);
        assert_eq!(meaning(b"a\n~?~\x1ab"), [bytes("a\n"), Typed::Help, Typed::Suspend, bytes("b")]);
    }

    #[test]
    fn a_doubled_tilde_is_one_and_an_unknown_escape_passes() {
        assert_eq!(meaning(b"~~.\r"), [bytes("~.\r")]);
        assert_eq!(meaning(b"~user\r"), [bytes("~user\r")]);
        assert_eq!(meaning(b"~\r~."), [bytes("~\r"), Typed::Disconnect]);
    }

    #[test]
    fn a_tilde_is_held_until_what_follows_is_known() {
        let mut escapes = Escapes::default();
        assert_eq!(escapes.feed(b"~"), []);
        assert_eq!(escapes.feed(b"x"), [bytes("~x")]);
    }
}
