//! The yardstick of uploads: the same bytes through a socket to the same disk,
//! with no frames, no checksum and, at will, no fsync. A file takes its name
//! when it is whole here too.

use crate::Result;
use crate::process::Process;
use reactord::client::bench::Figures;
use reactord::client::bench::figures::Latencies;
use reactord::client::bench::payload::Content;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Bytes moved at once; what reactord writes at once, too.
const PIECE: usize = 256 << 10;

/// What the copier says when a file is there.
const DONE: u8 = b'+';

/// A running copier, and where its file lies.
pub struct Copier {
    pub name: &'static str,
    address: SocketAddr,
    _process: Process,
    _home: TempDir,
}

/// Starts a copier that waits for the disk, or not.
pub fn start(name: &'static str, role: &str) -> Result<Copier> {
    let home = tempfile::tempdir()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--role", role]).current_dir(home.path()).stdout(Stdio::piped());
    let mut process = Process::spawn(&mut command)?;
    let mut line = String::new();
    BufReader::new(process.stdout().ok_or("no standard output")?).read_line(&mut line)?;
    Ok(Copier { name, address: line.trim().parse()?, _process: process, _home: home })
}

/// Serves one connection after the other until it is killed; prints its
/// address first. Each file is announced by its length, eight bytes.
pub fn serve(is_durable: bool) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    let mut buffer = vec![0; PIECE];
    loop {
        let (mut socket, _) = listener.accept()?;
        let mut length = [0; 8];
        while socket.read_exact(&mut length).is_ok() {
            receive(&mut socket, u64::from_le_bytes(length), is_durable, &mut buffer)?;
            socket.write_all(&[DONE])?;
        }
    }
}

fn receive(socket: &mut TcpStream, length: u64, is_durable: bool, buffer: &mut [u8]) -> io::Result<()> {
    let mut file = File::create("new")?;
    let mut left = length;
    while left > 0 {
        let want = left.min(buffer.len() as u64) as usize;
        let n = socket.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all(&buffer[..n])?;
        left -= n as u64;
    }
    if is_durable {
        file.sync_all()?;
    }
    std::fs::rename("new", "file")
}

impl Copier {
    /// Sends it a file again and again, for so long.
    pub fn put(&self, content: &Content, time: Duration) -> Result<Figures> {
        let mut socket = TcpStream::connect(self.address)?;
        let (mut count, mut latencies) = (0, Latencies::default());
        let began = Instant::now();
        while began.elapsed() < time {
            let start = Instant::now();
            socket.write_all(&content.length().to_le_bytes())?;
            let mut offset = 0;
            while offset < content.length() {
                let bytes = content.at(offset, PIECE);
                socket.write_all(bytes)?;
                offset += bytes.len() as u64;
            }
            let mut done = [0];
            socket.read_exact(&mut done)?;
            if done[0] != DONE {
                return Err("the copier said something else".into());
            }
            latencies.record(start, Instant::now());
            count += 1;
        }
        Ok(Figures::new(count, count * content.length(), began.elapsed(), &latencies))
    }
}
