//! A small HTTP/1.1 client over `TcpStream`: enough to see exactly what nginx's client sees, cut bodies included.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::wait::scaled;

/// No answer of the lab's nginx takes longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// [`Response::status`] of an answer without a header.
const HTTP_09: u16 = 9;

/// What the client got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status; 9 for an answer without a header (HTTP/0.9), 0 when nginx closed without any answer.
    pub status: u16,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without chunk framing.
    pub body: Vec<u8>,
    /// The connection ended before the body that the header announced.
    pub truncated: bool,
}

impl Response {
    /// The first header field named `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// One client connection, kept alive between requests.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, scaled(PATIENCE))?;
        stream.set_read_timeout(Some(scaled(PATIENCE)))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Sends a request (`Connection: keep-alive`) without waiting for its answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<()> {
        self.send_head(method, path, body.len())?;
        self.send_bytes(body)
    }

    /// Sends a request's header only; `length` bytes of body have to follow.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send_head(&mut self, method: &str, path: &str, length: usize) -> io::Result<()> {
        let announce = if length > 0 { format!("Content-Length: {length}\r\n") } else { String::new() };
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: lab.test\r\nConnection: keep-alive\r\n{announce}\r\n");
        self.send_bytes(head.as_bytes())
    }

    /// Sends a part of a body.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// When the connection ends within a header, or is silent for 15 s.
    pub fn receive(&mut self) -> io::Result<Response> {
        if self.stream.fill_buf()?.is_empty() {
            return Ok(Response { truncated: true, ..Response::default() });
        }
        let mut response = self.receive_header()?;
        if response.status == HTTP_09 {
            return Ok(response);
        }
        let chunked = response.header("transfer-encoding") == Some("chunked");
        let length = response.header("content-length").and_then(|text| text.parse::<u64>().ok());
        response.truncated = match (chunked, length) {
            (true, _) => self.receive_chunks(&mut response.body)?,
            (false, Some(length)) => self.receive_part(length, &mut response.body)?,
            (false, None) if matches!(response.status, 204 | 304) => false,
            // Upgraded: what follows is no body, and has no end of its own.
            (false, None) if response.status == 101 => {
                self.receive_part(u64::MAX, &mut response.body)?;
                true
            }
            (false, None) => {
                self.receive_part(u64::MAX, &mut response.body)?;
                false
            }
        };
        Ok(response)
    }

    fn receive_header(&mut self) -> io::Result<Response> {
        let status_line = self.line()?;
        let Some(rest) = status_line.strip_prefix("HTTP/") else {
            return Ok(Response { status: HTTP_09, body: status_line.into_bytes(), ..Response::default() });
        };
        let status =
            rest.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut response = Response { status, ..Response::default() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(response);
            }
            if let Some((name, value)) = line.split_once(':') {
                response.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }

    /// Reads at most `length` bytes; true when fewer came.
    fn receive_part(&mut self, length: u64, body: &mut Vec<u8>) -> io::Result<bool> {
        match (&mut self.stream).take(length).read_to_end(body) {
            Ok(got) => Ok((got as u64) < length),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Reads chunks; true when the last one is missing.
    fn receive_chunks(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let Ok(line) = self.line() else { return Ok(true) };
            let Ok(size) = u64::from_str_radix(line.trim(), 16) else { return Ok(true) };
            if self.receive_part(size, body)? || self.line().is_err() {
                return Ok(true);
            }
            if size == 0 {
                return Ok(false);
            }
        }
    }
}
