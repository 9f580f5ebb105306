//! One question to one broker in Kafka's own protocol, over the listener between brokers.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};

/// The longest answer that is taken for one.
const MAX_ANSWER: usize = 1 << 20;
/// So much time each step of an exchange has, however near the deadline is.
const LEAST: Duration = Duration::from_millis(100);

/// The name of an error code.
pub(super) fn named(code: i16) -> String {
    ResponseError::try_from_code(code).map_or_else(|| "no error".to_owned(), |error| error.to_string())
}

/// One request and its answer on a connection of their own.
///
/// # Errors
/// In words, with the address: nobody is there, no answer in time, or one that cannot be read.
pub(super) fn ask<R: Request>(
    to: SocketAddrV4,
    request: &R,
    version: i16,
    deadline: Instant,
) -> Result<R::Response, String> {
    let left = || deadline.saturating_duration_since(Instant::now()).max(LEAST);
    let exchange = || -> std::io::Result<Bytes> {
        let mut stream = TcpStream::connect_timeout(&to.into(), left())?;
        stream.set_read_timeout(Some(left()))?;
        stream.set_write_timeout(Some(left()))?;
        let mut body = BytesMut::new();
        let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
        header.encode(&mut body, R::header_version(version)).map_err(std::io::Error::other)?;
        request.encode(&mut body, version).map_err(std::io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &body].concat())?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_ANSWER {
            return Err(std::io::Error::other(format!("an answer of {length} B")));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        Ok(answer.into())
    };
    let mut answer = exchange().map_err(|e| format!("{to}: {e}"))?;
    ResponseHeader::decode(&mut answer, R::Response::header_version(version))
        .and_then(|_| R::Response::decode(&mut answer, version))
        .map_err(|e| format!("{to}: an answer cannot be read: {e}"))
}
