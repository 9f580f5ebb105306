//! A bare NATS client: JetStream publishing with a window, and publish to deliver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Outcome;

pub struct Nats {
    reader: BufReader<TcpStream>,
    line: Vec<u8>,
    body: Vec<u8>,
}

impl Nats {
    pub fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut nats = Self { reader: BufReader::with_capacity(64 << 10, stream), line: Vec::new(), body: Vec::new() };
        nats.read_line()?;
        nats.send(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"protocol\":1}\r\nPING\r\n")?;
        nats.read_line()?;
        match &nats.line[..] {
            b"PONG\r\n" => Ok(nats),
            line => Err(format!("expected PONG, got {}", String::from_utf8_lossy(line)).into()),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        Ok(self.reader.get_mut().write_all(bytes)?)
    }

    /// Whether more has been received.
    pub fn has_line(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }

    fn read_line(&mut self) -> Outcome<()> {
        self.line.clear();
        match self.reader.read_until(b'\n', &mut self.line)? {
            0 => Err("the server has closed the connection".into()),
            _ => Ok(()),
        }
    }

    /// The next message: its subject and its payload.
    pub fn message(&mut self) -> Outcome<(String, &[u8])> {
        loop {
            self.read_line()?;
            let line = String::from_utf8_lossy(&self.line).into_owned();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["MSG", subject, .., length] => {
                    self.body.resize(length.parse::<usize>()? + 2, 0);
                    self.reader.read_exact(&mut self.body)?;
                    return Ok((subject.to_owned(), &self.body[..self.body.len() - 2]));
                }
                ["PING"] => self.send(b"PONG\r\n")?,
                ["-ERR", ..] => return Err(line.into()),
                _ => {}
            }
        }
    }

    /// Makes a stream in files; the answer must not be an error.
    pub fn create_stream(&mut self, name: &str) -> Outcome<()> {
        let body =
            format!("{{\"name\":\"{name}\",\"subjects\":[\"{name}.>\"],\"storage\":\"file\",\"num_replicas\":1}}");
        let subject = format!("$JS.API.STREAM.CREATE.{name}");
        self.send(format!("SUB made 9\r\nPUB {subject} made {}\r\n{body}\r\n", body.len()).as_bytes())?;
        let (_, answer) = self.message()?;
        let answer = String::from_utf8_lossy(answer);
        if answer.contains("\"error\"") { Err(answer.into_owned().into()) } else { Ok(()) }
    }
}
