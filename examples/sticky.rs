//! Three sends that arrive as one read, and the frame decoder that tells them
//! apart: `cargo run --example sticky`. docs/FRAMING.md tells the story.

use reactord::wire::frame::{FrameDecoder, Limits, Piece, encode};
use serde_json::json;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// Sends three messages through a loopback connection and returns what one
/// read brings when all of them are there.
fn read_after_three_sends(messages: [&[u8]; 3]) -> io::Result<Vec<u8>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    for message in messages {
        sender.write_all(message)?;
    }
    let mut bytes = vec![0; 4_096];
    // Waits until all is there, so that the result does not hang on luck.
    while receiver.peek(&mut bytes)? < messages.iter().map(|message| message.len()).sum() {}
    let n = receiver.read(&mut bytes)?;
    bytes.truncate(n);
    Ok(bytes)
}

/// Shows both ways of sending the same three words.
pub fn show(out: &mut impl Write) -> io::Result<()> {
    let words = ["one", "two", "three"];

    let bytes = read_after_three_sends(words.map(str::as_bytes))?;
    writeln!(out, "three sends, one read: {:?}", String::from_utf8_lossy(&bytes))?;

    let frames = words.map(|word| encode(&json!({"size": word.len()}), word.as_bytes()));
    let bytes = read_after_three_sends([&frames[0], &frames[1], &frames[2]])?;
    writeln!(out, "as frames, one read: {} bytes", bytes.len())?;

    // The worst that can happen to them on the way: every byte comes alone.
    let mut decoder = FrameDecoder::new(Limits::FULL);
    let mut word = Vec::new();
    for byte in bytes {
        let mut input = &[byte][..];
        while let Some(piece) = decoder.next(&mut input).map_err(io::Error::other)? {
            match piece {
                Piece::Header(header) => {
                    let header: serde_json::Value = serde_json::from_slice(header)?;
                    decoder.expect_body(header["size"].as_u64().unwrap_or(0) as usize);
                }
                Piece::Body(bytes) => word.extend_from_slice(bytes),
                Piece::End => writeln!(out, "a frame: {:?}", String::from_utf8_lossy(&std::mem::take(&mut word)))?,
            }
        }
    }
    Ok(())
}

#[allow(dead_code, reason = "the test that compares the output with the page calls `show`")]
fn main() -> io::Result<()> {
    show(&mut io::stdout())
}
