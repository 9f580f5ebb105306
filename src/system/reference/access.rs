//! Who may connect to a launched reference broker: a password and certificates made for the trial.

use std::io;
use std::path::{Path, PathBuf};

use rand::RngExt;
use serde_json::{Map, Value, json};

use crate::plan::options::SystemOptions;
use crate::system::certificates::Authority;

/// The user that msgbench logs in as.
const USER: &str = "msgbench";

/// The options `auth` and `tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Access {
    password: bool,
    tls: bool,
    mutual: bool,
}

impl Access {
    /// What the options of a system say.
    ///
    /// # Errors
    /// The option that does not fit, and what is allowed.
    pub(super) fn of(options: &SystemOptions) -> Result<Self, String> {
        let word = |key: &str| match options.get(key) {
            None => Ok("none"),
            Some(Value::String(word)) => Ok(word.as_str()),
            Some(other) => Err(format!("option `{key}`: a word is expected, not {other}")),
        };
        let password = match word("auth")? {
            "none" => false,
            "password" => true,
            other => return Err(format!("option `auth`: it is \"none\" or \"password\", not {other:?}")),
        };
        let (tls, mutual) = match word("tls")? {
            "none" => (false, false),
            "server" => (true, false),
            "mutual" => (true, true),
            other => return Err(format!("option `tls`: it is \"none\", \"server\" or \"mutual\", not {other:?}")),
        };
        Ok(Self { password, tls, mutual })
    }

    /// Flags of the broker, and the options of its clients: of NATS, or of Kafka where messages are
    /// stored. Files go into `dir`.
    ///
    /// # Errors
    /// When a file cannot be written, or a key cannot be made.
    pub(super) fn make(self, dir: &Path, kafka: bool) -> io::Result<(Vec<String>, Map<String, Value>)> {
        let (mut flags, mut client) = (Vec::new(), Map::new());
        let mut put = |key: &str, value: Value| drop(client.insert(key.to_owned(), value));
        if self.password {
            let mut random = rand::rng();
            let password: String = (0..24).map(|_| char::from(random.sample(rand::distr::Alphanumeric))).collect();
            flags.extend(["--user", USER, "--pass", &password].map(str::to_owned));
            if kafka {
                put("sasl", json!({ "user": USER, "password": password }));
            } else {
                put("user", USER.into());
                put("password", password.into());
            }
        }
        if !self.tls {
            return Ok((flags, client));
        }
        let authority = Authority::new()?;
        let keep = |name: &str, pem: &str| -> io::Result<PathBuf> {
            let path = dir.join(name);
            std::fs::write(&path, pem).map(|()| path)
        };
        let ca = keep("ca.pem", authority.certificate())?;
        let (certificate, key) = authority.server(&["localhost", "127.0.0.1"])?;
        let (certificate, key) = (keep("server.pem", &certificate)?, keep("server.key", &key)?);
        let mut file = |flag: &str, path: &Path| flags.extend([flag.to_owned(), path.display().to_string()]);
        file("--tls-cert", &certificate);
        file("--tls-key", &key);
        let mut files = vec![("ca", ca.clone())];
        if self.mutual {
            file("--tls-ca", &ca);
            let (certificate, key) = authority.client(USER)?;
            let name = if kafka { "certificate" } else { "cert" };
            files.push((name, keep("client.pem", &certificate)?));
            files.push(("key", keep("client.key", &key)?));
        }
        let files: Map<String, Value> = files.into_iter().map(|(key, path)| (key.to_owned(), json!(path))).collect();
        if kafka {
            put("tls", files.into());
        } else {
            client.extend(files);
        }
        Ok((flags, client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: Value) -> Result<Access, String> {
        Access::of(options.as_object().unwrap())
    }

    #[test]
    fn flags_and_clients_belong_together() {
        let dir = tempfile::tempdir().unwrap();
        let (flags, client) = read(json!({})).unwrap().make(dir.path(), false).unwrap();
        assert!(flags.is_empty() && client.is_empty());
        let all = read(json!({ "auth": "password", "tls": "mutual" })).unwrap();
        let (flags, client) = all.make(dir.path(), false).unwrap();
        assert!(flags.contains(&client["password"].as_str().unwrap().to_owned()), "{flags:?}");
        assert!(["ca", "cert", "key"].iter().all(|key| Path::new(client[*key].as_str().unwrap()).is_file()));
        let (_, client) = all.make(dir.path(), true).unwrap();
        assert_eq!(client["sasl"]["user"], USER);
        assert!(client["tls"]["certificate"].is_string());
    }

    #[test]
    fn mistakes_are_named() {
        assert!(read(json!({ "auth": "token" })).unwrap_err().starts_with("option `auth`: it is"));
        assert!(read(json!({ "tls": true })).unwrap_err().starts_with("option `tls`: a word is expected"));
    }
}
