//! A connection's socket, plain or encrypted.

use std::io;
use std::os::fd::AsRawFd as _;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::super::log::SegmentSlice;
use super::blocking::run_blocking;
use super::reply::Reply;

/// How much of a file range is read at a time when it must be encrypted.
const STRIDE: usize = 256 << 10;

pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Reads what there is into the room that `buffer` has. Nothing is lost when the future is
    /// dropped.
    pub(super) async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read_buf(buffer).await,
            Self::Tls(stream) => stream.read_buf(buffer).await,
        }
    }

    /// Sends a reply.
    pub(super) async fn write(&mut self, reply: &Reply) -> io::Result<()> {
        let mut sent = 0;
        for (at, slice) in &reply.files {
            match self {
                Self::Plain(socket) => {
                    send_more(socket, &reply.bytes[sent..*at]).await?;
                    send_file(socket, slice).await?;
                }
                Self::Tls(stream) => {
                    stream.write_all(&reply.bytes[sent..*at]).await?;
                    copy_file(stream, slice).await?;
                }
            }
            sent = *at;
        }
        let rest = &reply.bytes[sent..];
        match self {
            Self::Plain(socket) => socket.write_all(rest).await,
            Self::Tls(stream) => {
                stream.write_all(rest).await?;
                stream.flush().await
            }
        }
    }
}

/// Sends bytes and tells the kernel that more follow at once, so that they need no packet of their
/// own.
async fn send_more(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = socket
            .async_io(Interest::WRITABLE, || {
                let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
                // SAFETY: the pointer and the length are those of a live slice, the socket is open.
                let n = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
                if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
            })
            .await?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Sends a range of a file from the page cache.
async fn send_file(socket: &TcpStream, slice: &SegmentSlice) -> io::Result<()> {
    if !slice.is_cached() {
        // The disk may take its time; other connections of this worker do not wait for it.
        run_blocking(|| slice.load())?;
    }
    let mut left = slice.len;
    let mut position = slice.position as libc::off_t;
    while left > 0 {
        let sent = socket
            .async_io(Interest::WRITABLE, || {
                // SAFETY: both descriptors are open; `position` is a valid, writable off_t.
                let n = unsafe { libc::sendfile(socket.as_raw_fd(), slice.file.as_raw_fd(), &mut position, left) };
                if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
            })
            .await?;
        if sent == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= sent;
    }
    Ok(())
}

/// Reads a range of a file piece by piece and sends it encrypted.
async fn copy_file(stream: &mut TlsStream<TcpStream>, slice: &SegmentSlice) -> io::Result<()> {
    let mut buffer = vec![0; slice.len.min(STRIDE)];
    let mut done = 0;
    while done < slice.len {
        let step = (slice.len - done).min(STRIDE);
        let piece = SegmentSlice { position: slice.position + done as u64, len: step, ..slice.clone() };
        match piece.is_cached() {
            true => piece.read(&mut buffer[..step])?,
            false => run_blocking(|| piece.read(&mut buffer[..step]))?,
        }
        stream.write_all(&buffer[..step]).await?;
        done += step;
    }
    Ok(())
}
