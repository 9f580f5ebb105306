//! One connection to a broker in Kafka's own protocol: requests in order, responses in order.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ApiVersionsRequest, RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::net::TcpStream;

use crate::driver::DriverError;
use crate::units::{Nanos, now};

/// What responses are read in.
const ROOM: usize = 64 * 1024;
/// The longest response that is taken for one.
const MAX_RESPONSE: usize = 512 << 20;
const CLIENT: StrBytes = StrBytes::from_static_str("msgbench");

/// What every connection of a client needs.
#[derive(Debug, Clone)]
pub(in crate::driver::kafka) struct BrokerAccess {
    /// The URL without credentials: what errors say.
    pub(in crate::driver::kafka) url: String,
    /// Bound on a connection attempt and on a request.
    pub(in crate::driver::kafka) timeout: Duration,
    /// User and password for SASL PLAIN.
    pub(in crate::driver::kafka) login: Option<(String, String)>,
}

impl BrokerAccess {
    pub(in crate::driver::kafka) fn lost(&self, words: impl Into<String>) -> DriverError {
        DriverError::Lost { url: self.url.clone(), words: words.into() }
    }

    /// Reads what a response says.
    pub(in crate::driver::kafka) fn decode<R: Request>(
        &self,
        mut frame: Bytes,
        version: i16,
    ) -> Result<R::Response, DriverError> {
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version));
        header
            .and_then(|_| R::Response::decode(&mut frame, version))
            .map_err(|e| self.lost(format!("an answer cannot be read: {e}")))
    }

    pub(in crate::driver::kafka) fn refused(&self, action: &str, words: String, remedy: &str) -> DriverError {
        DriverError::Admin { action: action.into(), url: self.url.clone(), words, remedy: remedy.into() }
    }
}

/// The broker's words, or the name of the error code.
pub(in crate::driver::kafka) fn words_of(code: i16, message: Option<&StrBytes>) -> String {
    let name = match ResponseError::try_from_code(code) {
        Some(ResponseError::Unknown(code)) => format!("error {code}"),
        Some(error) => error.to_string(),
        None => "no error".into(),
    };
    match message.filter(|m| !m.is_empty()) {
        Some(message) => format!("{name} ({message})"),
        None => name,
    }
}

/// The question which versions a broker speaks.
pub(in crate::driver::kafka) fn hello() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(CLIENT)
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")))
}

#[derive(Debug)]
pub(in crate::driver::kafka) struct BrokerConnection {
    stream: TcpStream,
    out: BytesMut,
    input: BytesMut,
    correlation: i32,
    /// When the latest read returned.
    pub(in crate::driver::kafka) at: Nanos,
    access: BrokerAccess,
}

impl BrokerConnection {
    /// Connects to `host:port` and logs in, within the bound.
    pub(in crate::driver::kafka) async fn open(address: &str, access: &BrokerAccess) -> Result<Self, DriverError> {
        let failed = |words: String| DriverError::Connect {
            url: access.url.clone(),
            words: format!("{address}: {words}"),
            remedy: "check that a broker runs there".into(),
        };
        let connecting = async {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
            let stream = TcpStream::connect(&addresses[..]).await?;
            stream.set_nodelay(true).map(|()| stream)
        };
        let connected = tokio::time::timeout(access.timeout, connecting).await;
        let stream = connected
            .map_err(|_| failed(format!("no answer within {} s", access.timeout.as_secs_f64())))?
            .map_err(|e| failed(e.to_string()))?;
        let mut it = Self {
            stream,
            out: BytesMut::new(),
            input: BytesMut::with_capacity(ROOM),
            correlation: 0,
            at: 0,
            access: access.clone(),
        };
        if let Some((user, password)) = &access.login {
            it.log_in(user, password).await?;
        }
        Ok(it)
    }

    async fn log_in(&mut self, user: &str, password: &str) -> Result<(), DriverError> {
        let refused = |access: &BrokerAccess, words: String| DriverError::Connect {
            url: access.url.clone(),
            words,
            remedy: "the broker wants other credentials: see the option sasl".into(),
        };
        let handshake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("PLAIN"));
        let offered = self.call(&handshake, 1).await?;
        if offered.error_code != 0 {
            let others: Vec<&str> = offered.mechanisms.iter().map(StrBytes::as_str).collect();
            let words = format!("{}; it offers {}", words_of(offered.error_code, None), others.join(", "));
            return Err(refused(&self.access, words));
        }
        let token = format!("\0{user}\0{password}");
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(token));
        let answer = self.call(&request, 2).await?;
        match answer.error_code {
            0 => Ok(()),
            code => Err(refused(&self.access, words_of(code, answer.error_message.as_ref()))),
        }
    }

    fn lost(&self, words: impl Into<String>) -> DriverError {
        self.access.lost(words)
    }

    /// Puts a request behind what is to be written.
    pub(in crate::driver::kafka) fn enqueue<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<(), DriverError> {
        self.correlation = self.correlation.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(CLIENT));
        let begin = self.out.len();
        self.out.put_u32(0);
        let header = header.encode(&mut self.out, R::header_version(version));
        let encoded = header.and_then(|()| request.encode(&mut self.out, version));
        encoded.map_err(|e| self.lost(format!("a request cannot be written: {e}")))?;
        let length = (self.out.len() - begin - 4) as u32;
        self.out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// Writes what the socket takes.
    pub(in crate::driver::kafka) fn write(&mut self) -> Result<(), DriverError> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(n) => self.out.advance(n),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(self.lost(e.to_string())),
            }
        }
        Ok(())
    }

    /// Whether the socket has taken everything.
    pub(in crate::driver::kafka) fn is_written(&self) -> bool {
        self.out.is_empty()
    }

    /// The response to the oldest request, where all of it is here.
    pub(in crate::driver::kafka) fn read(&mut self) -> Result<Option<Bytes>, DriverError> {
        loop {
            let need = match self.input.get(..4) {
                None => 4,
                Some(length) => {
                    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
                    if length > MAX_RESPONSE {
                        return Err(self.lost("what answers is no Kafka broker: its answer has no sensible length"));
                    }
                    if self.input.len() >= 4 + length {
                        self.input.advance(4);
                        return Ok(Some(self.input.split_to(length).freeze()));
                    }
                    4 + length
                }
            };
            self.input.reserve((need - self.input.len()).max(ROOM));
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) => return Err(self.lost("the broker closed the connection")),
                Ok(_) => self.at = now(),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(self.lost(e.to_string())),
            }
        }
    }

    /// Waits until the broker closes it, or says something that nothing has asked for.
    pub(in crate::driver::kafka) async fn closed(&mut self) -> DriverError {
        self.input = BytesMut::new();
        loop {
            let ready = self.stream.readable().await;
            match ready.map_err(|e| self.lost(e.to_string())).and_then(|()| self.read()) {
                Ok(None) => {}
                Ok(Some(_)) => return self.lost("the broker answered what was not asked"),
                Err(error) => return error,
            }
        }
    }

    /// Ready when there is something to read, or room for what is to be written.
    pub(in crate::driver::kafka) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.out.is_empty() && self.stream.poll_write_ready(cx).is_ready() {
            return Poll::Ready(());
        }
        // An error comes with the next read.
        let _ = ready!(self.stream.poll_read_ready(cx));
        Poll::Ready(())
    }

    /// Sends a request and waits for its response, within the bound. Nothing else may be under way.
    pub(in crate::driver::kafka) async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, DriverError> {
        self.enqueue(request, version)?;
        let bound = self.access.timeout;
        let exchange = async {
            loop {
                self.write()?;
                if let Some(frame) = self.read()? {
                    return self.access.decode::<R>(frame, version);
                }
                std::future::poll_fn(|cx| self.poll_ready(cx)).await;
            }
        };
        let answer = tokio::time::timeout(bound, exchange).await;
        answer.unwrap_or_else(|_| {
            Err(DriverError::Timeout {
                action: "wait for the broker's answer".into(),
                url: self.access.url.clone(),
                seconds: bound.as_secs_f64(),
            })
        })
    }

    /// The same connection for another runtime; call it on that one.
    pub(super) fn moved(self) -> Result<Self, DriverError> {
        let Self { stream, out, input, correlation, at, access } = self;
        let stream = stream.into_std().and_then(TcpStream::from_std);
        let stream = stream.map_err(|e| access.lost(e.to_string()))?;
        Ok(Self { stream, out, input, correlation, at, access })
    }
}
