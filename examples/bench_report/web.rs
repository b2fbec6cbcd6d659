//! nginx with one file, and whole downloads of it, every byte compared.

use crate::Result;
use crate::process::{Process, find, free_address};
use crate::servers::{quiet, version};
use reactord::client::bench::Figures;
use reactord::client::bench::figures::Latencies;
use reactord::client::bench::payload::Content;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Bytes asked of a socket at once; what the load asks of a reactord, too.
const READ: usize = 512 << 10;

/// The longest head of an answer.
const HEAD: usize = 8 << 10;

/// A running nginx.
pub struct Web {
    pub version: String,
    address: SocketAddr,
    _process: Process,
    home: TempDir,
}

pub fn start() -> Result<Web> {
    let program = find("nginx").ok_or("nginx is not installed")?;
    let (home, address) = (tempfile::tempdir()?, free_address()?);
    // Its worker may belong to another user.
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755))?;
    let dir = home.path().display();
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {dir}/pid; error_log {dir}/log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;
  uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;
  server {{ listen {address}; root {dir}; }}
}}
"
    );
    let path = home.path().join("nginx.conf");
    std::fs::write(&path, config)?;
    let mut command = Command::new(&program);
    command.arg("-e").arg(home.path().join("log")).arg("-c").arg(&path);
    let process = quiet(command, &home, address)?;
    Ok(Web { version: version(&program)?, address, _process: process, home })
}

impl Web {
    /// Puts a file where nginx finds it.
    pub fn store(&self, content: &Content) -> Result<()> {
        let mut file = std::fs::File::create(self.home.path().join("file"))?;
        let mut offset = 0;
        while offset < content.length() {
            let bytes = content.at(offset, READ);
            file.write_all(bytes)?;
            offset += bytes.len() as u64;
        }
        Ok(())
    }

    /// Downloads it again and again on so many connections, for so long.
    pub fn get(&self, content: &Content, connections: usize, time: Duration) -> Result<Figures> {
        let sockets = (0..connections).map(|_| TcpStream::connect(self.address)).collect::<io::Result<Vec<_>>>()?;
        let began = Instant::now();
        let (count, latencies) = std::thread::scope(|scope| {
            let threads: Vec<_> = sockets
                .iter()
                .map(|socket| {
                    scope.spawn(move || {
                        let (mut count, mut latencies) = (0, Latencies::default());
                        let mut buffer = vec![0; READ];
                        while began.elapsed() < time {
                            let start = Instant::now();
                            download(socket, content, &mut buffer)?;
                            latencies.record(start, Instant::now());
                            count += 1;
                        }
                        io::Result::Ok((count, latencies))
                    })
                })
                .collect();
            let (mut all, mut total) = (Latencies::default(), 0);
            for thread in threads {
                let joined = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                let (count, latencies): (u64, Latencies) = joined?;
                all.merge(&latencies);
                total += count;
            }
            io::Result::Ok((total, all))
        })?;
        Ok(Figures::new(count, count * content.length(), began.elapsed(), &latencies))
    }
}

fn download(mut socket: &TcpStream, content: &Content, buffer: &mut [u8]) -> io::Result<()> {
    socket.write_all(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut filled = 0;
    let body = loop {
        let n = socket.read(&mut buffer[filled..])?;
        filled += n;
        let end = buffer[..filled.min(HEAD)].windows(4).position(|bytes| bytes == b"\r\n\r\n");
        match end {
            Some(end) => break end + 4,
            None if n == 0 || filled >= HEAD => return Err(io::Error::other("no HTTP answer")),
            None => {}
        }
    };
    let head = String::from_utf8_lossy(&buffer[..body]).to_lowercase();
    if !head.starts_with("http/1.1 200 ") || !head.contains(&format!("\r\ncontent-length: {}\r\n", content.length())) {
        return Err(io::Error::other(format!("an unexpected answer: {head}")));
    }
    let (mut from, mut offset) = (body, 0);
    loop {
        let bytes = &buffer[from..filled];
        if !content.holds(offset, bytes) {
            return Err(io::Error::other(format!("other bytes behind {offset}")));
        }
        offset += bytes.len() as u64;
        if offset == content.length() {
            return Ok(());
        }
        from = 0;
        filled = socket.read(buffer)?;
        if filled == 0 {
            return Err(io::Error::other(format!("the answer ended after {offset} bytes")));
        }
    }
}
