//! A Kafka that somebody else runs: reached for, and left alone.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::super::{Running, System, SystemError};
use crate::scenario::plan::{Address, DriverKind};

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

impl System for External {
    fn start(&mut self) -> Result<Running, SystemError> {
        let remedy = "start it, or correct its url in the scenario (host:port,host:port)".to_owned();
        let unavailable =
            |reason: String| SystemError::Unavailable { system: self.name.clone(), reason, remedy: remedy.clone() };
        let address = Address::read(DriverKind::Kafka, &self.url).map_err(|e| unavailable(e.to_string()))?;
        let mut refusals = Vec::new();
        for broker in &address.servers {
            let addresses = match (broker.host.as_str(), broker.port).to_socket_addrs() {
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
        Err(unavailable(refusals.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broker_that_is_there_is_enough_and_none_is_said() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let gone = crate::system::process::Held::new(1).unwrap().ports().unwrap()[0];
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
