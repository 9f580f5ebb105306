//! A Kafka that somebody else runs: reached for, and left alone.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::super::{Running, System, SystemError};

/// The port of Kafka when an address names none.
const PORT: u16 = 9092;

/// See the module.
#[derive(Debug)]
pub struct External {
    name: String,
    url: String,
    timeout: Duration,
}

impl External {
    /// `name` as in the plan; `timeout` bounds the connection to each broker.
    pub fn new(name: &str, url: &str, timeout: Duration) -> Self {
        Self { name: name.to_owned(), url: url.to_owned(), timeout }
    }
}

/// The `host:port` of each broker in `[kafka://][user:password@]host[:port],...[?...]`.
fn brokers(url: &str) -> Vec<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '/']).next().unwrap_or_default();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, brokers)| brokers);
    let with_port = |b: &str| {
        if b.rsplit(']').next().is_some_and(|end| end.contains(':')) { b.to_owned() } else { format!("{b}:{PORT}") }
    };
    rest.split(',').map(str::trim).filter(|b| !b.is_empty()).map(with_port).collect()
}

impl System for External {
    fn start(&mut self) -> Result<Running, SystemError> {
        let brokers = brokers(&self.url);
        let mut refusals = Vec::new();
        for broker in &brokers {
            let addresses = match broker.to_socket_addrs() {
                Ok(addresses) => addresses,
                Err(e) => {
                    refusals.push(format!("{broker}: {e}"));
                    continue;
                }
            };
            for address in addresses {
                match TcpStream::connect_timeout(&address, self.timeout.max(Duration::from_millis(1))) {
                    // One broker that is there is enough: it names the others.
                    Ok(_) => return Ok(Running { url: self.url.clone(), ..Running::default() }),
                    Err(e) => refusals.push(format!("{broker}: {e}")),
                }
            }
        }
        let reason = if refusals.is_empty() { "the url names no broker".to_owned() } else { refusals.join("; ") };
        let remedy = "start it, or correct its url in the scenario (host:port,host:port)".to_owned();
        Err(SystemError::Unavailable { system: self.name.clone(), reason, remedy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_brokers() {
        assert_eq!(brokers("kafka://me:p@ss@a:1,b?tls=1"), ["a:1", "b:9092"]);
        assert_eq!(brokers("host"), ["host:9092"]);
        assert_eq!(brokers("[::1]:7"), ["[::1]:7"]);
        assert!(brokers("kafka://").is_empty());
    }

    #[test]
    fn one_broker_that_is_there_is_enough_and_none_is_said() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let gone = super::super::free_port().unwrap();
        let url = format!("kafka://127.0.0.1:{gone},{there}");
        assert_eq!(External::new("k", &url, Duration::from_secs(1)).start().unwrap().url, url);
        let url = format!("kafka://me:secret@127.0.0.1:{gone}");
        let told = External::new("k", &url, Duration::from_secs(1)).start().unwrap_err().to_string();
        assert!(told.contains("refused") && told.contains("correct its url") && !told.contains("secret"), "{told}");
        assert!(
            External::new("k", "kafka://", Duration::from_secs(1))
                .start()
                .unwrap_err()
                .to_string()
                .contains("no broker")
        );
    }
}
