//! What a scenario may ask of the client, for every driver that speaks the NATS protocol.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::driver::Target;
use crate::plan::address::NATS;
use crate::plan::options::{SystemOptions, home, read};
use crate::plan::{Address, Workload};

/// Headers of one message; more say nothing new about their cost.
const MAX_HEADERS: u32 = 64;

/// The options of a connection, all under these names in `system.options`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ConnectionOptions {
    /// Which client speaks: `async-nats`, or `wire`, the bare protocol, for core messaging without
    /// TLS, NKeys or headers.
    pub client: ClientLibrary,
    /// With `password`: who connects.
    #[schemars(extend("secret" = "none"))]
    pub user: Option<String>,
    #[schemars(extend("secret" = "value"))]
    pub password: Option<String>,
    /// The server's one token.
    #[schemars(extend("secret" = "value"))]
    pub token: Option<String>,
    /// File with the seed of an NKey.
    #[schemars(extend("secret" = "file"))]
    pub nkey: Option<String>,
    /// A `.creds` file: a user's JWT and seed.
    #[schemars(extend("secret" = "file"))]
    pub creds: Option<String>,
    /// File with the certificates that the server's must be signed by; its presence demands TLS.
    #[schemars(extend("secret" = "file"))]
    pub ca: Option<String>,
    /// With `key`: file with the certificate that the client shows (mutual TLS).
    #[schemars(extend("secret" = "file"))]
    pub cert: Option<String>,
    #[schemars(extend("secret" = "file"))]
    pub key: Option<String>,
    /// Headers that every message carries. Default: 0.
    pub headers: u32,
    /// Messages that the client keeps for one subscription before it drops them. Default: 1048576.
    pub subscription_capacity: Option<usize>,
    /// Monitoring port of a server that is already running, `http://host:8222`: its settings are
    /// read back from there.
    #[schemars(extend("secret" = "text"))]
    pub monitor: Option<String>,
}

/// Who speaks to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientLibrary {
    /// The client library that applications use.
    #[default]
    AsyncNats,
    /// The protocol by hand: what the client library costs is the difference.
    Wire,
}

/// What is said where TLS is promised by the address and not done.
const WIRE_TLS: &str =
    "`client = \"wire\"` speaks no TLS: write nats:// instead of tls://, or use `client = \"async-nats\"`";

/// Whether `text` is `[http://]host:port`.
fn plain_http(text: &str) -> bool {
    let bare = text.strip_prefix("http://").unwrap_or(text);
    !bare.contains("://") && !bare.contains(['@', ',']) && Address::read(&NATS, bare).is_ok()
}

impl ConnectionOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// As [`from_options`](Self::from_options).
    pub fn check(options: &SystemOptions) -> Result<(), String> {
        Self::from_options(options).map(drop)
    }

    /// Whether what the workloads ask for can be had with these options.
    ///
    /// # Errors
    /// The option that stands against it.
    pub fn suit(options: &SystemOptions, workloads: &[Workload]) -> Result<(), String> {
        let client = Self::from_options(options)?.client;
        match workloads.iter().find(|w| w.target.is_some() && client == ClientLibrary::Wire) {
            Some(w) => Err(format!("option `client`: wire drives no service, which {} asks for; remove it", w.name)),
            None => Ok(()),
        }
    }

    /// Reads and checks the options of the client. Those of the server are left alone.
    ///
    /// # Errors
    /// The option that does not fit, and what is allowed.
    pub fn from_options(options: &SystemOptions) -> Result<Self, String> {
        let mut it: Self = read(options)?;
        for file in [&mut it.nkey, &mut it.creds, &mut it.ca, &mut it.cert, &mut it.key].into_iter().flatten() {
            *file = home(file);
        }
        if it.monitor.as_deref().is_some_and(|m| !plain_http(m)) {
            return Err("option `monitor`: write http://host:port; there is no TLS and no user for it".to_owned());
        }
        for (one, other, has, lacks) in
            [("user", "password", &it.user, &it.password), ("cert", "key", &it.cert, &it.key)]
        {
            if has.is_some() != lacks.is_some() {
                let (present, absent) = if has.is_some() { (one, other) } else { (other, one) };
                return Err(format!("option `{present}`: it needs `{absent}` beside it"));
            }
        }
        if it.headers > MAX_HEADERS {
            return Err(format!("option `headers`: {} is not between 0 and {MAX_HEADERS}", it.headers));
        }
        let ways: Vec<&str> = it.ways().collect();
        if let [first, second, ..] = ways[..] {
            return Err(format!("option `{second}`: it and `{first}` exclude each other"));
        }
        let beyond = [
            ("nkey", it.nkey.is_some()),
            ("creds", it.creds.is_some()),
            ("ca", it.ca.is_some()),
            ("cert", it.cert.is_some()),
            ("headers", it.headers > 0),
        ];
        if let (ClientLibrary::Wire, Some((option, _))) = (it.client, beyond.iter().find(|(_, present)| *present)) {
            return Err(format!("option `{option}`: `client = \"wire\"` does not have it; use `async-nats`"));
        }
        if it.subscription_capacity == Some(0) {
            return Err("option `subscription-capacity`: must be at least 1".to_owned());
        }
        Ok(it)
    }

    /// The options of the client, with the credentials of the first address that has some
    /// (`nats://user:password@host`, `nats://token@host`) where the options name none.
    ///
    /// # Errors
    /// As [`from_options`](Self::from_options).
    pub fn of(target: &Target) -> Result<Self, String> {
        let mut it = Self::from_options(&target.options)?;
        let address = Address::read(&NATS, &target.url).map_err(|e| e.to_string())?;
        if it.client == ClientLibrary::Wire && address.servers.iter().any(|s| s.tls) {
            return Err(WIRE_TLS.to_owned());
        }
        if it.ways().next().is_none() {
            match (address.user, address.password) {
                (user, Some(password)) => (it.user, it.password) = (user, Some(password)),
                (token, None) => it.token = token,
            }
        }
        Ok(it)
    }

    fn ways(&self) -> impl Iterator<Item = &'static str> + use<> {
        let ways = [("user", &self.user), ("token", &self.token), ("nkey", &self.nkey), ("creds", &self.creds)];
        ways.map(|(name, value)| value.is_some().then_some(name)).into_iter().flatten()
    }

    /// How the client proves who it is.
    pub fn authentication(&self) -> &'static str {
        match self.ways().next() {
            None => "none",
            Some("user") => "user and password",
            Some(other) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<ConnectionOptions, String> {
        ConnectionOptions::from_options(value.as_object().unwrap())
    }

    #[test]
    fn mistakes_name_the_option_and_what_is_allowed() {
        for (value, words) in [
            (json!({ "password": "x" }), "option `password`: it needs `user` beside it"),
            (json!({ "cert": "x" }), "option `cert`: it needs `key` beside it"),
            (json!({ "token": "x", "creds": "y" }), "option `creds`: it and `token` exclude each other"),
            (json!({ "headers": 65 }), "option `headers`: 65 is not between 0 and 64"),
            (json!({ "headers": "two" }), "option `headers`: invalid type: string \"two\", expected u32"),
            (json!({ "subscription-capacity": 0 }), "option `subscription-capacity`: must be at least 1"),
        ] {
            assert_eq!(read(value).unwrap_err(), words);
        }
    }

    #[test]
    fn options_of_the_server_are_left_alone() {
        let it = read(json!({ "nodes": 3, "user": "me", "password": "x" })).unwrap();
        assert_eq!(it.authentication(), "user and password");
        assert_eq!(read(json!({})).unwrap().authentication(), "none");
    }
}
