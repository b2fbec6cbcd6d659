//! Frames as a client sees them, read by a parser of the tests' own that
//! holds the server to its caps.

use serde_json::Value;

/// The caps of the protocol, in bytes; they bind the server too.
const MAX_HEADER: usize = 65_536;
const MAX_BODY: usize = 1_048_576;

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub header: Value,
    pub body: Vec<u8>,
}

impl Frame {
    /// The `re` of an answer, or the `event`.
    pub fn kind(&self) -> &str {
        self.header["re"].as_str().or(self.header["event"].as_str()).unwrap_or("null")
    }

    pub fn id(&self) -> Option<u64> {
        self.header["id"].as_u64()
    }

    pub fn error(&self) -> Option<&str> {
        self.header["error"].as_str()
    }

    pub fn is_event(&self) -> bool {
        self.header.get("event").is_some()
    }
}

/// A client's frame as bytes; a body that is not empty announces itself.
pub fn frame(mut header: Value, body: &[u8]) -> Vec<u8> {
    if !body.is_empty() {
        header["size"] = body.len().into();
    }
    raw_frame(header.to_string().as_bytes(), body)
}

/// A frame whose header need not be JSON.
pub fn raw_frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    [&(header.len() as i32).to_le_bytes()[..], header, body].concat()
}

/// Gathers what a server sent and cuts it into frames.
#[derive(Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
    at: usize,
}

impl FrameReader {
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Panics
    /// Where the bytes are no frame of a server that keeps to the protocol.
    pub fn next_frame(&mut self) -> Option<Frame> {
        let rest = &self.bytes[self.at..];
        let length = i32::from_le_bytes(*rest.first_chunk()?);
        let length = usize::try_from(length).expect("a positive header length");
        assert!((1..=MAX_HEADER).contains(&length), "a header of {length} bytes");
        let header = rest.get(4..4 + length)?;
        let header: Value = serde_json::from_slice(header).expect("a header of JSON");
        assert!(header.is_object(), "{header}");
        assert!(header.get("re").is_some() != header.get("event").is_some(), "{header}");
        let size = header.get("size").map_or(0, |size| size.as_u64().expect("a size") as usize);
        assert!(size <= MAX_BODY, "a body of {size} bytes");
        let body = rest.get(4 + length..4 + length + size)?.to_vec();
        self.at += 4 + length + size;
        Some(Frame { header, body })
    }

    /// Whether no unfinished frame is left.
    pub fn is_clean(&self) -> bool {
        self.at == self.bytes.len()
    }
}
