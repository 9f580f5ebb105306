//! The two JSON objects of the protocol: INFO, which the server sends, and CONNECT, which the
//! client answers with.

use serde::{Deserialize, Serialize};

use super::config::{Auth, Config};
use super::users::Credential;

/// The version INFO carries. Clients gate features on it, so it names the nats-server release whose
/// client protocol is spoken; the build metadata says who really answers.
pub const PROTOCOL_VERSION: &str = concat!("2.15.2+msgbench.", env!("CARGO_PKG_VERSION"));

/// The fields of INFO; those that differ between connections are filled in per connection.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ServerInfo {
    pub server_id: String,
    server_name: String,
    version: &'static str,
    proto: u8,
    go: &'static str,
    pub host: String,
    pub port: u16,
    headers: bool,
    #[serde(skip_serializing_if = "is_false")]
    jetstream: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_available: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_verify: bool,
    max_payload: usize,
    client_id: u64,
    client_ip: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    nonce: String,
    #[serde(skip_serializing_if = "is_false")]
    ldm: bool,
}

fn is_false(b: &bool) -> bool {
    !*b
}

impl ServerInfo {
    pub(super) fn new(config: &Config, server_id: String, address: std::net::SocketAddr) -> Self {
        Self {
            server_id,
            server_name: config.server_name.clone(),
            version: PROTOCOL_VERSION,
            proto: 1,
            go: "none",
            host: address.ip().to_string(),
            port: address.port(),
            headers: true,
            jetstream: config.jetstream.is_some(),
            auth_required: requires_credentials(&config.auth),
            tls_required: config.tls.is_some() && !config.tls_optional,
            tls_available: config.tls.is_some() && config.tls_optional,
            tls_verify: config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
            max_payload: config.max_payload,
            client_id: 0,
            client_ip: String::new(),
            nonce: String::new(),
            ldm: false,
        }
    }

    /// The INFO line for one connection, CRLF included.
    pub(super) fn line(&self, client_id: u64, client_ip: String, nonce: &str, ldm: bool) -> Vec<u8> {
        let info = Self { client_id, client_ip, nonce: nonce.to_owned(), ldm, ..self.clone() };
        let json = serde_json::to_string(&info).expect("a struct of strings, numbers and booleans always serialises");
        format!("INFO {json} \r\n").into_bytes()
    }
}

/// Whether any user signs a nonce, so that INFO must carry one.
pub(super) fn wants_nonce(auth: &Auth) -> bool {
    matches!(auth, Auth::Users(users) if users.iter().any(|user| matches!(user.credential, Credential::Nkey(_))))
}

/// Whether a client that presents nothing is turned away.
fn requires_credentials(auth: &Auth) -> bool {
    match auth {
        Auth::None => false,
        Auth::Token(_) => true,
        Auth::Users(users) => !users.iter().any(|user| user.anonymous),
    }
}

/// What a client says of itself. An absent field keeps what was said before.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Connect {
    pub verbose: Option<bool>,
    pub pedantic: Option<bool>,
    pub echo: Option<bool>,
    pub headers: Option<bool>,
    pub no_responders: Option<bool>,
    pub protocol: Option<i64>,
    pub auth_token: Option<String>,
    pub user: Option<String>,
    pub pass: Option<String>,
    pub nkey: Option<String>,
    pub sig: Option<String>,
    pub name: Option<String>,
    pub lang: Option<String>,
    pub version: Option<String>,
}

/// The options of a connection. Before CONNECT the real server takes it for a person at a terminal:
/// verbose and pedantic.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientOptions {
    pub verbose: bool,
    pub pedantic: bool,
    pub echo: bool,
    pub headers: bool,
    pub no_responders: bool,
    pub protocol: i64,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { verbose: true, pedantic: true, echo: true, headers: false, no_responders: false, protocol: 0 }
    }
}

impl ClientOptions {
    pub(super) fn merge(&mut self, said: &Connect) {
        self.verbose = said.verbose.unwrap_or(self.verbose);
        self.pedantic = said.pedantic.unwrap_or(self.pedantic);
        self.echo = said.echo.unwrap_or(self.echo);
        self.headers = said.headers.unwrap_or(self.headers);
        self.no_responders = said.no_responders.unwrap_or(self.no_responders);
        self.protocol = said.protocol.unwrap_or(self.protocol);
    }
}
