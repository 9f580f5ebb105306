//! The address of a system that is already running: what may be written, and what each part means.
//!
//! `[scheme://][user:password@]host[:port][,host[:port]...]`. User and password may be
//! percent-encoded; a list may give each server its scheme. A scheme is a promise: one that is not
//! kept is refused, never ignored. No error quotes a part of the text, because any part may be a
//! password that was misplaced.

use std::net::Ipv6Addr;
use std::str::FromStr;

/// How the addresses of one protocol are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// Its schemes, the usual one first, and whether each promises TLS.
    pub schemes: &'static [(&'static str, bool)],
    /// By what it is reached, in words.
    pub reached: &'static str,
    /// Its port where an address names none.
    pub port: u16,
    /// What one of its servers is called.
    pub server: &'static str,
    /// What to write.
    pub expected: &'static str,
    /// What to write instead of schemes of others.
    pub instead: &'static [(&'static str, &'static str)],
    /// Whether a user may stand without a password: it is a token then.
    pub token: bool,
    /// Whether a password may stand without a user.
    pub nameless: bool,
    /// Whether each server of a list has its scheme.
    pub each: bool,
}

/// The protocol of NATS.
pub const NATS: Protocol = Protocol {
    schemes: &[("nats", false), ("tls", true)],
    reached: "nats://, or tls:// for TLS",
    port: 4222,
    server: "host",
    expected: "write nats://host:4222, or with credentials nats://user:password@host:4222 or nats://token@host:4222",
    instead: &[("https", "write tls://host:port, and the option `ca` where the certificate is your own")],
    token: true,
    nameless: false,
    each: true,
};

/// The protocol of Kafka.
pub const KAFKA: Protocol = Protocol {
    schemes: &[("kafka", false)],
    reached: "kafka://",
    port: 9092,
    server: "broker",
    expected: "write kafka://host:9092, with credentials kafka://user:password@host:9092",
    instead: &[
        ("https", "write tls://host:port, and the option `ca` where the certificate is your own"),
        ("ssl", "write kafka://host:port, and the option `tls = { ca = \"file\" }`"),
        (
            "sasl_ssl",
            "write kafka://host:port, and the options `tls = { ca = \"file\" }` and `sasl = { user = ..., password = ... }`",
        ),
        ("sasl_plaintext", "write kafka://host:port, and the option `sasl = { user = ..., password = ... }`"),
    ],
    token: false,
    nameless: false,
    each: false,
};

/// The servers of one system, and who connects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// At least one, in the order written.
    pub servers: Vec<Server>,
    /// The user, or a token that stands alone; decoded.
    pub user: Option<String>,
    /// The password, decoded.
    pub password: Option<String>,
    /// The secrets as written.
    raw: Vec<String>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Whether its scheme demands TLS.
    pub tls: bool,
    /// Name or address; without brackets.
    pub host: String,
    /// Its port, or the usual one.
    pub port: u16,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// What is wrong with an address, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}; {remedy}")]
pub struct AddressError {
    /// What is wrong.
    pub words: String,
    /// What to write.
    pub remedy: String,
}

fn wrong<T>(words: impl Into<String>, remedy: impl Into<String>) -> Result<T, AddressError> {
    Err(AddressError { words: words.into(), remedy: remedy.into() })
}

impl Address {
    /// Reads the address of one system that speaks this protocol.
    ///
    /// # Errors
    /// What does not fit, and what to write.
    pub fn read(protocol: &Protocol, text: &str) -> Result<Self, AddressError> {
        let mut out = Self::default();
        for (scheme, rest) in chunks(text.trim()) {
            let tls = promise(protocol, scheme)?;
            let (who, hosts) = rest.rsplit_once('@').map_or((None, rest), |(who, hosts)| (Some(who), hosts));
            if let Some(who) = who {
                out.credentials(protocol, who)?;
            }
            let before = out.servers.len();
            for host in hosts.split(',').map(str::trim).filter(|h| !h.is_empty()) {
                out.servers.push(server(protocol, host, tls)?);
            }
            if out.servers.len() == before {
                return wrong(format!("the url names no {}", protocol.server), protocol.expected);
            }
        }
        Ok(out)
    }

    /// The servers without credentials: what may be printed and kept.
    pub fn bare(&self, protocol: &Protocol) -> String {
        let scheme = |tls: bool| protocol.schemes.iter().find(|(_, of)| *of == tls).unwrap_or(&protocol.schemes[0]).0;
        if !protocol.each {
            return format!("{}://{}", scheme(false), self.brokers());
        }
        let one = |s: &Server| format!("{}://{s}", scheme(s.tls));
        self.servers.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// `host:port,host:port`.
    pub fn brokers(&self) -> String {
        self.servers.iter().map(Server::to_string).collect::<Vec<_>>().join(",")
    }

    /// What must not be shown: the password or the token, as written and decoded.
    pub fn secrets(&self) -> Vec<String> {
        let decoded = self.password.iter().chain(self.user.iter().filter(|_| self.password.is_none()));
        self.raw.iter().chain(decoded).filter(|s| !s.is_empty()).cloned().collect()
    }

    fn credentials(&mut self, protocol: &Protocol, who: &str) -> Result<(), AddressError> {
        let encode = "write `,` as %2C, `@` as %40, `:` as %3A and `%` as %25 in user and password";
        // `u:p,w@h` is a password with a comma; `h:1,u:p@h` and `u:p@h,u:p@h` may be two servers.
        if let Some((first, _)) = who.split_once(',')
            && (who.contains('@') || first.split_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok()))
        {
            return wrong(
                "the comma before `@` may part two servers or belong to the credentials",
                format!("{encode}, or give every server its scheme"),
            );
        }
        let (user, password) = who.split_once(':').map_or((who, None), |(u, p)| (u, Some(p)));
        let nameless = user.is_empty() && protocol.nameless && password.is_some_and(|p| !p.is_empty());
        if user.is_empty() && !nameless {
            return wrong("no user stands before `@`", protocol.expected);
        }
        if !protocol.token && password.is_none() {
            return wrong("the url has a user and no password", protocol.expected);
        }
        let decoded = |text: &str| {
            decode(text).ok_or_else(|| AddressError {
                words: "a `%` in the credentials begins no character".into(),
                remedy: encode.into(),
            })
        };
        let user_text = Some(user).filter(|_| !nameless).map(decoded).transpose()?;
        let password_text = password.map(decoded).transpose()?;
        if !self.raw.is_empty() && (self.user != user_text || self.password != password_text) {
            return wrong("the servers have different credentials", "one system has one user: write it once");
        }
        self.raw.push(password.unwrap_or(user).to_owned());
        (self.user, self.password) = (user_text, password_text);
        Ok(())
    }
}

/// The parts of a list that begin with a scheme; all of it where there is none.
fn chunks(text: &str) -> Vec<(Option<&str>, &str)> {
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    let mut starts = vec![0];
    for (at, _) in text.match_indices("://") {
        let start = at - text[..at].chars().rev().take_while(|c| of_scheme(*c)).count();
        if start < at && text[..start].trim_end().ends_with(',') {
            starts.push(start);
        }
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]).collect::<Vec<_>>();
    let chunk = |(start, end): (usize, usize)| {
        let chunk = &text[start..end];
        match chunk.split_once("://") {
            Some((scheme, rest)) if scheme.chars().all(of_scheme) => (Some(scheme), rest),
            _ => (None, chunk),
        }
    };
    starts.into_iter().zip(ends).map(chunk).collect()
}

/// Whether TLS is promised by a scheme.
fn promise(protocol: &Protocol, scheme: Option<&str>) -> Result<bool, AddressError> {
    let Some(scheme) = scheme else { return Ok(false) };
    let lower = scheme.to_ascii_lowercase();
    if let Some((_, tls)) = protocol.schemes.iter().find(|(name, _)| *name == lower) {
        return Ok(*tls);
    }
    let instead = protocol.instead.iter().find(|(name, _)| *name == lower);
    wrong(
        format!("it is reached by {}, not by {scheme}://", protocol.reached),
        instead.map_or(protocol.expected, |(_, remedy)| remedy),
    )
}

fn server(protocol: &Protocol, text: &str, tls: bool) -> Result<Server, AddressError> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains(['/', '?', '#']) {
        return wrong(
            "the url has a path, a query or a fragment, which mean nothing here",
            "write settings in `options`",
        );
    }
    if text.contains(char::is_whitespace) {
        return wrong("the url has a blank within a host", "separate servers by commas");
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((host, after)) = rest.split_once(']') else {
                return wrong("the address lacks its closing bracket", "write [::1]:port");
            };
            if Ipv6Addr::from_str(host.split('%').next().unwrap_or_default()).is_err() {
                return wrong("no IPv6 address stands between the brackets", "write [::1]:port");
            }
            match after.strip_prefix(':') {
                None if !after.is_empty() => return wrong("something follows the bracket", "write [::1]:port"),
                port => (host, port),
            }
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if port.is_some_and(|p| p.contains(':')) {
        return wrong("the url has more than one colon in a host", "put an IPv6 address in brackets: [::1]:port");
    }
    if host.is_empty() {
        return wrong(format!("the url names no {}", protocol.server), protocol.expected);
    }
    let usual = protocol.port;
    match port.map_or(Ok(usual), str::parse::<u16>) {
        Ok(port) if port > 0 => Ok(Server { tls, host: host.to_owned(), port }),
        _ => wrong("what follows the colon of a host is not a port from 1 to 65535", protocol.expected),
    }
}

/// Percent-decoding; `None` where a `%` is followed by no two hexadecimal digits, or the bytes are
/// no UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let digit = |i: usize| after.get(i).and_then(|b| (*b as char).to_digit(16));
        bytes.push((digit(0)? * 16 + digit(1)?) as u8);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(text: &str) -> String {
        text.bytes()
            .map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") })
            .collect()
    }

    proptest! {
        /// Whatever user and password are, they come back, encoded, and no character of them
        /// becomes another part.
        #[test]
        fn what_is_encoded_is_read_back(user in "\\PC{1,12}", password in "\\PC{0,12}", port in 1u16.., six in any::<bool>()) {
            let host = if six { "[fe80::1]" } else { "host.example" };
            for (kind, scheme) in [(NATS, "nats"), (NATS, "tls"), (KAFKA, "KAFKA")] {
                let text = format!("{scheme}://{}:{}@{host}:{port},other", encode(&user), encode(&password));
                let a = Address::read(&kind, &text).unwrap();
                prop_assert_eq!((a.user.as_deref(), a.password.as_deref()), (Some(user.as_str()), Some(password.as_str())));
                prop_assert_eq!(a.servers.len(), 2);
                prop_assert_eq!(a.servers[0].to_string(), format!("{host}:{port}"));
                prop_assert_eq!(a.servers[0].tls, scheme == "tls");
                prop_assert!(Address::read(&kind, &a.bare(&kind)).unwrap().servers == a.servers);
            }
        }

        /// A raw password that holds any punctuation is read as itself or refused; it is never
        /// another host, and never quoted.
        #[test]
        fn a_raw_password_is_itself_or_refused(password in "[a-z,:@/?#%.]{1,10}") {
            for kind in [NATS, KAFKA] {
                let scheme = if kind == KAFKA { "kafka" } else { "nats" };
                if let Ok(a) = Address::read(&kind, &format!("{scheme}://me:{password}@h:1")) {
                    prop_assert_eq!(a.servers.len(), 1);
                    prop_assert_eq!(a.servers[0].to_string(), "h:1");
                    prop_assert!(a.password == decode(&password));
                }
            }
        }

        /// No text makes it panic, and no error quotes what stands in it.
        #[test]
        fn errors_quote_nothing(before in "[^/]{0,20}", after in "[^/]{0,20}", secret in "[A-Z]{12}") {
            for kind in [NATS, KAFKA] {
                for scheme in ["", "nats://", "kafka://", "ssl://"] {
                    if let Err(e) = Address::read(&kind, &format!("{scheme}{before}{secret}{after}")) {
                        prop_assert!(!e.to_string().contains(&secret), "{}", e);
                    }
                }
            }
        }
    }

    #[test]
    fn schemes_are_kept_or_refused_with_what_is_supported() {
        let accepted = [(NATS, "nats", false), (NATS, "tls", true), (NATS, "TLS", true), (KAFKA, "kafka", false)];
        for (kind, scheme, tls) in accepted {
            assert_eq!(Address::read(&kind, &format!("{scheme}://h")).unwrap().servers[0].tls, tls);
        }
        for scheme in
            ["SSL", "SASL_SSL", "SASL_PLAINTEXT", "PLAINTEXT", "ws", "wss", "http", "https", "amqp", "tls", "nats"]
        {
            let told = Address::read(&KAFKA, &format!("{scheme}://h:1")).unwrap_err().to_string();
            assert!(told.contains("kafka://") && told.contains(&format!("not by {scheme}://")), "{told}");
        }
        for scheme in ["SSL", "ws", "wss", "http", "https", "kafka", "mqtt"] {
            let told = Address::read(&NATS, &format!("nats://h:1, {scheme}://h:2")).unwrap_err().to_string();
            assert!(told.contains("nats://") && told.contains(&format!("not by {scheme}://")), "{told}");
        }
        assert!(Address::read(&NATS, "tls://h").unwrap().servers[0].tls);
        assert!(Address::read(&KAFKA, "SASL_SSL://h").unwrap_err().to_string().contains("`sasl = {"));
    }

    #[test]
    fn lists_ports_and_mistakes() {
        let read = |text| Address::read(&NATS, text);
        let bare = |text| read(text).unwrap().bare(&NATS);
        assert_eq!(bare("nats://me:pw@h:1, tls://h:2"), "nats://h:1,tls://h:2");
        assert_eq!(bare("h, [::1]:7/"), "nats://h:4222,nats://[::1]:7");
        assert_eq!(read("nats://u:p,w@h").unwrap().password.as_deref(), Some("p,w"));
        assert_eq!(Address::read(&KAFKA, "kafka://me:p@ss@a:1,b").unwrap().bare(&KAFKA), "kafka://a:1,b:9092");
        for (text, words) in [
            ("nats://", "names no host"),
            ("nats://h:port", "not a port"),
            ("nats://h:0", "not a port"),
            ("nats://[::1:4", "closing bracket"),
            ("::1", "in brackets"),
            ("nats://u:p@h?tls=1", "path, a query"),
            ("nats://h:1,u:p@h:2", "may part two servers"),
            ("nats://u:p@h,u:p@h", "may part two servers"),
            ("nats://u:p@h,nats://v:p@h", "different credentials"),
            ("nats://u:p%w@h", "%25"),
            ("nats://@h", "no user"),
        ] {
            let told = read(text).unwrap_err().to_string();
            assert!(told.contains(words), "{text}: {told}");
        }
        assert!(Address::read(&KAFKA, "kafka://u@h").unwrap_err().to_string().contains("no password"));
        let nameless = Protocol { nameless: true, token: false, ..NATS };
        let address = Address::read(&nameless, "nats://:p%40ss@h").unwrap();
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (None, Some("p@ss")));
        assert_eq!(
            (address.secrets(), address.bare(&nameless)),
            (vec!["p%40ss".into(), "p@ss".into()], "nats://h:4222".into())
        );
        for (text, words) in
            [("nats://:@h", "no user"), ("nats://@h", "no user"), ("nats://:a@h,nats://:b@h", "different")]
        {
            let told = Address::read(&nameless, text).unwrap_err().to_string();
            assert!(told.contains(words), "{text}: {told}");
        }
        assert!(read("nats://:pw@h").unwrap_err().to_string().contains("no user"));
    }
}
