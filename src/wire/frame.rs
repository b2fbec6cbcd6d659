//! The frame: a 4-byte little-endian length, a JSON header, a raw body.
//!
//! The decoder is incremental and pull-based. It is handed whatever bytes
//! came, takes what it can use and says `None` when it needs more; no split of
//! the bytes changes what comes out, and no byte is looked at twice. It checks
//! a length before it keeps a single byte for it. Bodies are passed through in
//! the pieces in which they came: whether to gather them is the caller's choice.
//!
//! The decoder does not read the header: the caller does, and tells it the
//! body's length with [`FrameDecoder::expect_body`].

use byteorder::{ByteOrder, LittleEndian};
use std::fmt;

/// Bytes of the length that begins a frame.
pub const LENGTH_BYTES: usize = 4;

/// The caps on what a peer may announce, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest header.
    pub header: usize,
    /// The longest body.
    pub body: usize,
}

impl Limits {
    /// What an unauthenticated connection may send.
    pub const UNAUTHENTICATED: Limits = Limits { header: super::MAX_HEADER_UNAUTHENTICATED, body: 0 };
    /// What everybody else may send.
    pub const FULL: Limits = Limits { header: super::MAX_HEADER, body: super::MAX_BODY };
}

/// Why the bytes are no frame. After one of these nobody can know where the
/// next frame would begin, so each is fatal to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The length was not positive or over the cap.
    HeaderLength {
        /// What stood there.
        length: i32,
        /// The cap at that moment.
        max: usize,
    },
    /// The header was not one JSON object in UTF-8.
    Header(String),
    /// `size` was not one integer from 0 to the cap.
    BodySize {
        /// What stood there.
        found: String,
        /// The cap at that moment.
        max: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderLength { length, max } => {
                write!(f, "header length {length}: expected 1 to {max} (a 4-byte little-endian integer)")
            }
            Self::Header(why) => write!(f, "the header is not one JSON object: {why}"),
            Self::BodySize { found, max } => write!(f, "size {found}: expected one integer from 0 to {max}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// What the decoder found next.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole header. Call [`FrameDecoder::expect_body`] before going on.
    Header(&'a [u8]),
    /// The next bytes of the body, at least one.
    Body(&'a [u8]),
    /// The frame is complete; follows each header, after its body.
    End,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Collecting the length and then the header; what came so far is in `tail`.
    Header,
    /// A header was handed out and its body's length is not known yet.
    Undecided,
    /// That many bytes of the body are still to come.
    Body(usize),
}

/// Takes bytes in any portions, gives frames; see the module's page.
#[derive(Debug)]
pub struct FrameDecoder {
    limits: Limits,
    state: State,
    /// The unfinished beginning of a frame: at most length and header.
    tail: Vec<u8>,
}

impl FrameDecoder {
    /// A decoder at the beginning of a frame.
    pub fn new(limits: Limits) -> Self {
        FrameDecoder { limits, state: State::Header, tail: Vec::new() }
    }

    /// Other caps from the next frame on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The caps in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether the last frame is complete and no byte of the next one came:
    /// an end of input here is a clean one.
    pub fn is_between_frames(&self) -> bool {
        self.state == State::Header && self.tail.is_empty()
    }

    /// Bytes of the present body that are still to come.
    pub fn body_left(&self) -> usize {
        match self.state {
            State::Body(left) => left,
            _ => 0,
        }
    }

    /// Takes from the front of `input`; `None` means that it needs more.
    ///
    /// # Panics
    /// When called after [`Piece::Header`] without [`FrameDecoder::expect_body`].
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Piece<'a>>, FrameError> {
        match self.state {
            State::Header => self.next_header(input),
            State::Undecided => panic!("expect_body was not called for the header handed out"),
            State::Body(0) => {
                self.state = State::Header;
                Ok(Some(Piece::End))
            }
            State::Body(_) if input.is_empty() => Ok(None),
            State::Body(left) => {
                let (body, rest) = input.split_at(left.min(input.len()));
                *input = rest;
                self.state = State::Body(left - body.len());
                Ok(Some(Piece::Body(body)))
            }
        }
    }

    fn next_header<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Piece<'a>>, FrameError> {
        if self.tail.is_empty() && input.len() >= LENGTH_BYTES {
            // The usual case: the whole header is in the caller's buffer.
            let total = LENGTH_BYTES + self.header_length(input)?;
            if input.len() >= total {
                let (header, rest) = input.split_at(total);
                *input = rest;
                self.state = State::Undecided;
                return Ok(Some(Piece::Header(&header[LENGTH_BYTES..])));
            }
        }
        if self.tail.len() < LENGTH_BYTES {
            self.take(input, LENGTH_BYTES);
            if self.tail.len() < LENGTH_BYTES {
                return Ok(None);
            }
        }
        let total = LENGTH_BYTES + self.header_length(&self.tail)?;
        self.take(input, total);
        if self.tail.len() < total {
            return Ok(None);
        }
        self.state = State::Undecided;
        Ok(Some(Piece::Header(&self.tail[LENGTH_BYTES..])))
    }

    /// Moves bytes from `input` to the tail until that holds `total`.
    fn take(&mut self, input: &mut &[u8], total: usize) {
        let (now, rest) = input.split_at((total - self.tail.len()).min(input.len()));
        self.tail.extend_from_slice(now);
        *input = rest;
    }

    fn header_length(&self, bytes: &[u8]) -> Result<usize, FrameError> {
        let length = LittleEndian::read_i32(bytes);
        match usize::try_from(length) {
            Ok(n) if (1..=self.limits.header).contains(&n) => Ok(n),
            _ => Err(FrameError::HeaderLength { length, max: self.limits.header }),
        }
    }

    /// Says how long the body of the header just handed out is, in bytes. The
    /// caller has checked it against the cap, where it read the header.
    pub fn expect_body(&mut self, size: usize) {
        debug_assert!(self.state == State::Undecided && size <= self.limits.body);
        self.state = State::Body(size);
        // An idle connection keeps no buffer.
        self.tail = Vec::new();
    }
}

/// Appends one frame's length and header to `out`; the body follows by itself.
///
/// # Panics
/// When the header is longer than [`super::MAX_HEADER`]: the server bounds
/// every text that it puts into one.
pub fn encode_header(header: &impl serde::Serialize, out: &mut Vec<u8>) {
    encode_header_with(out, |out| {
        serde_json::to_writer(out, header).expect("a header of plain data serializes into memory");
    });
}

/// Appends one frame's length and the header that `write` appends; for the
/// few headers that are worth writing by hand.
///
/// # Panics
/// As [`encode_header`].
pub fn encode_header_with(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    write(out);
    let length = out.len() - start - LENGTH_BYTES;
    assert!(length <= super::MAX_HEADER, "a header of {length} bytes is over the cap");
    let length = i32::try_from(length).expect("under the cap");
    LittleEndian::write_i32(&mut out[start..], length);
}

/// One frame with its body, as bytes: for clients and tests.
pub fn encode(header: &impl serde::Serialize, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_header(header, &mut out);
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drives a decoder over `chunks`; a header's text is its body's length.
    fn transcript(chunks: &[&[u8]]) -> Result<Vec<(String, Vec<u8>)>, FrameError> {
        let mut decoder = FrameDecoder::new(Limits::FULL);
        let mut frames = Vec::new();
        for chunk in chunks {
            let mut input = *chunk;
            loop {
                let size = match decoder.next(&mut input)? {
                    None => break,
                    Some(Piece::Header(h)) => {
                        let text = String::from_utf8(h.to_vec()).unwrap();
                        let size = text.trim().parse().unwrap();
                        frames.push((text, Vec::new()));
                        size
                    }
                    Some(Piece::Body(b)) => {
                        assert!(!b.is_empty());
                        frames.last_mut().unwrap().1.extend_from_slice(b);
                        continue;
                    }
                    Some(Piece::End) => continue,
                };
                decoder.expect_body(size);
            }
            assert!(input.is_empty(), "a decoder that needs more has taken everything");
        }
        assert!(decoder.is_between_frames());
        Ok(frames)
    }

    fn frame(header: &str, body: &[u8]) -> Vec<u8> {
        let mut out = (header.len() as i32).to_le_bytes().to_vec();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn every_possible_chunking_of_a_short_stream_decodes_alike() {
        let stream = [frame("3", b"abc"), frame("0", b""), frame("01", b"z")].concat();
        let whole = transcript(&[&stream]).unwrap();
        assert_eq!(whole.len(), 3);
        // Each bit of `cuts` says whether the stream is cut after that byte.
        for cuts in 0u32..1 << (stream.len() - 1) {
            let mut chunks = Vec::new();
            let mut start = 0;
            for at in 1..stream.len() {
                if cuts & (1 << (at - 1)) != 0 {
                    chunks.push(&stream[start..at]);
                    start = at;
                }
            }
            chunks.push(&stream[start..]);
            assert_eq!(transcript(&chunks).unwrap(), whole, "cuts {cuts:b}");
        }
    }

    #[test]
    fn a_length_is_refused_before_anything_is_kept_for_it() {
        for bad in [0, -1, i32::MIN, i32::MAX, 65_537, 70_000] {
            let mut decoder = FrameDecoder::new(Limits::FULL);
            for (i, byte) in bad.to_le_bytes().iter().enumerate() {
                let bytes = [*byte];
                let got = decoder.next(&mut &bytes[..]);
                if i < 3 {
                    assert_eq!(got, Ok(None));
                } else {
                    assert_eq!(got, Err(FrameError::HeaderLength { length: bad, max: 65_536 }));
                }
            }
            assert!(decoder.tail.capacity() <= 64);
        }
    }

    #[test]
    fn the_cap_before_authentication_is_smaller() {
        let mut decoder = FrameDecoder::new(Limits::UNAUTHENTICATED);
        let length = 4_097i32.to_le_bytes();
        assert!(decoder.next(&mut &length[..]).is_err());
        let mut decoder = FrameDecoder::new(Limits::UNAUTHENTICATED);
        let length = 4_096i32.to_le_bytes();
        assert_eq!(decoder.next(&mut &length[..]), Ok(None));
    }

    #[test]
    fn the_first_four_bytes_of_other_protocols_are_over_the_cap() {
        for hello in [&b"GET / HTTP/1.1"[..], b"POST", b"HEAD", b"PUT ", b"OPTIONS", b"\x16\x03\x01\x02\x00"] {
            let mut decoder = FrameDecoder::new(Limits::FULL);
            assert!(matches!(decoder.next(&mut &hello[..]), Err(FrameError::HeaderLength { .. })), "{hello:?}");
        }
    }

    #[test]
    fn an_idle_decoder_holds_no_memory() {
        let mut decoder = FrameDecoder::new(Limits::FULL);
        for byte in frame("0", b"") {
            let bytes = [byte];
            let mut input = &bytes[..];
            if let Ok(Some(Piece::Header(_))) = decoder.next(&mut input) {
                decoder.expect_body(0);
            }
        }
        assert_eq!(decoder.next(&mut &[][..]), Ok(Some(Piece::End)));
        assert_eq!(decoder.tail.capacity(), 0);
    }
}
