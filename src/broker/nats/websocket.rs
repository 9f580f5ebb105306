//! Clients that speak the protocol inside WebSocket frames (RFC 6455), as browsers do.
//!
//! The frames are taken off here, and what is in them goes through a pair of sockets to an ordinary
//! connection. That costs a copy more in the kernel for each direction, and the fast path of all
//! other clients knows nothing of it.
//!
//! Invariants: a frame is never held as a whole, so its size needs no bound; the opening handshake
//! has one on size and time.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::connection;
use super::counters::Counters;
use super::hub::{AdmissionPermit, NatsHub};

/// The longest head of an opening request, in bytes.
const MAX_HEAD: u64 = 8 * 1024;
/// Bytes of one frame that is sent, at most.
const CHUNK: usize = 64 * 1024;
/// How long the last frame may take to be sent.
const LINGER: Duration = Duration::from_secs(1);

/// Serves WebSocket clients until it is dropped.
pub(super) async fn serve(hub: Arc<NatsHub>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                Counters::add(&hub.counters.connections, 1);
                match hub.place() {
                    Some(place) => drop(tokio::spawn(open(Arc::clone(&hub), socket, peer, place))),
                    None => Counters::add(&hub.counters.refused, 1),
                }
            }
            // Out of descriptors, or a client that has gone again: both pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn open(hub: Arc<NatsHub>, socket: TcpStream, peer: SocketAddr, place: AdmissionPermit) {
    // Without it every small answer would wait for the previous one's acknowledgement.
    let _ = socket.set_nodelay(true);
    match &hub.acceptor {
        None => serve_connection(hub, socket, peer, place).await,
        Some(acceptor) => match timeout(hub.config.tls_timeout, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => serve_connection(hub, stream, peer, place).await,
            Ok(Err(_)) | Err(_) => Counters::add(&hub.counters.tls_failures, 1),
        },
    }
}

async fn serve_connection<S>(hub: Arc<NatsHub>, stream: S, peer: SocketAddr, place: AdmissionPermit)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reading, mut writing) = tokio::io::split(stream);
    let mut reading = BufReader::with_capacity(CHUNK, reading);
    let Ok(Ok(head)) = timeout(hub.config.auth_timeout, read_head(&mut reading)).await else { return };
    let (answer, welcome) = match accept_key(&head) {
        Some(accept) => (
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            ),
            true,
        ),
        None => ("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(), false),
    };
    let written = timeout(LINGER, writing.write_all(answer.as_bytes())).await;
    if !welcome || !matches!(written, Ok(Ok(()))) {
        return;
    }
    let Ok((near, far)) = pair().await else { return };
    tokio::spawn(connection::serve_inner(hub, far, peer, place));
    let (mut from_broker, mut to_broker) = near.into_split();
    let writing = Mutex::new(writing);
    let receiving = receive(&mut reading, &mut to_broker, &writing);
    let sending = send(&mut from_broker, &writing);
    tokio::pin!(receiving, sending);
    tokio::select! {
        // The client is gone; what the broker still sends it goes nowhere.
        _ = &mut receiving => {}
        _ = &mut sending => {
            let _ = timeout(LINGER, frame(&writing, CLOSE, &1000u16.to_be_bytes())).await;
        }
    }
}

/// Two ends of a connection within this process.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    loop {
        let (far, from) = listener.accept().await?;
        // Other clients that found the port in the meantime are refused.
        if from == near.local_addr()? {
            near.set_nodelay(true)?;
            return Ok((near, far));
        }
    }
}

async fn read_head<R: AsyncRead + Unpin>(reading: &mut BufReader<R>) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() as u64 >= MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.push(reading.read_u8().await?);
    }
    String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// What an opening request is answered with, if it is one.
fn accept_key(head: &str) -> Option<String> {
    let mut lines = head.split("\r\n");
    lines.next().filter(|line| line.starts_with("GET ") && line.ends_with(" HTTP/1.1"))?;
    let field = |name: &str| {
        let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    field("upgrade").filter(|value| value.eq_ignore_ascii_case("websocket"))?;
    field("sec-websocket-version").filter(|value| *value == "13")?;
    let key = field("sec-websocket-key")?;
    Some(STANDARD.encode(sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes())))
}

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Writes one frame.
async fn frame<S: AsyncWrite>(writing: &Mutex<WriteHalf<S>>, kind: u8, payload: &[u8]) -> io::Result<()> {
    let mut head = vec![0x80 | kind];
    match payload.len() {
        n @ 0..126 => head.push(n as u8),
        n @ 126..65_536 => {
            head.push(126);
            head.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            head.push(127);
            head.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    head.extend_from_slice(payload);
    let mut writing = writing.lock().await;
    writing.write_all(&head).await?;
    writing.flush().await
}

/// Sends the client what the broker says, until it ends.
async fn send<S: AsyncWrite>(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    writing: &Mutex<WriteHalf<S>>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk).await? {
            0 => return Ok(()),
            n => frame(writing, BINARY, &chunk[..n]).await?,
        }
    }
}

/// Hands the broker what is in the client's frames, until it closes.
async fn receive<S: AsyncRead + AsyncWrite>(
    reading: &mut BufReader<ReadHalf<S>>,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    writing: &Mutex<WriteHalf<S>>,
) -> io::Result<()> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let mut chunk = vec![0; CHUNK];
    loop {
        let (first, second) = (reading.read_u8().await?, reading.read_u8().await?);
        let mut left = match second & 0x7f {
            126 => u64::from(reading.read_u16().await?),
            127 => reading.read_u64().await?,
            n => u64::from(n),
        };
        // A client's frames are masked, and no extension has been agreed on.
        if second & 0x80 == 0 || first & 0x70 != 0 {
            return Err(wrong());
        }
        let mut mask = [0; 4];
        reading.read_exact(&mut mask).await?;
        let kind = first & 0x0f;
        if kind >= CLOSE && left > 125 {
            return Err(wrong());
        }
        let mut at = 0;
        let mut control = Vec::new();
        while left > 0 {
            let n = reading.read(&mut chunk[..CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))]).await?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for byte in &mut chunk[..n] {
                *byte ^= mask[at % 4];
                at += 1;
            }
            left -= n as u64;
            match kind {
                CLOSE.. => control.extend_from_slice(&chunk[..n]),
                _ => to.write_all(&chunk[..n]).await?,
            }
        }
        match kind {
            0..=BINARY | PONG => {}
            PING => frame(writing, PONG, &control).await?,
            CLOSE => {
                frame(writing, CLOSE, &control).await?;
                return Ok(());
            }
            _ => return Err(wrong()),
        }
    }
}

/// SHA-1, which the opening handshake asks for; nothing is kept safe by it.
fn sha1(text: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = text.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - text.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let at = padded.len() - 8;
    padded[at..].copy_from_slice(&(text.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for i in 16..80 {
            words[i] = (words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (i, word) in words.iter().enumerate() {
            let (f, k) = match i {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut out = [0; 20];
    for (four, word) in out.chunks_exact_mut(4).zip(state) {
        four.copy_from_slice(&word.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_opening_handshake_of_the_standard() {
        let head = "GET / HTTP/1.1\r\nHost: x\r\nupgrade: WebSocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        assert_eq!(accept_key(head).as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(accept_key(&head.replace("13", "12")), None);
        assert_eq!(accept_key("GET / HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn sha1_of_known_texts() {
        let hex = |text: &[u8]| sha1(text).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hex(&[b'a'; 64]), "0098ba824b5c16427bd7a1122a5a442a25ec644d");
    }
}
