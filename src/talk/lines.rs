//! Lines from a pipe, each of bounded length.

use crate::wire::MAX_MESSAGE;
use std::io::{BufRead, BufReader, Read};

/// The longest line, in bytes: the longest message, and a command before it.
const MAX_LINE: usize = MAX_MESSAGE + 1_024;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end.
    Text(String),
    /// A line that is none, and why.
    Bad(String),
    /// No more of them.
    End,
}

/// Reads lines.
#[derive(Debug)]
pub struct Lines<R> {
    input: BufReader<R>,
    count: u64,
}

impl<R: Read> Lines<R> {
    /// Lines of `input`.
    pub fn new(input: R) -> Self {
        Lines { input: BufReader::new(input), count: 0 }
    }

    /// The next line; the last one need not have an end.
    pub fn read(&mut self) -> Line {
        let mut line = Vec::new();
        self.count += 1;
        let limit = MAX_LINE as u64 + 1;
        match (&mut self.input).take(limit).read_until(b'\n', &mut line) {
            Ok(0) => return Line::End,
            Ok(_) => {}
            Err(e) => {
                log::warn!("cannot read standard input: {e}");
                return Line::End;
            }
        }
        let ended = line.pop_if(|last| *last == b'\n').is_some();
        line.pop_if(|last| *last == b'\r');
        if line.len() > MAX_LINE {
            // Its end may be far away; what lies before it is thrown away.
            if !ended && self.input.skip_until(b'\n').is_err() {
                return Line::End;
            }
            return Line::Bad(format!("line {} is longer than {MAX_MESSAGE} bytes", self.count));
        }
        match String::from_utf8(line) {
            Ok(line) => Line::Text(line),
            Err(_) => Line::Bad(format!("line {} is not UTF-8", self.count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_they_like_and_bad_ones_do_not_end_the_others() {
        let long = "x".repeat(3 * MAX_LINE);
        let input = [b"a\r\n\nb\xff\n", long.as_bytes(), b"\nlast"].concat();
        let mut lines = Lines::new(&input[..]);
        let text = |text: &str| Line::Text(text.to_owned());
        assert_eq!((lines.read(), lines.read()), (text("a"), text("")));
        assert_eq!(lines.read(), Line::Bad("line 3 is not UTF-8".into()));
        assert!(matches!(lines.read(), Line::Bad(why) if why.contains("line 4")));
        assert_eq!((lines.read(), lines.read(), lines.read()), (text("last"), Line::End, Line::End));
    }
}
